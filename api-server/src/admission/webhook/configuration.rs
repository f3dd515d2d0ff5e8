//! Configurations as they are used: compiled once for each state of the two resources.
//!
//! What is compiled hangs on nothing but the parts of the view that it was made from: while they are the same, so are
//! the hooks. A request without webhooks costs two look-ups in the view.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use quorate_api::selector::label::Selector;
use quorate_api::selector::object::label_selector;
use quorate_state_machine::{GroupResource, ResourceView, View};
use serde_json::Value;

use super::client::{Client, Dialer, Target};
use super::review::Version;
use super::rule::Rule;
use crate::admission::policy::Conditions;
use crate::limits::WEBHOOK_TIMEOUT_DEFAULT;
use crate::model::text;

const GROUP: &str = "admissionregistration.k8s.io";

static MUTATING: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new(GROUP, "mutatingwebhookconfigurations"));

static VALIDATING: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new(GROUP, "validatingwebhookconfigurations"));

/// What a webhook may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Mutating,
    Validating,
}

impl Kind {
    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mutating => "admit",
            Self::Validating => "validating",
        }
    }
}

/// One webhook of a configuration.
pub(super) struct Hook {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Names it among all: for reinvocation.
    pub(super) id: String,
    pub(super) rules: Vec<Rule>,
    /// It is also asked about the same objects in other versions, which are converted.
    pub(super) equivalent: bool,
    pub(super) namespaces: Selector,
    pub(super) objects: Selector,
    pub(super) conditions: Conditions,
    /// A call that fails does not count.
    pub(super) ignores_failures: bool,
    pub(super) timeout: Duration,
    /// It may be called in a dry run.
    pub(super) is_quiet: bool,
    /// It is asked again when others have changed the object after it.
    pub(super) reinvoked: bool,
    /// The form of reviews; `None`: it knows none that is known here.
    pub(super) version: Option<Version>,
    pub(super) client: Arc<Client>,
}

/// All webhooks, in the order in which they are called: by the names of their configurations.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) mutating: Vec<Hook>,
    pub(super) validating: Vec<Hook>,
    of: [Option<Arc<ResourceView>>; 2],
}

impl Compiled {
    pub(super) fn hooks(&self, kind: Kind) -> &[Hook] {
        match kind {
            Kind::Mutating => &self.mutating,
            Kind::Validating => &self.validating,
        }
    }
}

/// The newest compiled form.
#[derive(Default)]
pub(super) struct Configurations {
    latest: ArcSwapOption<Compiled>,
}

impl Configurations {
    /// The webhooks that the view shows; `None` without any.
    pub(super) fn of(&self, view: &View, dialer: &Arc<Dialer>) -> Option<Arc<Compiled>> {
        let of = [view.resource(&MUTATING), view.resource(&VALIDATING)];
        if of.iter().all(Option::is_none) {
            return None;
        }
        let same = |compiled: &Compiled| {
            let pairs = compiled.of.iter().zip(of);
            pairs.into_iter().all(|pair| match pair {
                (None, None) => true,
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                _ => false,
            })
        };
        let latest = self.latest.load();
        let compiled = match latest.as_ref().filter(|latest| same(latest)) {
            Some(latest) => latest.clone(),
            None => {
                let before = latest.as_deref();
                let fresh = Arc::new(compile(of, before, dialer));
                self.latest.store(Some(fresh.clone()));
                fresh
            }
        };
        let empty = compiled.mutating.is_empty() && compiled.validating.is_empty();
        (!empty).then_some(compiled)
    }
}

fn compile(
    of: [Option<&Arc<ResourceView>>; 2],
    before: Option<&Compiled>,
    dialer: &Arc<Dialer>,
) -> Compiled {
    // Connections outlive changes of what does not concern them.
    let hooks = before.into_iter().flat_map(|old| old.mutating.iter().chain(&old.validating));
    let mut clients: BTreeMap<Target, Arc<Client>> =
        hooks.map(|hook| (hook.client.target().clone(), hook.client.clone())).collect();
    let mut all = |resource: Option<&Arc<ResourceView>>, kind| {
        let mut hooks = Vec::new();
        // In the order of their names.
        for stored in resource.into_iter().flat_map(|resource| resource.iter()) {
            let object: Value = serde_json::from_slice(&stored.image.bytes).unwrap_or_default();
            let name = &stored.key.object.name;
            let list = object["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
            for (number, webhook) in list.iter().enumerate() {
                let target = Target::of(&webhook["clientConfig"]);
                let client = clients.entry(target);
                let client =
                    client.or_insert_with_key(|target| Arc::new(Client::new(target, dialer)));
                hooks.push(Hook::of(kind, &format!("{name}/{number}"), webhook, client.clone()));
            }
        }
        hooks
    };
    Compiled {
        mutating: all(of[0], Kind::Mutating),
        validating: all(of[1], Kind::Validating),
        of: of.map(|resource| resource.cloned()),
    }
}

impl Hook {
    /// What is stored has defaults and was validated.
    pub(super) fn of(kind: Kind, id: &str, webhook: &Value, client: Arc<Client>) -> Self {
        let name = text(&webhook["name"]);
        let seconds = webhook["timeoutSeconds"].as_u64().map(Duration::from_secs);
        let selector = |field: &str| match &webhook[field] {
            Value::Null => Selector::everything(),
            selector => label_selector(selector).unwrap_or_else(|_| Selector::nothing()),
        };
        let versions = webhook["admissionReviewVersions"].as_array().into_iter().flatten();
        Self {
            kind,
            name: name.to_owned(),
            id: format!("{id}/{name}"),
            rules: webhook["rules"].as_array().into_iter().flatten().map(Rule::of).collect(),
            equivalent: webhook["matchPolicy"] == "Equivalent",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            conditions: Conditions::of(&webhook["matchConditions"]),
            ignores_failures: webhook["failurePolicy"] == "Ignore",
            timeout: seconds.unwrap_or(WEBHOOK_TIMEOUT_DEFAULT),
            is_quiet: matches!(text(&webhook["sideEffects"]), "None" | "NoneOnDryRun"),
            reinvoked: webhook["reinvocationPolicy"] == "IfNeeded",
            version: versions.filter_map(Value::as_str).find_map(Version::named),
            client,
        }
    }
}
