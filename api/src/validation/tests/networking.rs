//! Ingresses, their classes, network policies, and addresses of services.

use super::*;

const GROUP: &str = "networking.k8s.io";

#[test]
fn ingresses() {
    let bad = |spec: Value, want: &[&str]| check(GROUP, "Ingress", json!({"spec": spec}), want);
    bad(
        json!({"defaultBackend": null}),
        &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
    bad(
        json!({"defaultBackend": {"service": {"name": "S", "port": {"number": null}}}}),
        &[
            "spec.defaultBackend.service.name: Invalid value: \"S\": a DNS-1035 label must consist of lower case \
         alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character \
         (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            "spec.defaultBackend: Required value: port name or number is required",
        ],
    );
    bad(
        json!({"defaultBackend": {"resource": {"kind": "", "name": "n"}}}),
        &[
            "spec.defaultBackend: Invalid value: \"\": cannot set both resource and service backends",
        ],
    );
    let rule = |host: &str, path: Value, want: &[&str]| {
        let backend = json!({"service": {"name": "s", "port": {"name": "http"}}});
        let mut path = path;
        json_patch::merge(&mut path, &json!({"backend": backend}));
        bad(json!({"rules": [{"host": host, "http": {"paths": [path]}}]}), want);
    };
    rule("a.b", json!({"path": "/x", "pathType": "Prefix"}), &[]);
    rule(
        "1.2.3.4",
        json!({"path": "x//../y/.", "pathType": "Exact"}),
        &[
            "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            "spec.rules[0].http.paths[0].path: Invalid value: \"x//../y/.\": must be an absolute path",
            "spec.rules[0].http.paths[0].path: Invalid value: \"x//../y/.\": must not contain '//'",
            "spec.rules[0].http.paths[0].path: Invalid value: \"x//../y/.\": must not contain '/../'",
            "spec.rules[0].http.paths[0].path: Invalid value: \"x//../y/.\": cannot end with '/.'",
        ],
    );
    rule(
        "",
        json!({}),
        &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
    );
    rule(
        "",
        json!({"pathType": "Odd"}),
        &[
            "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Odd\": supported values: \"Exact\", \
         \"ImplementationSpecific\", \"Prefix\"",
        ],
    );
    rule(
        "*a.b",
        json!({"path": "/", "pathType": "Prefix"}),
        &[
            "spec.rules[0].host: Invalid value: \"*a.b\": a wildcard DNS-1123 subdomain must start with '*.', followed \
         by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with \
         an alphanumeric character (e.g. '*.example.com', regex used for validation is \
         '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ],
    );
    check(
        GROUP,
        "Ingress",
        json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}},
        "spec": {"ingressClassName": "b"}}),
        &[
            "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are \
         specified",
        ],
    );
}

#[test]
fn ingress_classes() {
    let bad =
        |spec: Value, want: &[&str]| check(GROUP, "IngressClass", json!({"spec": spec}), want);
    bad(
        json!({"controller": "c"}),
        &[
            "spec.controller: Invalid value: \"c\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ],
    );
    bad(
        json!({"parameters": {"kind": "K", "name": "", "namespace": "n"}}),
        &[
            "spec.parameters.name: Required value",
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
        ],
    );
    bad(
        json!({"parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}),
        &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
    );
    check_update(
        GROUP,
        "IngressClass",
        json!({}),
        json!({"spec": {"controller": "example.com/d"}}),
        &["spec.controller: Invalid value: \"example.com/d\": field is immutable"],
    );
}

#[test]
fn network_policies() {
    let bad =
        |spec: Value, want: &[&str]| check(GROUP, "NetworkPolicy", json!({"spec": spec}), want);
    let ports = |port: Value, want: &[&str]| bad(json!({"ingress": [{"ports": [port]}]}), want);
    ports(
        json!({"port": 80, "endPort": 79, "protocol": "Odd"}),
        &[
            "spec.ingress[0].ports[0].protocol: Unsupported value: \"Odd\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
            "spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`",
        ],
    );
    ports(
        json!({"port": "http", "endPort": 79}),
        &[
            "spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric",
        ],
    );
    ports(
        json!({"endPort": 79}),
        &[
            "spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified",
        ],
    );
    let to = |peer: Value, want: &[&str]| bad(json!({"egress": [{"to": [peer]}]}), want);
    to(json!({}), &["spec.egress[0].to[0]: Required value: must specify a peer"]);
    to(
        json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
        &["spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer"],
    );
    to(
        json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16", "10.0.0.0/8"]}}),
        &[
            "spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            "spec.egress[0].to[0].ipBlock.except[2]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ],
    );
    bad(
        json!({"policyTypes": ["Odd"]}),
        &[
            "spec.policyTypes[0]: Unsupported value: \"Odd\": supported values: \"Ingress\", \"Egress\"",
        ],
    );
    assert_eq!(valid(GROUP, "NetworkPolicy")["spec"]["policyTypes"], json!(["Ingress"]));
}

#[test]
fn addresses_of_services() {
    let range = |cidrs: Value, want: &[&str]| {
        check(GROUP, "ServiceCIDR", json!({"spec": {"cidrs": cidrs}}), want)
    };
    range(json!([]), &["spec.cidrs: Required value: at least one CIDR required"]);
    range(json!(["10.0.0.0/24", "fd00::/64"]), &[]);
    range(
        json!(["10.0.0.1/24"]),
        &[
            "spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length",
        ],
    );
    range(
        json!(["10.0.0.0/24", "10.1.0.0/24"]),
        &[
            "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP \
         for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    let address = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"parentRef":
        {"resource": "services", "namespace": "ns", "name": "s"}}})
    };
    for (name, want) in [
        ("10.0.0.1", String::new()),
        ("x", "metadata.name: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()),
        ("FD00::1", "metadata.name: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")".into()),
    ] {
        assert_eq!(show(&create(GROUP, "v1", "IPAddress", &address(name))), want);
    }
    let orphan = json!({"metadata": {"name": "10.0.0.1"}, "spec": {}});
    assert_eq!(show(&create(GROUP, "v1", "IPAddress", &orphan)), "spec.parentRef: Required value");
}
