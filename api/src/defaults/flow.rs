//! Defaults of the kinds in `flowcontrol.apiserver.k8s.io/v1` and `apiregistration.k8s.io/v1`.

use serde_json::{Value, json};

use crate::tree;

const PRECEDENCE: i64 = 1000;
const SHARES: i64 = 30;
const HAND_SIZE: i64 = 8;
const QUEUES: i64 = 64;
const QUEUE_LENGTH: i64 = 50;
const SERVICE_PORT: i64 = 443;

/// `SetDefaults_FlowSchemaSpec`.
pub(crate) fn schema(object: &mut Value) {
    if let Some(spec) = tree::child_mut(object, "spec") {
        tree::default_int(spec, "matchingPrecedence", PRECEDENCE);
    }
}

/// `SetDefaults_LimitedPriorityLevelConfiguration`, `SetDefaults_ExemptPriorityLevelConfiguration`
/// and `SetDefaults_QueuingConfiguration`.
pub(crate) fn level(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    if tree::text(spec, "type") == "Exempt" {
        tree::default(spec, "exempt", json!({}));
    }
    for (name, shares) in [("limited", SHARES), ("exempt", 0)] {
        let Some(part) = tree::existing_mut(spec, name) else { continue };
        tree::default(part, "nominalConcurrencyShares", shares);
        tree::default(part, "lendablePercent", 0);
        if let Some(response) = tree::existing_mut(part, "limitResponse")
            && let Some(queuing) = tree::existing_mut(response, "queuing")
        {
            tree::default_int(queuing, "handSize", HAND_SIZE);
            tree::default_int(queuing, "queues", QUEUES);
            tree::default_int(queuing, "queueLengthLimit", QUEUE_LENGTH);
        }
    }
}

/// `SetDefaults_ServiceReference` of API services.
pub(crate) fn api_service(object: &mut Value) {
    if let Some(spec) = tree::existing_mut(object, "spec")
        && let Some(service) = tree::existing_mut(spec, "service")
    {
        tree::default(service, "port", SERVICE_PORT);
    }
}
