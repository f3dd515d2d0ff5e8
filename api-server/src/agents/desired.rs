//! What one node gets: its pods, the ConfigMaps and Secrets that they refer to, all Services and
//! EndpointSlices, and its own Node object. A value: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::agent::{ObjectChange, ObjectKind};
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{ChangeKind, GroupResource, Key, ObjectKey, Revision, View};
use serde_json::Value;

/// What changed since a node was last told. A set, not a queue: a slow agent gets the newest state.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Everything, because the history does not reach back.
    pub(super) all: bool,
    /// The list of masters.
    pub(super) masters: bool,
    /// Under which mark the agent's certificate is to be.
    pub(super) credentials: bool,
    pub(super) pods: BTreeSet<ObjectKey>,
    /// Other objects, by kind.
    pub(super) others: BTreeSet<(i32, ObjectKey)>,
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        let facts = self.masters || self.credentials;
        !self.all && !facts && self.pods.is_empty() && self.others.is_empty()
    }
}

/// A ConfigMap or Secret that a pod refers to.
type Reference = (i32, ObjectKey);

/// What one node has been told.
#[derive(Debug)]
pub(super) struct Desired {
    node: String,
    /// Pods of the node: the uid of each, and what it refers to.
    pods: BTreeMap<ObjectKey, (String, BTreeSet<Reference>)>,
    /// How many pods refer to each.
    references: BTreeMap<Reference, usize>,
}

/// The resources that agents hear of.
pub(super) const KINDS: [(ObjectKind, &str, &str); 6] = [
    (ObjectKind::Pod, "", "pods"),
    (ObjectKind::ConfigMap, "", "configmaps"),
    (ObjectKind::Secret, "", "secrets"),
    (ObjectKind::Service, "", "services"),
    (ObjectKind::EndpointSlice, "discovery.k8s.io", "endpointslices"),
    (ObjectKind::Node, "", "nodes"),
];

pub(super) fn resource_of(kind: i32) -> Option<GroupResource> {
    KINDS
        .iter()
        .find(|(known, ..)| *known as i32 == kind)
        .map(|(_, group, resource)| GroupResource::new(group, resource))
}

impl Desired {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), pods: BTreeMap::new(), references: BTreeMap::new() }
    }

    /// Everything that the node is to have.
    pub(super) fn everything(&mut self, view: &View) -> Vec<ObjectChange> {
        self.pods.clear();
        self.references.clear();
        let mut out = Vec::new();
        for pod in objects(view, ObjectKind::Pod) {
            if node_of(pod).as_deref() == Some(&self.node) {
                self.pod(view, &pod.key.object, &mut out);
            }
        }
        for kind in [ObjectKind::Service, ObjectKind::EndpointSlice] {
            out.extend(objects(view, kind).map(|object| upsert(kind as i32, object)));
        }
        let node = ObjectKey::new("", &self.node);
        let node = lookup(view, ObjectKind::Node as i32, &node);
        out.extend(node.map(|node| upsert(ObjectKind::Node as i32, node)));
        out
    }

    /// What changed after `since`, for an agent that still has everything up to it; `None` when the
    /// history does not reach back.
    pub(super) fn since(&mut self, view: &View, since: Revision) -> Option<Vec<ObjectChange>> {
        if since > view.revision() {
            return None;
        }
        let mut gone = Vec::new();
        let mut pods = BTreeSet::new();
        for (kind, group, resource) in KINDS {
            let Some(resource) = view.resource(&GroupResource::new(group, resource)) else {
                continue;
            };
            for change in resource.changes_after(since).ok()? {
                let object = change.object();
                if kind == ObjectKind::Pod {
                    if node_of(object).as_deref() != Some(&self.node) {
                        continue;
                    }
                    pods.insert(object.key.object.clone());
                }
                if change.kind == ChangeKind::Deleted {
                    gone.push(deleted(kind as i32, object, change.revision));
                }
            }
        }
        // What the agent has already is only remembered here, not sent.
        let all = self.everything(view);
        let fresh: BTreeSet<Reference> = pods
            .iter()
            .filter_map(|pod| self.pods.get(pod))
            .flat_map(|(_, references)| references)
            .cloned()
            .collect();
        gone.retain(|change| self.concerns(change));
        gone.extend(all.into_iter().filter(|change| {
            let key = ObjectKey::new(&change.namespace, &change.name);
            change.revision > since.0 || fresh.contains(&(change.kind, key))
        }));
        Some(gone)
    }

    /// Whether the node may hear of a deletion: not of others' secrets, nor of other nodes.
    fn concerns(&self, change: &ObjectChange) -> bool {
        let key = ObjectKey::new(&change.namespace, &change.name);
        match change.kind() {
            ObjectKind::ConfigMap | ObjectKind::Secret => {
                self.references.contains_key(&(change.kind, key))
            }
            ObjectKind::Node => change.name == self.node,
            ObjectKind::Pod
            | ObjectKind::Service
            | ObjectKind::EndpointSlice
            | ObjectKind::Unspecified => true,
        }
    }

    /// What the node must hear of the dirty objects.
    pub(super) fn changes(&mut self, view: &View, dirty: &Dirty) -> Vec<ObjectChange> {
        let mut out = Vec::new();
        for pod in &dirty.pods {
            self.pod(view, pod, &mut out);
        }
        for (kind, key) in &dirty.others {
            self.other(view, *kind, key, &mut out);
        }
        out
    }

    fn pod(&mut self, view: &View, key: &ObjectKey, out: &mut Vec<ObjectChange>) {
        let stored = lookup(view, ObjectKind::Pod as i32, key)
            .filter(|stored| node_of(stored).as_deref() == Some(&self.node));
        // A pod of the same name is another one when its uid is.
        let known = self.pods.get(key).map(|(uid, _)| uid.clone());
        if let Some(uid) = known.filter(|uid| stored.is_none_or(|stored| stored.uid() != uid)) {
            out.push(ObjectChange { uid, ..missing(ObjectKind::Pod as i32, key, view) });
        }
        let before = self.pods.remove(key);
        let read = stored.and_then(|stored| parse(stored).map(|pod| (stored, pod)));
        if let Some((stored, pod)) = read {
            let references = references(&key.namespace, &pod);
            for reference in &references {
                let count = self.references.entry(reference.clone()).or_default();
                *count += 1;
                // Told before the pod that needs it.
                if *count == 1
                    && let Some(object) = lookup(view, reference.0, &reference.1)
                {
                    out.push(upsert(reference.0, object));
                }
            }
            out.push(upsert(ObjectKind::Pod as i32, stored));
            self.pods.insert(key.clone(), (stored.uid().to_owned(), references));
        }
        if let Some((_, references)) = before {
            self.release(&references);
        }
    }

    fn release(&mut self, references: &BTreeSet<Reference>) {
        for reference in references {
            if let Some(count) = self.references.get_mut(reference) {
                *count -= 1;
                if *count == 0 {
                    self.references.remove(reference);
                }
            }
        }
    }

    fn other(&mut self, view: &View, kind: i32, key: &ObjectKey, out: &mut Vec<ObjectChange>) {
        let referred = [ObjectKind::ConfigMap as i32, ObjectKind::Secret as i32].contains(&kind);
        if referred && !self.references.contains_key(&(kind, key.clone())) {
            return;
        }
        if kind == ObjectKind::Node as i32 && *key.name != *self.node {
            return;
        }
        match lookup(view, kind, key) {
            Some(stored) => out.push(upsert(kind, stored)),
            None => out.push(missing(kind, key, view)),
        }
    }
}

/// The node that a pod is bound to.
pub(super) fn node_of(stored: &StoredRef) -> Option<String> {
    crate::model::field_of(stored, "spec.nodeName").filter(|node| !node.is_empty())
}

fn parse(stored: &StoredRef) -> Option<Value> {
    serde_json::from_slice(&stored.image.bytes).ok()
}

fn objects(view: &View, kind: ObjectKind) -> impl Iterator<Item = &StoredRef> {
    resource_of(kind as i32)
        .and_then(|resource| view.resource(&resource))
        .into_iter()
        .flat_map(|resource| resource.iter())
}

fn lookup<'a>(view: &'a View, kind: i32, key: &ObjectKey) -> Option<&'a StoredRef> {
    view.get(&Key { resource: resource_of(kind)?, object: key.clone() })
}

fn upsert(kind: i32, stored: &StoredRef) -> ObjectChange {
    ObjectChange {
        kind,
        deleted: false,
        namespace: stored.key.object.namespace.to_string(),
        name: stored.key.object.name.to_string(),
        uid: stored.uid().to_owned(),
        revision: stored.revision.0,
        object: stored.to_json().into(),
    }
}

/// What is not there in the view.
fn missing(kind: i32, key: &ObjectKey, view: &View) -> ObjectChange {
    ObjectChange {
        kind,
        deleted: true,
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        uid: String::new(),
        revision: view.revision().0,
        object: bytes::Bytes::new(),
    }
}

fn deleted(kind: i32, stored: &StoredRef, revision: Revision) -> ObjectChange {
    ObjectChange {
        kind,
        deleted: true,
        namespace: stored.key.object.namespace.to_string(),
        name: stored.key.object.name.to_string(),
        uid: stored.uid().to_owned(),
        revision: revision.0,
        object: bytes::Bytes::new(),
    }
}

/// The ConfigMaps and Secrets that a pod refers to anywhere.
fn references(namespace: &str, pod: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |kind: ObjectKind, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            found.insert((kind as i32, ObjectKey::new(namespace, name)));
        }
    };
    let spec = &pod["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for secret in list(&spec["imagePullSecrets"]) {
        add(ObjectKind::Secret, &secret["name"]);
    }
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(&spec[containers]) {
            for env in list(&container["env"]) {
                add(ObjectKind::ConfigMap, &env["valueFrom"]["configMapKeyRef"]["name"]);
                add(ObjectKind::Secret, &env["valueFrom"]["secretKeyRef"]["name"]);
            }
            for from in list(&container["envFrom"]) {
                add(ObjectKind::ConfigMap, &from["configMapRef"]["name"]);
                add(ObjectKind::Secret, &from["secretRef"]["name"]);
            }
        }
    }
    for volume in list(&spec["volumes"]) {
        add(ObjectKind::ConfigMap, &volume["configMap"]["name"]);
        add(ObjectKind::Secret, &volume["secret"]["secretName"]);
        for source in list(&volume["projected"]["sources"]) {
            add(ObjectKind::ConfigMap, &source["configMap"]["name"]);
            add(ObjectKind::Secret, &source["secret"]["name"]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_state_machine::{Header, Image, Op, Outcome};
    use quorate_store::Store;
    use serde_json::json;

    async fn put(store: &Store, resource: &str, name: &str, object: Value) {
        let key = Key::new("", resource, "d", name);
        let text = format!("{{\"metadata\":{{}},{}", &object.to_string()[1..]);
        let image = Image {
            header: Header { uid: format!("{name}-uid"), ..Header::default() },
            bytes: Bytes::from(text),
            revision_offset: 13,
        };
        let op = match store.view().get(&key) {
            Some(stored) => Op::Update { key, expect: stored.revision, image },
            None => Op::Create { key, image, namespace: None },
        };
        let outcomes = store.write(vec![op]).await.unwrap();
        assert!(matches!(outcomes[0], Outcome::Done(_)));
    }

    async fn remove(store: &Store, resource: &str, name: &str) {
        let key = Key::new("", resource, "d", name);
        store.write(vec![Op::Delete { key, expect: None, uid: None }]).await.unwrap();
    }

    fn pod(node: &str, config_map: &str) -> Value {
        json!({"spec": {"nodeName": node, "containers": [
            {"envFrom": [{"configMapRef": {"name": config_map}}]}
        ]}})
    }

    fn names(changes: &[ObjectChange]) -> Vec<String> {
        let sign = |change: &ObjectChange| if change.deleted { "-" } else { "+" };
        changes.iter().map(|change| format!("{}{}", sign(change), change.name)).collect()
    }

    fn dirty(pods: &[&str], config_maps: &[&str]) -> Dirty {
        let key = |name: &&str| ObjectKey::new("d", name);
        Dirty {
            all: false,
            masters: false,
            credentials: false,
            pods: pods.iter().map(key).collect(),
            others: config_maps
                .iter()
                .map(|name| (ObjectKind::ConfigMap as i32, key(name)))
                .collect(),
        }
    }

    #[tokio::test]
    async fn a_node_gets_its_pods_and_what_they_refer_to() {
        let store = Store::in_memory();
        put(&store, "configmaps", "used", json!({"data": {}})).await;
        put(&store, "configmaps", "unused", json!({"data": {}})).await;
        put(&store, "pods", "mine", pod("n1", "used")).await;
        put(&store, "pods", "other", pod("n2", "unused")).await;
        let mut desired = Desired::new("n1");
        assert_eq!(names(&desired.everything(&store.view())), ["+used", "+mine"]);
    }

    #[tokio::test]
    async fn references_follow_the_pods() {
        let store = Store::in_memory();
        put(&store, "configmaps", "c", json!({})).await;
        put(&store, "pods", "a", pod("n1", "c")).await;
        let mut desired = Desired::new("n1");
        desired.everything(&store.view());
        put(&store, "configmaps", "c", json!({"data": {"k": "v"}})).await;
        let changes = desired.changes(&store.view(), &dirty(&[], &["c"]));
        assert_eq!(names(&changes), ["+c"]);
        // The second pod's reference is known; the pod comes alone.
        put(&store, "pods", "b", pod("n1", "c")).await;
        assert_eq!(names(&desired.changes(&store.view(), &dirty(&["b"], &[]))), ["+b"]);
        remove(&store, "pods", "a").await;
        remove(&store, "pods", "b").await;
        let changes = desired.changes(&store.view(), &dirty(&["a", "b"], &[]));
        assert_eq!(names(&changes), ["-a", "-b"]);
        assert!(desired.changes(&store.view(), &dirty(&[], &["c"])).is_empty());
    }

    #[tokio::test]
    async fn a_resumed_stream_gets_only_what_changed() {
        let store = Store::in_memory();
        put(&store, "configmaps", "c", json!({})).await;
        put(&store, "pods", "stays", pod("n1", "c")).await;
        put(&store, "pods", "goes", pod("n1", "c")).await;
        put(&store, "configmaps", "late", json!({})).await;
        let since = store.view().revision();
        remove(&store, "pods", "goes").await;
        put(&store, "pods", "comes", pod("n1", "late")).await;
        let mut desired = Desired::new("n1");
        let changes = desired.since(&store.view(), since).unwrap();
        assert_eq!(names(&changes), ["-goes", "+late", "+comes"]);
        // And goes on as usual.
        remove(&store, "pods", "stays").await;
        assert_eq!(names(&desired.changes(&store.view(), &dirty(&["stays"], &[]))), ["-stays"]);
    }

    #[tokio::test]
    async fn a_pod_that_comes_back_under_its_name_is_another_one() {
        let store = Store::in_memory();
        put(&store, "pods", "p", pod("n1", "c")).await;
        let mut desired = Desired::new("n1");
        desired.everything(&store.view());
        remove(&store, "pods", "p").await;
        let key = Key::new("", "pods", "d", "p");
        let text = format!("{{\"metadata\":{{}},{}", &pod("n1", "c").to_string()[1..]);
        let header = Header { uid: "second".to_owned(), ..Header::default() };
        let image = Image { header, bytes: Bytes::from(text), revision_offset: 13 };
        store.write(vec![Op::Create { key, image, namespace: None }]).await.unwrap();
        let changes = desired.changes(&store.view(), &dirty(&["p"], &[]));
        assert_eq!(names(&changes), ["-p", "+p"]);
        assert_eq!((changes[0].uid.as_str(), changes[1].uid.as_str()), ("p-uid", "second"));
    }

    #[tokio::test]
    async fn a_resumed_stream_hears_nothing_of_others() {
        let store = Store::in_memory();
        put(&store, "pods", "mine", pod("n1", "c")).await;
        put(&store, "configmaps", "c", json!({})).await;
        for (resource, name) in [("pods", "other"), ("secrets", "other"), ("configmaps", "other")] {
            put(&store, resource, name, pod("n2", "c")).await;
        }
        let since = store.view().revision();
        for resource in ["pods", "secrets", "configmaps"] {
            remove(&store, resource, "other").await;
        }
        remove(&store, "configmaps", "c").await;
        let changes = Desired::new("n1").since(&store.view(), since).unwrap();
        assert_eq!(names(&changes), ["-c"]);
    }

    #[tokio::test]
    async fn a_revision_from_the_future_cannot_be_resumed() {
        let store = Store::in_memory();
        put(&store, "pods", "a", pod("n1", "c")).await;
        assert!(Desired::new("n1").since(&store.view(), Revision(99)).is_none());
    }
}
