//! Events, with the kubelet's reasons and words.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::time::Instant;

use crate::event_filter::{Filter, Said};
use crate::link::Link;
use crate::pod::spec;
use crate::pod::status::whole_second;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

/// Makes events and hands them to the outbox.
#[derive(Clone)]
pub(crate) struct Recorder {
    link: Arc<Link>,
    node_name: String,
    filter: Arc<Mutex<Filter>>,
}

impl Recorder {
    pub(crate) fn new(link: Arc<Link>, node_name: String) -> Self {
        Recorder { link, node_name, filter: Arc::default() }
    }

    /// About a pod, or with `container` about one of its containers.
    pub(crate) fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: Kind,
        reason: &str,
        message: &str,
    ) {
        let involved = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: container.map(|name| field_path(pod, name)),
        };
        self.send(spec::namespace(pod), involved, kind, reason, message);
    }

    /// About the node.
    pub(crate) fn node(&self, kind: Kind, reason: &str, message: &str) {
        let involved = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.node_name.clone()),
            // The kubelet's events about its node carry the name as uid.
            uid: Some(self.node_name.clone()),
            ..ObjectReference::default()
        };
        self.send("default", involved, kind, reason, message);
    }

    fn send(
        &self,
        namespace: &str,
        involved_object: ObjectReference,
        kind: Kind,
        reason: &str,
        message: &str,
    ) {
        let object = format!(
            "{}/{namespace}/{}/{}",
            involved_object.kind.as_deref().unwrap_or_default(),
            involved_object.name.as_deref().unwrap_or_default(),
            involved_object.uid.as_deref().unwrap_or_default(),
        );
        let now = quorate_chance::now();
        let said = Said {
            object: &object,
            object_name: involved_object.name.as_deref().unwrap_or_default(),
            field_path: involved_object.field_path.as_deref().unwrap_or_default(),
            kind: &format!("{kind:?} {reason}"),
            message,
        };
        let admitted = {
            let mut filter = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
            filter.admit(&said, Instant::now(), now)
        };
        let Some(told) = admitted else { return };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(told.name),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object,
            reason: Some(reason.to_owned()),
            message: Some(told.message),
            type_: Some(if kind == Kind::Normal { "Normal" } else { "Warning" }.to_owned()),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node_name.clone()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node_name.clone()),
            count: Some(told.count),
            first_timestamp: Some(Time(whole_second(told.first))),
            last_timestamp: Some(Time(whole_second(now))),
            ..Event::default()
        };
        if let Ok(bytes) = serde_json::to_vec(&event) {
            self.link.outbox.event(bytes.into());
        }
    }
}

fn field_path(pod: &Pod, name: &str) -> String {
    let named =
        |list: &[k8s_openapi::api::core::v1::Container]| list.iter().any(|c| c.name == name);
    let kind = if named(spec::containers(pod)) {
        "containers"
    } else if named(spec::init_containers(pod)) {
        "initContainers"
    } else {
        "ephemeralContainers"
    };
    format!("spec.{kind}{{{name}}}")
}
