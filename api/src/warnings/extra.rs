//! Kinds that are kept, and that nobody in this cluster acts on yet: told to whoever writes them.

use serde_json::Value;

use super::Warnings;

/// Requests in flight are limited, without levels.
pub(crate) fn flow(_: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    warnings.push(
        "flow schemas and priority levels are kept, but not followed by this server yet".to_owned(),
    );
}

/// Nothing is migrated.
pub(crate) fn migration(_: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    warnings.push(
        "storage version migrations are not carried out by this server: every built-in kind is \
         kept in one version"
            .to_owned(),
    );
}

/// Devices are not allocated.
pub(crate) fn devices(_: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    warnings.push(
        "devices are not allocated by this cluster yet: pods that use resource claims stay pending"
            .to_owned(),
    );
}
