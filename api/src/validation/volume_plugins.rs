//! Sources of volumes that a storage system is behind: what each needs.

use serde_json::Value;

use super::{Errors, invalid_each, label, names, one_of_if_set, required};
use crate::field::{Error, Path};
use crate::tree;

const CSI_DRIVER_MAX: usize = 63;
const TENANT_MAX: usize = 64;
const MALFORMED: &str = "must be valid format";
const MANAGED_DISK: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/\
    microsoft.compute/disks/{disk-id}";
const BLOB_DISK: &str =
    "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";

/// Checks a source of the kind `name`; those without rules of their own are fine.
pub(super) fn details(name: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    match name {
        "iscsi" => iscsi(source, path, errors),
        "flexVolume" => flex(source, path, errors),
        "azureDisk" => azure_disk(source, path, errors),
        "quobyte" => quobyte(source, path, errors),
        "storageos" => {
            let volume = tree::text(source, "volumeName");
            let space = tree::text(source, "volumeNamespace");
            for (field, text) in [("volumeName", volume), ("volumeNamespace", space)] {
                if !text.is_empty() {
                    label(text, &path.child(field), errors);
                }
            }
            secret_name(source, "secretRef", path, errors);
        }
        "iscsi-of-a-volume" => iscsi_of_a_volume(source, path, errors),
        "cinder" => secret_name(source, "secretRef", path, errors),
        "csi" => csi(source, path, errors),
        _ => {}
    }
}

/// A reference to a secret, if there is one, names it.
fn secret_name(source: &Value, field: &str, path: &Path<'_>, errors: &mut Errors) {
    let reference = tree::get(source, field);
    if !reference.is_null() {
        required(reference, "name", &path.child(field), errors);
    }
}

fn iscsi(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    iscsi_with(source, "must be valid format starting with iqn, eui, or naa", path, errors);
}

/// Persistent volumes have shorter words, and name their secret.
fn iscsi_of_a_volume(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    iscsi_with(source, MALFORMED, path, errors);
    secret_name(source, "secretRef", path, errors);
}

fn iscsi_with(source: &Value, unknown: &str, path: &Path<'_>, errors: &mut Errors) {
    let target = tree::text(source, "iqn");
    if !target.is_empty() {
        initiator(target, unknown, &path.child("iqn"), errors);
    }
    let lun = tree::int(source, "lun");
    if !(0..=255).contains(&lun) {
        errors.push(Error::invalid(&path.child("lun"), lun, names::range(0, 255)));
    }
    let secured = ["chapAuthDiscovery", "chapAuthSession"];
    if secured.iter().any(|field| tree::flag(source, field)) && !tree::has(source, "secretRef") {
        errors.push(Error::required(&path.child("secretRef"), ""));
    }
    if let Some(name) = tree::text_opt(source, "initiatorName") {
        initiator(name, unknown, &path.child("initiatorname"), errors);
    }
}

/// A qualified name of iSCSI: `iqn.2026-01.example:x`, `eui.` and 16, `naa.` and 32 characters.
fn initiator(name: &str, unknown: &str, path: &Path<'_>, errors: &mut Errors) {
    let fixed = |rest: &str, length: usize| {
        rest.len() == length && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let valid = match name.split_at_checked(3) {
        Some(("iqn", rest)) => is_iqn(rest),
        Some(("eui", rest)) => rest.get(1..).is_some_and(|rest| fixed(rest, 16)),
        Some(("naa", rest)) => rest.get(1..).is_some_and(|rest| fixed(rest, 32)),
        _ => {
            errors.push(Error::invalid(path, name, unknown));
            return;
        }
    };
    if !valid {
        errors.push(Error::invalid(path, name, MALFORMED));
    }
}

/// `.YYYY-MM.naming-authority:unique-name`.
fn is_iqn(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix('.') else { return false };
    let Some((date, rest)) = rest.split_once('.') else { return false };
    let digits =
        |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let dated = date.split_once('-').is_some_and(|(y, m)| digits(y, 4) && digits(m, 2));
    let named = rest.split_once(':').is_some_and(|(authority, name)| {
        !authority.is_empty()
            && authority.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
            && !name.is_empty()
            && !name.contains(|c: char| ",;*&$|".contains(c) || c.is_whitespace())
    });
    dated && named
}

fn flex(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let options = path.child("options");
    for (key, _) in tree::entries(source, "options") {
        let space = key.split_once('/').map_or(key.as_str(), |(space, _)| space);
        let space = format!(".{}", space.to_lowercase());
        if space.ends_with(".kubernetes.io") || space.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&options.key(key), key.as_str(), detail));
        }
    }
}

fn azure_disk(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    one_of_if_set(source, "cachingMode", &["None", "ReadOnly", "ReadWrite"], path, errors);
    one_of_if_set(source, "kind", &["Dedicated", "Managed", "Shared"], path, errors);
    let Some(kind) = tree::text_opt(source, "kind") else { return };
    let address = tree::text(source, "diskURI");
    let (begins, form) = match kind {
        "Managed" => ("/subscriptions/", MANAGED_DISK),
        _ => ("https://", BLOB_DISK),
    };
    if !address.starts_with(begins) {
        errors.push(Error::not_supported(&path.child("diskURI"), address, &[form]));
    }
}

fn quobyte(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    let registry = tree::text(source, "registry");
    if registry.is_empty() {
        errors.push(Error::required(&path.child("registry"), pairs));
    } else if tree::text(source, "tenant").len() > TENANT_MAX {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&path.child("tenant"), detail));
    } else {
        for _ in registry.split(',').filter(|pair| !pair.contains(':')) {
            errors.push(Error::invalid(&path.child("registry"), registry, pairs));
        }
    }
    required(source, "volume", path, errors);
}

/// The name of a CSI driver; it has to be there.
pub(super) fn csi_driver(driver: &str, path: &Path<'_>, errors: &mut Errors) {
    if driver.is_empty() {
        errors.push(Error::required(path, ""));
    }
    csi_name(driver, path, errors);
}

fn csi_name(driver: &str, path: &Path<'_>, errors: &mut Errors) {
    if driver.len() > CSI_DRIVER_MAX {
        errors.push(Error::too_long(path, CSI_DRIVER_MAX));
    }
    invalid_each(path, driver, names::dns1123_subdomain(&driver.to_lowercase()), errors);
}

fn csi(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    csi_name(tree::text(source, "driver"), &path.child("driver"), errors);
    let reference = tree::get(source, "nodePublishSecretRef");
    if !reference.is_null()
        && required(reference, "name", &path.child("nodePublishSecretRef"), errors)
    {
        let name = tree::text(reference, "name");
        invalid_each(&path.child("name"), name, names::dns1123_subdomain(name), errors);
    }
}
