//! What a request is about: which container on which node, checked as upstream's pod strategy does it
//! (`pkg/registry/core/pod/strategy.go`, same texts).

use quorate_api::status::Status;
use quorate_proto::agent::OpenChannel;
use quorate_proto::agent::open_channel::Request;
use serde_json::Value;

use crate::model::text;
use crate::status_error::Answer;

/// A pod on its node.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
    /// "" when the pod is not bound yet.
    pub(super) node: String,
    /// "" for a port-forward, which goes to the pod as a whole.
    pub(super) container: String,
}

impl Target {
    /// The pod as a whole.
    pub(super) fn pod(pod: &Value) -> Self {
        let meta = &pod["metadata"];
        Self {
            namespace: text(&meta["namespace"]).to_owned(),
            pod: text(&meta["name"]).to_owned(),
            uid: text(&meta["uid"]).to_owned(),
            node: text(&pod["spec"]["nodeName"]).to_owned(),
            container: String::new(),
        }
    }

    /// A container of the pod; its only one when none is named.
    pub(super) fn container(pod: &Value, container: &str) -> Answer<Self> {
        let mut target = Self::pod(pod);
        target.container = choose(pod, &target.pod, container)?;
        Ok(target)
    }

    /// Refuses pods that are on no node yet.
    pub(super) fn bound(self) -> Answer<Self> {
        if self.node.is_empty() {
            let message = format!("pod {} does not have a host assigned", self.pod);
            return Err(Box::new(Status::bad_request(message)));
        }
        Ok(self)
    }

    /// What the node is asked for.
    pub(super) fn open(&self, request: Request) -> OpenChannel {
        OpenChannel {
            channel_id: String::new(),
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            container: self.container.clone(),
            request: Some(request),
        }
    }
}

/// Init containers first, as upstream visits them.
fn names(pod: &Value) -> Vec<&str> {
    ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .filter_map(|list| pod["spec"][*list].as_array())
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect()
}

fn choose(pod: &Value, name: &str, container: &str) -> Answer<String> {
    let bad = |message: String| Err(Box::new(Status::bad_request(message)));
    if !container.is_empty() {
        if names(pod).contains(&container) {
            return Ok(container.to_owned());
        }
        return bad(format!("container {container} is not valid for pod {name}"));
    }
    let specified = format!("a container name must be specified for pod {name}");
    match pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default() {
        [] => bad(specified),
        [only] => Ok(text(&only["name"]).to_owned()),
        _ => bad(format!("{specified}, choose one of: [{}]", names(pod).join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(init: &[&str], containers: &[&str]) -> Value {
        let list = |names: &[&str]| -> Vec<Value> {
            names.iter().map(|name| json!({"name": name})).collect()
        };
        json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"initContainers": list(init), "containers": list(containers)},
        })
    }

    #[test]
    fn a_container_is_chosen_or_refused_in_upstreams_words() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a str, Result<&'a str, &'a str>);
        let cases: [Case<'_>; 7] = [
            (&[], &["a"], "", Ok("a")),
            (&["i"], &["a"], "", Ok("a")),
            (&["i"], &["a"], "i", Ok("i")),
            (&[], &["a", "b"], "b", Ok("b")),
            (&[], &[], "", Err("a container name must be specified for pod p")),
            (
                &["i"],
                &["a", "b"],
                "",
                Err("a container name must be specified for pod p, choose one of: [i a b]"),
            ),
            (&[], &["a"], "x", Err("container x is not valid for pod p")),
        ];
        for (init, containers, asked, want) in cases {
            let got = Target::container(&pod(init, containers), asked);
            match want {
                Ok(name) => assert_eq!(got.unwrap().container, name),
                Err(message) => {
                    let status = got.unwrap_err();
                    assert_eq!((status.code, status.message.as_str()), (400, message));
                }
            }
        }
    }

    #[test]
    fn an_unbound_pod_has_no_host() {
        let status = Target::pod(&pod(&[], &["a"])).bound().unwrap_err();
        assert_eq!(status.message, "pod p does not have a host assigned");
    }
}
