//! Defaults of the kinds in `resource.k8s.io/v1`.

use serde_json::Value;

use crate::tree;

/// Of a claim: how each of its requests is counted.
pub(crate) fn claim(object: &mut Value) {
    if let Some(spec) = tree::existing_mut(object, "spec") {
        spec_of_claim(spec);
    }
}

/// Of the claims that a template makes.
pub(crate) fn template(object: &mut Value) {
    if let Some(spec) = tree::existing_mut(object, "spec") {
        claim(spec);
    }
}

/// `SetDefaults_ExactDeviceRequest` and `SetDefaults_DeviceSubRequest`.
fn spec_of_claim(spec: &mut Value) {
    let Some(devices) = tree::existing_mut(spec, "devices") else { return };
    for request in tree::items_mut(devices, "requests") {
        if let Some(exactly) = tree::existing_mut(request, "exactly") {
            counted(exactly);
        }
        for one in tree::items_mut(request, "firstAvailable") {
            counted(one);
        }
    }
}

fn counted(request: &mut Value) {
    tree::default_text(request, "allocationMode", "ExactCount");
    if tree::text(request, "allocationMode") == "ExactCount" {
        tree::default_int(request, "count", 1);
    }
}
