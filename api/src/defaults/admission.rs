//! Defaults of the kinds in `admissionregistration.k8s.io/v1`.

use serde_json::{Value, json};

use crate::tree;

const TIMEOUT_SECONDS: i64 = 10;
const SERVICE_PORT: i64 = 443;

/// `SetDefaults_ValidatingWebhook` and `SetDefaults_MutatingWebhook`.
pub(crate) fn validating_webhooks(object: &mut Value) {
    for hook in tree::items_mut(object, "webhooks") {
        tree::default(hook, "failurePolicy", "Fail");
        matched(hook);
        tree::default(hook, "timeoutSeconds", TIMEOUT_SECONDS);
        rules(hook, "rules");
        if let Some(client) = tree::existing_mut(hook, "clientConfig")
            && let Some(service) = tree::existing_mut(client, "service")
        {
            tree::default(service, "port", SERVICE_PORT);
        }
    }
}

/// As [`validating_webhooks`]; a changed object is not shown to the same webhook again.
pub(crate) fn mutating_webhooks(object: &mut Value) {
    validating_webhooks(object);
    for hook in tree::items_mut(object, "webhooks") {
        tree::default(hook, "reinvocationPolicy", "Never");
    }
}

fn matched(holder: &mut Value) {
    tree::default(holder, "matchPolicy", "Equivalent");
    for name in ["namespaceSelector", "objectSelector"] {
        tree::default(holder, name, json!({}));
    }
}

fn rules(holder: &mut Value, list: &str) {
    for rule in tree::items_mut(holder, list) {
        tree::default(rule, "scope", "*");
    }
}

/// `SetDefaults_MatchResources`.
fn match_resources(holder: &mut Value, name: &str) {
    if let Some(resources) = tree::existing_mut(holder, name) {
        matched(resources);
        rules(resources, "resourceRules");
        rules(resources, "excludeResourceRules");
    }
}

/// `SetDefaults_ValidatingAdmissionPolicySpec`.
pub(crate) fn validating_policy(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default(spec, "failurePolicy", "Fail");
    match_resources(spec, "matchConstraints");
}

/// `SetDefaults_MutatingAdmissionPolicySpec`.
pub(crate) fn mutating_policy(object: &mut Value) {
    validating_policy(object);
    if let Some(spec) = tree::child_mut(object, "spec") {
        tree::default_text(spec, "reinvocationPolicy", "Never");
    }
}

/// `SetDefaults_ParamRef` and `SetDefaults_MatchResources`, of bindings of both kinds.
pub(crate) fn binding(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    match_resources(spec, "matchResources");
    if let Some(reference) = tree::existing_mut(spec, "paramRef") {
        tree::default(reference, "parameterNotFoundAction", "Deny");
    }
}
