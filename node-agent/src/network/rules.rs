//! The nftables rules of one agent, as JSON for `nft -j -f -`: one table, replaced as a whole in one transaction.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use crate::runtime::Protocol;

/// A cluster IP and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRule {
    /// The service's address.
    pub cluster_ip: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Ready endpoints; none: connections are refused.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
}

/// A pod's port on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Sandbox id.
    pub pod: String,
    /// Transport.
    pub protocol: Protocol,
    /// Only on this address of the host.
    pub host_ip: Option<Ipv4Addr>,
    /// Port of the host.
    pub host_port: u16,
    /// The pod.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// What the rules are made from.
#[derive(Debug)]
pub struct Input<'a> {
    /// Name of the table.
    pub table: &'a str,
    /// Name of the bridge.
    pub bridge: &'a str,
    /// The node's pod CIDR.
    pub cidr: Option<Ipv4Net>,
    /// Published ports.
    pub host_ports: &'a [HostPort],
    /// Services.
    pub services: &'a [ServiceRule],
}

struct Table<'a> {
    name: &'a str,
    commands: Vec<Value>,
}

impl Table<'_> {
    fn base_chain(&mut self, name: &str, kind: &str, hook: &str, priority: i32) {
        let (family, table) = ("ip", self.name);
        self.commands
            .push(json!({"add": {"chain": {"family": family, "table": table, "name": name,
            "type": kind, "hook": hook, "prio": priority, "policy": "accept"}}}));
    }

    fn chain(&mut self, name: &str) {
        self.commands
            .push(json!({"add": {"chain": {"family": "ip", "table": self.name, "name": name}}}));
    }

    fn rule(&mut self, chain: &str, expressions: Vec<Value>) {
        self.commands
            .push(json!({"add": {"rule": {"family": "ip", "table": self.name, "chain": chain,
            "expr": expressions}}}));
    }
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn is(left: Value, right: Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn is_not(left: Value, right: Value) -> Value {
    json!({"match": {"op": "!=", "left": left, "right": right}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn prefix(net: Ipv4Net) -> Value {
    json!({"prefix": {"addr": net.network().to_string(), "len": net.prefix_len()}})
}

fn transport(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn dnat((address, port): (Ipv4Addr, u16)) -> Value {
    json!({"dnat": {"addr": address.to_string(), "port": port}})
}

/// Removes the table, whether or not it is there.
pub fn removal(table: &str) -> String {
    json!({"nftables": [
        {"add": {"table": {"family": "ip", "name": table}}},
        {"delete": {"table": {"family": "ip", "name": table}}},
    ]})
    .to_string()
}

/// The whole table.
pub fn render(input: &Input<'_>) -> String {
    let table = json!({"family": "ip", "name": input.table});
    let mut out = Table {
        name: input.table,
        // Adding first makes the deletion succeed on a fresh host.
        commands: vec![
            json!({"add": {"table": table}}),
            json!({"delete": {"table": table}}),
            json!({"add": {"table": table}}),
        ],
    };
    out.base_chain("raw", "filter", "prerouting", -300);
    out.base_chain("prerouting", "nat", "prerouting", -100);
    out.base_chain("output", "nat", "output", -100);
    out.base_chain("postrouting", "nat", "postrouting", 100);
    out.base_chain("refuse-forward", "filter", "forward", 0);
    out.base_chain("refuse-output", "filter", "output", 0);
    // Pods must not reach the host's loopback by its address, though the bridge may route it for services.
    let loopback = json!({"prefix": {"addr": "127.0.0.0", "len": 8}});
    let from_bridge = is(meta("iifname"), json!(input.bridge));
    out.rule(
        "raw",
        vec![from_bridge, is(payload("ip", "daddr"), loopback.clone()), json!({"drop": null})],
    );
    services(&mut out, input);
    host_ports(&mut out, input.host_ports);
    masquerade(&mut out, input, loopback);
    json!({"nftables": out.commands}).to_string()
}

fn services(out: &mut Table<'_>, input: &Input<'_>) {
    let services = input.services;
    out.chain("services");
    let jump = json!({"jump": {"target": "services"}});
    out.rule("output", vec![jump.clone()]);
    // Pods of another cluster on this host have services of their own, perhaps with the same addresses. Where pods
    // use a network that is not ours, any interface may be theirs.
    let from_pods = input.cidr.map(|_| is(meta("iifname"), json!(input.bridge)));
    out.rule("prerouting", from_pods.into_iter().chain([jump]).collect());
    let key = json!({"concat": [payload("ip", "daddr"), meta("l4proto"), payload("th", "dport")]});
    let element = |s: &ServiceRule| json!({"concat": [s.cluster_ip.to_string(), transport(s.protocol), s.port]});
    let mut targets = Vec::new();
    for (number, service) in services.iter().enumerate() {
        if service.endpoints.is_empty() {
            continue;
        }
        let chain = format!("service-{number}");
        out.chain(&chain);
        let count = service.endpoints.len();
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            let left = count - index;
            let mut expressions = Vec::new();
            if left > 1 {
                // One of those that are left, each with the same chance.
                let draw = json!({"numgen": {"mode": "random", "mod": left, "offset": 0}});
                expressions.push(is(draw, json!(0)));
            }
            // The protocol must be named again: a chain on its own does not know how it was reached.
            expressions.insert(0, is(meta("l4proto"), json!(transport(service.protocol))));
            expressions.push(dnat(*endpoint));
            out.rule(&chain, expressions);
        }
        targets.push(json!([element(service), {"goto": {"target": chain}}]));
    }
    if !targets.is_empty() {
        out.rule("services", vec![json!({"vmap": {"key": key, "data": {"set": targets}}})]);
    }
    let refused: Vec<Value> =
        services.iter().filter(|s| s.endpoints.is_empty()).map(element).collect();
    if !refused.is_empty() {
        for chain in ["refuse-forward", "refuse-output"] {
            let matched = is(key.clone(), json!({"set": refused}));
            out.rule(
                chain,
                vec![matched, json!({"reject": {"type": "icmp", "expr": "port-unreachable"}})],
            );
        }
    }
}

fn host_ports(out: &mut Table<'_>, ports: &[HostPort]) {
    for port in ports {
        for chain in ["prerouting", "output"] {
            let local = json!({"fib": {"result": "type", "flags": ["daddr"]}});
            let mut expressions = vec![is(local, json!("local"))];
            if let Some(address) = port.host_ip.filter(|address| !address.is_unspecified()) {
                expressions.push(is(payload("ip", "daddr"), json!(address.to_string())));
            }
            expressions.push(is(payload(transport(port.protocol), "dport"), json!(port.host_port)));
            expressions.push(dnat((port.address, port.port)));
            out.rule(chain, expressions);
        }
    }
}

fn masquerade(out: &mut Table<'_>, input: &Input<'_>, loopback: Value) {
    let Some(cidr) = input.cidr else { return };
    let to_bridge = is(meta("oifname"), json!(input.bridge));
    let masquerade = json!({"masquerade": null});
    // From the host's loopback through a published port or a service into a pod.
    let from_loopback = is(payload("ip", "saddr"), loopback);
    out.rule("postrouting", vec![to_bridge.clone(), from_loopback, masquerade.clone()]);
    // A pod that reaches itself through a service would otherwise see its own address on a packet from outside.
    let translated =
        json!({"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}});
    let from_pods = is(payload("ip", "saddr"), prefix(cidr));
    out.rule("postrouting", vec![to_bridge, from_pods.clone(), translated, masquerade.clone()]);
    let leaves = is_not(payload("ip", "daddr"), prefix(cidr));
    // Another agent's bridge on this host is no way out: pods see each other's own addresses.
    let not_bridge = is_not(meta("oifname"), json!("qbr*"));
    out.rule("postrouting", vec![from_pods, leaves, not_bridge, masquerade]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input<'a>(services: &'a [ServiceRule], host_ports: &'a [HostPort]) -> Input<'a> {
        let cidr = Some("10.244.3.0/24".parse().unwrap());
        Input { table: "quorate-test", bridge: "qbrtest", cidr, host_ports, services }
    }

    fn examples() -> (Vec<ServiceRule>, Vec<HostPort>) {
        let ip = |text: &str| -> Ipv4Addr { text.parse().unwrap() };
        let service = |last: u8, endpoints: Vec<(Ipv4Addr, u16)>| ServiceRule {
            cluster_ip: Ipv4Addr::new(10, 96, 0, last),
            port: 443,
            protocol: Protocol::Tcp,
            endpoints,
        };
        let endpoints =
            vec![(ip("192.0.2.1"), 6443), (ip("192.0.2.2"), 6443), (ip("127.0.0.1"), 6443)];
        let port = HostPort {
            pod: "p".into(),
            protocol: Protocol::Udp,
            host_ip: None,
            host_port: 8053,
            address: ip("10.244.3.7"),
            port: 53,
        };
        (vec![service(1, endpoints), service(2, Vec::new())], vec![port])
    }

    #[test]
    fn endpoints_have_equal_chances_and_none_means_refused() {
        let (services, ports) = examples();
        let text = render(&input(&services, &ports));
        assert!(
            text.contains(r#""mod":3"#)
                && text.contains(r#""mod":2"#)
                && !text.contains(r#""mod":1"#)
        );
        assert!(text.contains("port-unreachable"));
        assert!(!render(&input(&[], &[])).contains("port-unreachable"));
    }

    #[test]
    fn services_answer_our_own_pods_alone() {
        let (services, _) = examples();
        let jumps = |cidr: Option<Ipv4Net>| -> Vec<String> {
            let rules: Value =
                serde_json::from_str(&render(&Input { cidr, ..input(&services, &[]) })).unwrap();
            let rules = rules["nftables"].as_array().unwrap().clone();
            let rules = rules.into_iter().map(|rule| rule["add"]["rule"].clone());
            let found = rules.filter(|rule| {
                rule["chain"] == "prerouting" && rule["expr"].to_string().contains("services")
            });
            found.map(|rule| rule["expr"].to_string()).collect()
        };
        let own = jumps(Some("10.244.3.0/24".parse().unwrap()));
        assert!(own.len() == 1 && own[0].contains("qbrtest"), "{own:?}");
        let any = jumps(None);
        assert!(any.len() == 1 && !any[0].contains("qbrtest"), "{any:?}");
    }

    /// The real `nft` takes what we render (`-c` checks without changing anything).
    #[test]
    fn nft_accepts_the_rules() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let (services, ports) = examples();
        for rules in
            [render(&input(&services, &ports)), render(&input(&[], &[])), removal("quorate-test")]
        {
            let spawned = Command::new("nft")
                .args(["-c", "-j", "-f", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            let Ok(mut child) = spawned else {
                eprintln!("SKIPPED nft_accepts_the_rules: nft is not installed");
                return;
            };
            if !rustix::process::geteuid().is_root() {
                eprintln!("SKIPPED nft_accepts_the_rules: needs root");
                return;
            }
            child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{error}\n{rules}");
        }
    }
}
