//! Secrets whose content does not look like what their type says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Warnings;
use crate::tree;

/// A `kubernetes.io/tls` secret without a certificate or key in PEM form, as Go's `tls.X509KeyPair`
/// words it. Whether the key fits the certificate is not looked at.
pub(crate) fn secret(secret: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    if tree::text(secret, "type") != "kubernetes.io/tls" {
        return;
    }
    let data = tree::get(secret, "data");
    let certificate = blocks(tree::text(data, "tls.crt"));
    if !certificate.iter().any(|label| label == "CERTIFICATE") {
        warnings.push(match certificate.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if one.ends_with("PRIVATE KEY") => {
                "tls: failed to find certificate PEM data in certificate input, but did find a \
                 private key; PEM inputs may have been switched"
                    .to_owned()
            }
            skipped => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping \
                 PEM blocks of the following types: [{}]",
                skipped.join(" ")
            ),
        });
        return;
    }
    let key = blocks(tree::text(data, "tls.key"));
    if !key.iter().any(|label| label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY")) {
        warnings.push(match key.as_slice() {
            [] => "tls: failed to find any PEM data in key input".to_owned(),
            [one] if one == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key"
                    .to_owned()
            }
            skipped => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input \
                 after skipping PEM blocks of the following types: [{}]",
                skipped.join(" ")
            ),
        });
    }
}

/// The labels of the PEM blocks in a base64 value.
fn blocks(encoded: &str) -> Vec<String> {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let labels = text.lines().filter_map(|line| {
        let label = line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        text.contains(&format!("-----END {label}-----")).then(|| label.to_owned())
    });
    labels.collect()
}
