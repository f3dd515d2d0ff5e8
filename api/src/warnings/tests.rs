//! What is said about each kind, in upstream's words, as tables.

#![allow(clippy::too_many_lines, reason = "tables of cases")]

use super::*;
use base64::Engine as _;
use serde_json::json;

fn check(group: &str, kind: &str, object: Value, want: &[&str]) {
    let got = create(group, kind, &object);
    assert_eq!(got.join("\n"), want.join("\n"), "{kind} {object}");
}

fn pod(spec: Value, want: &[&str]) {
    check("", "Pod", json!({"metadata": {"name": "p"}, "spec": spec}), want);
}

#[test]
fn pods() {
    pod(json!({"containers": [{"name": "c", "image": "i"}]}), &[]);
    for (spec, want) in [
        (
            json!({"nodeSelector": {"beta.kubernetes.io/os": "linux", "a": "b"}}),
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \
             \"kubernetes.io/os\" instead",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions":
                    [{"key": "node-role.kubernetes.io/master"}]}]}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.\
             nodeSelectorTerms[0].matchExpressions[0].key: node-role.kubernetes.io/master is use \
             \"node-role.kubernetes.io/control-plane\" instead",
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "zone"}]}),
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in \
             matching no pod",
        ),
        (
            json!({"affinity": {"podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}}),
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].\
             podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            json!({"volumes": [{"name": "v", "gitRepo": {}}]}),
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
        ),
        (
            json!({"volumes": [{"name": "v", "configMap": {"name": "m", "items":
                [{"key": "a", "path": "x"}, {"key": "b", "path": "x/y"}]}}]}),
            "volume \"v\" (ConfigMap \"m\"): overlapping paths: \"x/y\" with \"x\"",
        ),
        (
            json!({"hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}]}),
            "spec.hostAliases[1].ip: duplicate ip \"1.2.3.4\"",
        ),
        (
            json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}),
            "spec.imagePullSecrets[1].name: duplicate name \"a\"",
        ),
        (
            json!({"imagePullSecrets": [{}]}),
            "spec.imagePullSecrets[0].name: invalid empty name \"\"",
        ),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and \
             will be treated as 1",
        ),
        (
            json!({"hostAliases": [{"ip": "::ffff:1.2.3.4"}]}),
            "spec.hostAliases[0].ip: non-standard IP address \"::ffff:1.2.3.4\" will be considered \
             invalid in a future Kubernetes release: use \"1.2.3.4\"",
        ),
    ] {
        pod(spec, &[want]);
    }
}

#[test]
fn containers_of_pods() {
    for (container, want) in [
        (
            json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped \
             when using apply",
        ),
        (json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]}), ""),
        (
            json!({"resources": {"limits": {"memory": "100m", "cpu": "100m"}}}),
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is \
             invalid, must be an integer",
        ),
        (
            json!({"ports": [{"containerPort": 80, "protocol": "TCP", "hostIP": "1.2.3.4"}]}),
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 \
             ContainerPort:80 Protocol:TCP HostIP:1.2.3.4}",
        ),
        (
            json!({"ports": [{"containerPort": 80, "protocol": "TCP"},
                             {"containerPort": 80, "protocol": "TCP"}]}),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            json!({"ports": [{"containerPort": 80, "protocol": "TCP"},
                             {"containerPort": 80, "protocol": "TCP", "hostPort": 8080}]}),
            "spec.containers[0].ports[1]: overlapping port definition with \
             spec.containers[0].ports[0]",
        ),
        (
            json!({"ports": [{"containerPort": 80, "protocol": "TCP", "hostPort": 80},
                {"containerPort": 80, "protocol": "TCP", "hostPort": 80, "hostIP": "1.2.3.4"}]}),
            "spec.containers[0].ports[1]: dangerously ambiguous port definition with \
             spec.containers[0].ports[0]",
        ),
        (
            json!({"ports": [{"containerPort": 80, "protocol": "TCP"},
                             {"containerPort": 80, "protocol": "UDP"}]}),
            "",
        ),
    ] {
        let want: Vec<&str> = Some(want).into_iter().filter(|w| !w.is_empty()).collect();
        pod(json!({"containers": [container]}), &want);
    }
}

#[test]
fn workloads() {
    let template = json!({"metadata": {"annotations":
            {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}},
        "spec": {"containers": [{"name": "c"}], "nodeSelector": {"beta.kubernetes.io/arch": "x"}}});
    let apparmor = "spec.template.metadata.annotations\
        [container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \
        \"appArmorProfile\" field instead";
    let arch = "spec.template.spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; \
        use \"kubernetes.io/arch\" instead";
    let old = json!({"metadata": {"name": "a.b", "generation": 1}, "spec": {"template": template}});
    let name = "metadata.name: this is used in Pod names and hostnames, which can result in \
        surprising behavior; a DNS label is recommended: [must not contain dots]";
    check("apps", "Deployment", old.clone(), &[name, arch, apparmor]);
    check("apps", "ReplicaSet", old.clone(), &[name, arch, apparmor]);
    assert_eq!(update("apps", "Deployment", &old, &old), Vec::<String>::new());
    let mut new = old.clone();
    tree::set(tree::existing_mut(&mut new, "metadata").unwrap(), "generation", 2);
    assert_eq!(update("apps", "Deployment", &new, &old), [arch, apparmor]);
}

#[test]
fn networks() {
    let service = |spec: Value| json!({"metadata": {"name": "s"}, "spec": spec});
    for (spec, want) in [
        (json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"}), vec![]),
        (
            json!({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP",
                   "externalIPs": ["1.2.3.4"]}),
            vec![
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        ),
        (
            json!({"type": "ClusterIP", "externalIPs": ["01.2.3.4"], "externalName": "x"}),
            vec![
                "spec.externalIPs[0]: non-standard IP address \"01.2.3.4\" will be considered \
                 invalid in a future Kubernetes release: use \"1.2.3.4\"",
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1/8"],
                   "trafficDistribution": "PreferClose"}),
            vec![
                "spec.loadBalancerSourceRanges[0]: CIDR value \"10.0.0.1/8\" is ambiguous in this \
                 context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ],
        ),
    ] {
        check("", "Service", service(spec), &want);
    }
    let subsets = json!({"subsets": [{"addresses": [{"ip": "2001:DB8::1"}]}]});
    check(
        "",
        "Endpoints",
        subsets,
        &["subsets[0].addresses[0].ip: IPv6 address \"2001:DB8::1\" should be in RFC 5952 \
           canonical format (\"2001:db8::1\")"],
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "FQDN"}),
        &["spec.addressType: FQDN endpoints are deprecated"],
    );
    let deprecated = deprecated("", "v1", "Endpoints");
    assert!(deprecated.is_some_and(|text| text.starts_with("v1 Endpoints is deprecated")));
}

#[test]
fn small_kinds() {
    check(
        "",
        "Node",
        json!({"spec": {"externalID": "x", "configSource": {}}}),
        &[
            "spec.configSource: the feature is removed",
            "spec.externalID: this field is deprecated, and is unused by Kubernetes",
        ],
    );
    let account = json!({"metadata": {"annotations":
        {"kubernetes.io/enforce-mountable-secrets": "true"}}});
    let text = "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in \
        v1.32+; prefer separate namespaces to isolate access to mounted secrets";
    check("", "ServiceAccount", account.clone(), &[text]);
    assert_eq!(update("", "ServiceAccount", &account, &account), Vec::<String>::new());
    let pem = |label: &str| {
        let text = format!("-----BEGIN {label}-----\nAA==\n-----END {label}-----\n");
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let tls = |certificate: &str, key: &str| json!({"type": "kubernetes.io/tls", "data": {"tls.crt": certificate, "tls.key": key}});
    let (certificate, key) = (pem("CERTIFICATE"), pem("RSA PRIVATE KEY"));
    check("", "Secret", tls(&certificate, &key), &[]);
    check(
        "",
        "Secret",
        tls("YQ==", &key),
        &["tls: failed to find any PEM data in certificate input"],
    );
    check("", "Secret", tls(&certificate, ""), &["tls: failed to find any PEM data in key input"]);
}
