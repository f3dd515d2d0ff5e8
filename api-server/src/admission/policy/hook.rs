//! Policies and bindings as they are asked: compiled once for each stored version.

use quorate_api::policy::Policy;
use quorate_api::resource::ResourceDef;
use serde_json::Value;

use super::matching::Matching;
use crate::model::text;

pub(super) const GROUP: &str = "admissionregistration.k8s.io";

/// What a stored policy or binding is made of.
#[derive(Debug)]
pub(crate) enum Hook {
    Policy(Box<PolicyHook>),
    Binding(Box<Binding>),
}

/// A policy, and what it is about.
#[derive(Debug)]
pub(crate) struct PolicyHook {
    pub(super) policy: Policy,
    pub(super) about: Matching,
}

/// A binding of a policy.
#[derive(Debug)]
pub(crate) struct Binding {
    /// The policy's name.
    pub(super) policy: String,
    pub(super) about: Matching,
    /// Null when there is none.
    pub(super) params: Value,
    /// `Deny`, `Warn`, `Audit`
    pub(super) actions: Vec<String>,
}

impl Hook {
    /// Of an object of this group; `None` for every other.
    pub(crate) fn of(def: &ResourceDef, object: &Value) -> Option<Self> {
        if def.group() != GROUP {
            return None;
        }
        match def.plural {
            "validatingadmissionpolicies" | "mutatingadmissionpolicies" => {
                let policy = Policy::of(object);
                let about = Matching::of(&policy.constraints);
                Some(Self::Policy(Box::new(PolicyHook { policy, about })))
            }
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => {
                let spec = &object["spec"];
                let actions = spec["validationActions"].as_array().into_iter().flatten();
                Some(Self::Binding(Box::new(Binding {
                    policy: text(&spec["policyName"]).to_owned(),
                    about: Matching::of(&spec["matchResources"]),
                    params: spec["paramRef"].clone(),
                    actions: actions.map(|action| text(action).to_owned()).collect(),
                })))
            }
            _ => None,
        }
    }
}
