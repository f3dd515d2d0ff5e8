//! `--vip`: an address that the leader's machine has, as a client on the same link sees it while leaders are killed,
//! hung, stopped and cut off. Machines are network namespaces joined by a bridge.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::caller::{Caller, User, call, make_map, watch};
use common::documented::value;
use common::field::Field;
use common::process::{Process, run_to_end};
use common::scratch::Scratch;
use common::{PATIENCE, step, until};
use serde_json::Value;

const V4: &str = "10.0.0.100";
const V6: &str = "fd00::100";
const BOTH: &str = "10.0.0.100,fd00::100";

/// What is promised of a leader that dies or hangs: the median.
const MOVES_WITHIN: Duration = Duration::from_secs(1);

/// The kernel's, of an address that nobody renews, with the second to which it is exact.
const LIFETIME: Duration = Duration::from_secs(4);

const EVENTS: &str = "/api/v1/namespaces/default/events";

/// Masters, each on a machine of its own, and a machine for clients.
struct Vip {
    masters: Vec<Process>,
    field: Field,
    directory: Scratch,
}

fn name(number: usize) -> String {
    format!("m{number}")
}

fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 6443)
}

impl Vip {
    /// With these `--vip`.
    fn start(vips: &[&str], machines: &[&str]) -> Self {
        let directory = Scratch::new("vip");
        let mut all: Vec<String> = (0..vips.len()).map(name).collect();
        all.push("client".to_owned());
        all.extend(machines.iter().map(ToString::to_string));
        let field = Field::new(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let mut vip = Self { masters: Vec::new(), field, directory };
        for (number, addresses) in vips.iter().enumerate() {
            let mut more = vec!["--vip", addresses];
            let token = (number > 0).then(|| {
                vip.quorate(0, &["token", "create", "--role", "server"]).trim().to_owned()
            });
            if let Some(token) = &token {
                more.extend(["--join", "https://10.0.0.10:6443", "--token", token]);
            }
            let process = vip.run(number, &more);
            vip.masters.push(process);
            vip.masters[number].says("ready after");
        }
        vip
    }

    fn data(&self, number: usize) -> PathBuf {
        self.directory.path().join(name(number))
    }

    /// What a master is started with.
    fn run(&self, number: usize, more: &[&str]) -> Process {
        let (name, own) = (name(number), format!("10.0.0.{}", 10 + number));
        let (data, peer) = (self.data(number).display().to_string(), format!("{own}:6444"));
        let kubeconfig = self.directory.path().join("kubeconfig").display().to_string();
        let mut arguments = vec!["server", "--name", &name, "--data", &data];
        if !more.contains(&"--listen") {
            arguments.extend(["--listen", "[::]:6443"]);
        }
        arguments.extend(["--peer-listen", &peer, "--advertise", &own]);
        arguments.extend(["--kubeconfig", &kubeconfig, "--no-backups"]);
        arguments.extend(more);
        let log = self.directory.path().join(format!("{name}.log"));
        let command = self.field.command(&name, env!("CARGO_BIN_EXE_quorate"));
        Process::start_as(&log, command, &arguments, &[])
    }

    /// Starts a master again, and waits until it serves.
    fn again(&mut self, number: usize) {
        self.masters[number] = self.run(number, &["--vip", BOTH]);
        self.masters[number].says_again("ready after");
        until("all three answer", PATIENCE, || {
            let status = self.status(number);
            let masters = status["masters"].as_array().unwrap();
            let level = |master: &Value| master["trailsBy"].as_u64().is_some_and(|lag| lag < 50);
            masters.iter().all(|master| master["answers"] == "yes" && level(master))
        });
    }

    /// Runs a command of the binary on the client's machine, with the data directory of a master.
    fn quorate(&self, number: usize, arguments: &[&str]) -> String {
        let mut command = self.field.command("client", env!("CARGO_BIN_EXE_quorate"));
        command.args(arguments).arg("--data").arg(self.data(number));
        let output = run_to_end(&mut command, b"", PATIENCE);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "quorate {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self, number: usize) -> Value {
        serde_json::from_str(&self.quorate(number, &["status", "-o", "json"])).unwrap()
    }

    /// Number of the master that leads, as an other says.
    fn leader(&self, asked: usize) -> usize {
        let mut leader = None;
        until("a leader is known", PATIENCE, || {
            let status = self.status(asked);
            leader = status["leader"].as_str().and_then(|name| name[1..].parse().ok());
            leader.is_some()
        });
        leader.unwrap()
    }

    /// Waits until one machine has both addresses, and no other any of them.
    fn settled(&self) -> usize {
        let mut holder = None;
        until("one machine has both addresses", PATIENCE, || {
            let (v4, v6) = (self.field.holders(V4), self.field.holders(V6));
            holder = v4.first().filter(|_| v4.len() == 1 && v4 == v6).cloned();
            holder.is_some()
        });
        holder.unwrap()[1..].parse().unwrap()
    }

    /// A user who knows the virtual address and nothing else.
    fn user(&self, ip: &str) -> User {
        let url = format!("https://{}", at(ip));
        let kubeconfig = self.quorate(0, &["kubeconfig", "--server", &url]);
        assert!(kubeconfig.contains(&url), "{kubeconfig}");
        User::new(&kubeconfig)
    }

    fn get(&self, user: &User, path: &str) -> Value {
        let (code, body) = call(&self.field, "client", user, at(V4), ("GET", path), "").unwrap();
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap_or_else(|_| body.into())
    }

    fn signal(&self, number: usize, signal: &str) {
        step(&format!("kill -{signal} {}", name(number)));
        let pid = self.masters[number].pid().to_string();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success()
        );
    }
}

/// The client looks for the address where it was seen last, for longer than any test lasts, unless it is told.
fn believe_for_long(field: &Field) {
    for family in ["ipv4", "ipv6"] {
        for name in ["base_reachable_time_ms=3600000", "delay_first_probe_time=3600"] {
            let setting = format!("net.{family}.neigh.eth0.{name}");
            let mut command = field.command("client", "sysctl");
            assert!(command.args(["-qw", &setting]).status().unwrap().success(), "{setting}");
        }
    }
}

/// What a client sees of one leader's end: the time until it was answered again, and until a write was.
struct Gap {
    any: Duration,
    write: Duration,
}

fn gap(caller: &Caller, from: Instant) -> Gap {
    until("calls and writes are answered again", PATIENCE, || {
        caller.first_after(from, |one| one.began > from && one.wrote).is_some()
    });
    let first =
        |writes: bool| caller.first_after(from, |one| one.began > from && (one.wrote || !writes));
    Gap { any: first(false).unwrap(), write: first(true).unwrap() }
}

fn median(what: &str, gaps: &[Gap]) -> Duration {
    let sorted = |of: fn(&Gap) -> Duration| {
        let mut all: Vec<Duration> = gaps.iter().map(of).collect();
        all.sort();
        all
    };
    let (any, write) = (sorted(|gap| gap.any), sorted(|gap| gap.write));
    step(&format!("{what}: answered again after {any:?}, writes after {write:?}"));
    any[any.len() / 2]
}

/// Three masters, and a client that knows the virtual address and nothing else.
fn three() -> (Vip, User, Caller) {
    let vip = Vip::start(&[BOTH; 3], &[]);
    believe_for_long(&vip.field);
    let first = vip.settled();
    assert_eq!(vip.leader(0), first);
    let user = vip.user(V4);
    make_map(&vip.field, "client", &user, at(V4));
    let caller = Caller::start(&vip.field, "client", &user, at(V4));
    caller.goes_on();
    (vip, user, caller)
}

fn in_time(medians: &[(&str, &[Gap])]) {
    for (what, gaps) in medians {
        let median = median(what, gaps);
        assert!(median < MOVES_WITHIN, "{what}: {median:?}");
    }
}

/// Its machine lives on, and has the address for a moment more: it is the new one's word that counts.
#[test]
fn clients_find_the_next_leader_when_one_is_killed() {
    let (mut vip, user, caller) = three();
    let six = Caller::start(&vip.field, "client", &user, at(V6));
    six.goes_on();
    tells_of_itself(&vip, &user, vip.settled());
    let (mut killed, mut killed_six) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let leader = vip.settled();
        let before = vip.field.neighbour("client", V4);
        assert_eq!(before, Some(vip.field.mac(&name(leader))), "where the client looks for it");
        let from = Instant::now();
        vip.masters[leader].kill_9();
        killed.push(gap(&caller, from));
        killed_six.push(gap(&six, from));
        let now = vip.leader((leader + 1) % 3);
        for address in [V4, V6] {
            let known = vip.field.neighbour("client", address);
            assert_eq!(known, Some(vip.field.mac(&name(now))), "{address}: it was told");
        }
        until("the dead one's machine loses it", LIFETIME, || !vip.field.has(&name(leader), V4));
        vip.again(leader);
    }
    in_time(&[("killed", &killed), ("killed, IPv6", &killed_six)]);
}

/// The kernel takes the address away, and it does not come back with the process.
#[test]
fn clients_find_the_next_leader_when_one_hangs() {
    let (vip, _, caller) = three();
    let mut hung = Vec::new();
    for _ in 0..5 {
        let leader = vip.settled();
        let from = Instant::now();
        vip.signal(leader, "STOP");
        hung.push(gap(&caller, from));
        until("the hung one's machine loses it", LIFETIME, || !vip.field.has(&name(leader), V4));
        let kept = from.elapsed();
        vip.signal(leader, "CONT");
        let now = vip.settled();
        assert_ne!(now, leader);
        let later = Instant::now() + Duration::from_secs(1);
        while Instant::now() < later {
            assert!(!vip.field.has(&name(leader), V4), "it leads no more");
        }
        assert_eq!(vip.field.neighbour("client", V4), Some(vip.field.mac(&name(now))));
        step(&format!("the hung one's machine had it for {kept:?}"));
        caller.goes_on();
    }
    in_time(&[("hung", &hung)]);
}

/// The next one has it about when this one gives it up, and nothing of it is left.
#[test]
fn clients_find_the_next_leader_when_one_stops_or_hands_over() {
    let (mut vip, user, caller) = three();
    let gap = |from, write| Gap { any: caller.longest_gap(from), write };
    let (mut stopped, mut handed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let leader = vip.settled();
        caller.goes_on();
        let watch = watch(&vip.field, "client", &user, at(V4));
        let (from, failed) = (Instant::now(), caller.failed());
        vip.quorate(leader, &["masters", "transfer-leader", &name((leader + 1) % 3)]);
        until("the other has it", PATIENCE, || vip.settled() == (leader + 1) % 3);
        caller.goes_on();
        handed.push(gap(from, Duration::ZERO));
        // Otherwise it would wait for ever: nothing that it says or hears finds its way.
        let ended = watch.recv_timeout(PATIENCE).expect("the watch is ended, to begin anew");
        step(&format!("a watch was ended after {:?}", ended - from));
        step(&format!("handed over: {} calls failed", caller.failed() - failed));
    }
    for _ in 0..3 {
        let leader = vip.settled();
        caller.goes_on();
        let (from, failed) = (Instant::now(), caller.failed());
        assert!(vip.masters[leader].stop().success());
        let took = from.elapsed();
        assert!(!vip.field.has(&name(leader), V4) && !vip.field.has(&name(leader), V6));
        caller.goes_on();
        stopped.push(gap(from, took));
        step(&format!("stopped: {} calls failed", caller.failed() - failed));
        vip.again(leader);
    }
    in_time(&[("handed over", &handed), ("stopped, in the time behind", &stopped)]);
    drop(caller);
    for number in [1, 2, 0] {
        assert!(vip.masters[number].stop().success());
        assert!(!vip.field.has(&name(number), V4), "nothing is left");
    }
    assert!(vip.field.holders(V4).is_empty() && vip.field.holders(V6).is_empty());
}

/// With its link up, so that nothing tells it: it gives the address up by itself.
#[test]
fn a_leader_that_is_cut_off_gives_the_address_up() {
    let (vip, _, caller) = three();
    let mut cut = Vec::new();
    for _ in 0..3 {
        let leader = vip.settled();
        caller.goes_on();
        vip.field.cut(&name(leader), true);
        let from = Instant::now();
        let gives_up = "the one that is cut off gives it up";
        until(gives_up, LIFETIME, || !vip.field.has(&name(leader), V4));
        step(&format!("the one that was cut off had it for {:?}", from.elapsed()));
        cut.push(gap(&caller, from));
        vip.field.cut(&name(leader), false);
        assert_ne!(vip.settled(), leader);
    }
    in_time(&[("cut off", &cut)]);
}

/// On its own machine it is asked all the while. A write that it did not answer is not done later: it was never sent.
#[test]
fn who_is_cut_off_knows_no_leader_and_takes_nothing() {
    let (vip, user, _) = three();
    let leader = vip.settled();
    for cut in [(leader + 1) % 3, leader] {
        let own = at(&format!("10.0.0.{}", 10 + cut));
        let ask = |what: (&str, &str), body: &str| {
            call(&vip.field, &name(cut), &user, own, what, body).unwrap()
        };
        let metric = |of: &str| {
            let (code, metrics) = ask(("GET", "/metrics"), "");
            assert_eq!(code, 200, "{metrics}");
            value(&metrics, of)
        };
        let map = |name: &str| format!(r#"{{"metadata": {{"name": "{name}-{cut}"}}}}"#);
        vip.field.cut(&name(cut), true);
        until("it knows of no leader", PATIENCE, || metric("quorate_raft_has_leader") == Some(0.0));
        assert_eq!(metric("quorate_raft_is_leader"), Some(0.0));
        let (code, ready) = ask(("GET", "/readyz?verbose"), "");
        assert_eq!(code, 500, "{ready}");
        assert!(ready.contains("[-]leader failed"), "{ready}");
        let path = "/api/v1/namespaces/default/configmaps";
        let (code, said) = ask(("POST", &format!("{path}?timeout=2s")), &map("late"));
        assert_eq!(code, 504, "{said}");
        vip.field.cut(&name(cut), false);
        until("it follows a leader again", PATIENCE, || {
            metric("quorate_raft_has_leader") == Some(1.0)
        });
        let (code, said) = ask(("POST", path), &map("after"));
        assert_eq!(code, 201, "{said}");
        let (code, said) = ask(("GET", &format!("{path}/late-{cut}")), "");
        assert_eq!(code, 404, "{said}");
    }
}

/// Status, events, metrics: through the address itself.
fn tells_of_itself(vip: &Vip, user: &User, leader: usize) {
    let status = vip.quorate(0, &["status"]);
    let line = format!("\n{V4} is held by {}\n", name(leader));
    assert!(status.contains(&line) && status.contains("no alarms"), "{status}");
    let wide = vip.quorate(0, &["masters", "list", "-o", "wide"]);
    assert!(wide.contains(BOTH), "{wide}");
    let wanted = format!("{} holds the virtual address {V4}", name(leader));
    until("an event says who has it", PATIENCE, || {
        let events = vip.get(user, EVENTS);
        events["items"].as_array().unwrap().iter().any(|event| event["message"] == wanted.as_str())
    });
    until("its object says so, too", PATIENCE, || {
        let object = vip.get(user, &format!("/apis/quorate.io/v1/masters/{}", name(leader)));
        object["status"]["virtualAddresses"] == serde_json::json!([V4, V6])
    });
    let metrics = vip.get(user, "/metrics");
    let metrics = metrics.as_str().unwrap();
    assert_eq!(value(metrics, "quorate_vip_held"), Some(2.0), "{metrics}");
    assert_eq!(value(metrics, "quorate_alarm{alarm=\"VIP\"}"), Some(0.0), "{metrics}");
}

#[test]
fn an_address_that_somebody_else_has_is_not_taken() {
    // Nobody knows of it until it is asked for.
    let directory = Scratch::new("vip-taken");
    let field = Field::new(&["m0", "client", "stranger"]);
    field.ip("stranger", &format!("addr add {V4}/24 dev eth0"));
    field.ip("stranger", &format!("addr add {V6}/64 dev eth0 nodad"));
    let mut vip = Vip { masters: Vec::new(), field, directory };
    let process = vip.run(0, &["--vip", BOTH]);
    vip.masters.push(process);
    vip.masters[0].says("ready after");
    vip.masters[0].says(&format!("{}, which is no master", vip.field.mac("stranger")));
    until("both are refused, and the status says so", PATIENCE, || {
        let status = vip.status(0);
        vip.masters[0].text().matches("which is no master").count() == 2
            && status["alarms"].to_string().contains("used by another host")
    });
    assert_eq!(vip.field.holders(V4), ["stranger"]);

    step("the stranger goes");
    vip.field.ip("stranger", &format!("addr del {V4}/24 dev eth0"));
    vip.field.ip("stranger", &format!("addr del {V6}/64 dev eth0"));
    assert_eq!(vip.settled(), 0);
    until("the alarm is over", PATIENCE, || vip.status(0)["alarms"].as_array().unwrap().is_empty());

    step("another one comes, and says that it has it");
    vip.field.ip("stranger", &format!("addr add {V4}/24 dev eth0"));
    let mut announces = vip.field.command("stranger", "sysctl");
    announces.args(["-qw", "net.ipv4.conf.eth0.arp_notify=1"]);
    assert!(announces.status().unwrap().success());
    vip.field.ip("stranger", "link set eth0 address 02:00:00:00:00:77");
    vip.masters[0].says("02:00:00:00:00:77, which is no master");
    until("the alarm is back", PATIENCE, || {
        vip.status(0)["alarms"].to_string().contains("used by another host")
    });
    assert!(vip.field.has("m0", V4), "the leader defends it");
}

/// The kernel keeps the address there all the same.
#[test]
fn a_link_without_carrier_is_an_alarm_until_it_is_back() {
    let mut vip = Vip::start(&[V4], &[]);
    until("it is held", PATIENCE, || vip.field.has("m0", V4));
    step("the cable is pulled");
    vip.field.ip("switch", "link set m0 down");
    vip.masters[0].says("eth0 is down, or has no carrier");
    assert!(vip.field.has("m0", V4));
    vip.field.ip("switch", "link set m0 up");
    until("the alarm is over", PATIENCE, || vip.status(0)["alarms"].as_array().unwrap().is_empty());
}

#[test]
fn what_cannot_work_is_refused_at_the_start_and_differences_are_told() {
    let mut vip = Vip::start(&[BOTH, V4, BOTH], &[]);
    let alarm = |vip: &Vip| vip.status(0)["alarms"].to_string().contains("not the same on all");
    until("the difference is an alarm", PATIENCE, || alarm(&vip));
    vip.masters[0].says("m1 has 10.0.0.100");
    assert!(vip.masters[1].stop().success());
    vip.again(1);
    until("the alarm is over", PATIENCE, || !alarm(&vip));

    assert!(vip.masters[1].stop().success());
    vip.masters[1] = vip.run(1, &["--vip", BOTH, "--listen", "[::]:7443"]);
    vip.masters[0].says("others are at 10.0.0.11:7443");
    assert!(vip.masters[1].stop().success());
    step("a process that was killed has left an address, and another cluster has one here");
    for left in [V4, "10.0.0.99"] {
        let left =
            format!("addr add {left}/32 dev eth0 valid_lft 600 preferred_lft 0 label eth0:qvip");
        vip.field.ip("m1", &left);
    }
    vip.again(1);
    assert!(!vip.field.has("m1", V4), "what was left is gone");
    assert!(vip.field.has("m1", "10.0.0.99"), "what is not ours stays");
    until("that is over, too", PATIENCE, || !alarm(&vip));

    let refused = |vip: &Vip, wrapped: &[&str], more: &[&str]| {
        let data = vip.directory.path().join("x").display().to_string();
        let mut command = vip.field.command("client", wrapped[0]);
        command.args(&wrapped[1..]).args(["server", "--name", "x", "--data", &data]);
        command.args(["--advertise", "10.0.0.13"]).args(more);
        let output = run_to_end(&mut command, b"", PATIENCE);
        assert!(!output.status.success(), "{more:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let binary = env!("CARGO_BIN_EXE_quorate");
    let said = refused(
        &vip,
        &["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", binary],
        &["--vip", V4],
    );
    assert!(said.contains("lacks CAP_NET_ADMIN") && said.contains("AmbientCapabilities"), "{said}");
    let own = |vip: &Vip, more: &[&str]| refused(vip, &[binary], more);
    let said = own(&vip, &["--vip", V6]);
    assert!(said.contains("Give --listen [::]:6443"), "{said}");
    let said = own(&vip, &["--vip", V4, "--vip-interface", "eth7"]);
    assert!(said.contains("eth7 is not there"), "{said}");
    let said = own(&vip, &["--vip", V4, "--vip-interface", "lo"]);
    assert!(said.contains("lo is not an Ethernet interface"), "{said}");
    vip.field.ip("client", &format!("addr add {V4}/24 dev eth0"));
    let said = own(&vip, &["--vip", V4]);
    assert!(said.contains("this machine has that address for good"), "{said}");
    vip.field.ip("client", &format!("addr del {V4}/24 dev eth0"));
    let leased = format!("addr add {V4}/24 dev eth0 valid_lft 600 preferred_lft 300");
    vip.field.ip("client", &leased);
    let said = own(&vip, &["--vip", V4]);
    assert!(said.contains("from elsewhere, for a time (DHCP?)"), "{said}");
}
