//! Attachments of volumes to nodes.

use serde_json::Value;

use super::meta::{self, Scope};
use super::volume_plugins::csi_driver;
use super::{Errors, immutable, names, persistent_volume, subdomain};
use crate::field::{Error, Path};
use crate::tree;

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");

/// Checks a new attachment.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    whole(object, errors);
    let spec = tree::get(object, "spec");
    csi_driver(tree::text(spec, "attacher"), &SPEC.child("attacher"), errors);
    if let Some(volume) = tree::text_opt(tree::get(spec, "source"), "persistentVolumeName") {
        subdomain(volume, &SPEC.child("source.persistentVolumeName"), errors);
    }
}

fn whole(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    if tree::text(spec, "attacher").is_empty() {
        errors.push(Error::required(&SPEC.child("attacher"), ""));
    }
    let source = tree::get(spec, "source");
    let path = SPEC.child("source");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let inline = tree::has(source, "inlineVolumeSpec");
    match (inline, tree::text_opt(source, "persistentVolumeName")) {
        (false, None) => errors.push(Error::required(&path, one)),
        (true, Some(_)) => errors.push(Error::forbidden(&path, one)),
        (false, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(Error::required(&path.child("persistentVolumeName"), detail));
        }
        (true, None) => {
            let inline = tree::get(source, "inlineVolumeSpec");
            persistent_volume::inline(inline, &path.child("inlineVolumeSpec"), errors);
        }
        (false, Some(_)) => {}
    }
    subdomain(tree::text(spec, "nodeName"), &SPEC.child("nodeName"), errors);
    status(tree::get(object, "status"), errors);
}

fn status(status: &Value, errors: &mut Errors) {
    let entries = tree::entries(status, "attachmentMetadata");
    let size: usize =
        entries.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if size > METADATA_BYTES_MAX {
        errors.push(Error::too_long(&STATUS.child("attachmentMetadata"), METADATA_BYTES_MAX));
    }
    for name in ["attachError", "detachError"] {
        let error = tree::get(status, name);
        let path = STATUS.child(name);
        if tree::text(error, "message").len() > MESSAGE_BYTES_MAX {
            // Upstream names the other limit.
            errors.push(Error::too_long(&path.child("message"), METADATA_BYTES_MAX));
        }
        let code = tree::int(error, "errorCode");
        if code < 0 {
            let detail = names::range(0, i64::from(i32::MAX));
            errors.push(Error::invalid(&path.child("errorCode"), code, detail));
        }
    }
}

/// Checks a changed attachment, or a write to its status: what is attached to what stays.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    whole(new, errors);
    immutable(new, old, "spec", &Path::new(""), errors);
}
