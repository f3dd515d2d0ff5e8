//! Defaults of `EndpointSlice`.

use serde_json::Value;

use crate::tree;

/// `SetDefaults_EndpointPort` for each port.
pub(crate) fn endpoint_slice(object: &mut Value) {
    for port in tree::items_mut(object, "ports") {
        tree::default(port, "name", "");
        tree::default(port, "protocol", "TCP");
    }
}
