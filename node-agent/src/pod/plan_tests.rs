//! Stories of plans: each line is a pod, what the runtime shows of it, and what should happen next.

use serde_json::json;

use super::*;
use crate::pod::backoff::{Backoff, after};
use crate::pod::observed::SandboxView;
use crate::runtime::Container as Listed;

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn pod(policy: &str, init: &[&str], main: &[&str]) -> Pod {
    let container = |name: &&str| match name.strip_suffix('*') {
        Some(name) => json!({"name": name, "restartPolicy": "Always"}),
        None => json!({"name": name}),
    };
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {
            "restartPolicy": policy,
            "initContainers": init.iter().map(container).collect::<Vec<_>>(),
            "containers": main.iter().map(container).collect::<Vec<_>>(),
        }
    }))
    .unwrap()
}

/// `a+` runs, `a.` is created, `a?` is unknown, `a0` ended with 0, `a7` with 7; a second digit string after `#` is the
/// attempt. `S` is a ready sandbox, `s` a dead one.
fn observed(text: &str) -> Observed {
    let mut observed = Observed::default();
    for (index, word) in text.split_whitespace().enumerate() {
        if word == "S" || word == "s" {
            let attempt = u32::try_from(observed.sandboxes.len()).unwrap();
            observed.sandboxes.push(SandboxView {
                id: SandboxId(format!("sandbox-{attempt}")),
                attempt,
                ready: word == "S",
                ips: Vec::new(),
            });
            continue;
        }
        let (word, attempt) = word.split_once('#').unwrap_or((word, "0"));
        let (name, state) = word.split_at(1);
        let (state, exit_code) = match state {
            "+" => (ContainerState::Running, 0),
            "." => (ContainerState::Created, 0),
            "?" => (ContainerState::Unknown, 0),
            code => (ContainerState::Exited, code.parse().unwrap()),
        };
        let sandbox = observed.sandboxes.last().map(|sandbox| sandbox.id.clone());
        observed.containers.push(ContainerStatus {
            container: Listed {
                id: ContainerId(format!("id-{name}-{index}")),
                sandbox_id: sandbox.unwrap_or(SandboxId(String::new())),
                name: name.to_owned(),
                attempt: attempt.parse().unwrap(),
                image_ref: String::new(),
                state,
                created_at: time(-60),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
            },
            started_at: Some(time(-60)),
            finished_at: Some(time(0)),
            exit_code,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_id: String::new(),
            log_path: std::path::PathBuf::new(),
        });
    }
    observed.sort();
    observed
}

fn show(plan: &Plan) -> String {
    let mut words: Vec<String> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::StopSandbox(id) => format!("stop {id}"),
            Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
            Action::Start { name, attempt } => format!("start {name}#{attempt}"),
            Action::Kill { name, .. } => format!("kill {name}"),
            Action::Remove(id) => format!("remove {id}"),
            Action::Resize { name, .. } => format!("resize {name}"),
        })
        .collect();
    words.extend(plan.waiting.iter().map(|(name, waiting)| format!("{name}: {}", waiting.reason)));
    if plan.finished {
        words.push("finished".to_owned());
    }
    words.join(", ")
}

fn started(observed: &Observed) -> Memory {
    let started = observed.containers.iter().map(|status| status.container.id.clone()).collect();
    Memory { started, ..Memory::default() }
}

#[test]
fn what_comes_next() {
    for (policy, init, main, shown, expected) in [
        ("Always", &[][..], &["a"][..], "", "sandbox 0"),
        ("Always", &[], &["a", "b"], "S", "start a#0, start b#0"),
        ("Always", &[], &["a", "b"], "S a+ b+", ""),
        ("Always", &[], &["a"], "S a0", "start a#1"),
        ("Always", &[], &["a"], "S a7#4", "start a#5"),
        ("OnFailure", &[], &["a"], "S a7", "start a#1"),
        ("OnFailure", &[], &["a"], "S a0", "finished"),
        ("Never", &[], &["a"], "S a7", "finished"),
        ("Never", &[], &["a", "b"], "S a7 b+", ""),
        ("OnFailure", &[], &["a", "b"], "S a0 b3", "start b#1"),
        // Init containers, one after another.
        ("Always", &["i", "j"], &["a"], "S", "start i#0"),
        ("Always", &["i", "j"], &["a"], "S i+", ""),
        ("Always", &["i", "j"], &["a"], "S i0", "start j#0"),
        ("Always", &["i", "j"], &["a"], "S i0 j0", "start a#0"),
        ("Always", &["i"], &["a"], "S i1", "start i#1"),
        ("Never", &["i"], &["a"], "S i1", "finished"),
        ("Always", &["i"], &["a"], "S i0 a+", ""),
        // Once the main containers ran, init containers are history.
        ("Always", &["i"], &["a"], "S a+", ""),
        // A sidecar runs on, and does not keep the pod from ending.
        ("Always", &["i*"], &["a"], "S i+", "start a#0"),
        ("Always", &["i*"], &["a"], "S i5 a+", "start i#1"),
        ("Never", &["i*"], &["a"], "S i+ a0", "finished"),
        // The sandbox died: a new one, and everything runs again, init containers too.
        ("Always", &["i"], &["a"], "s i0 a+", "stop sandbox-0, sandbox 1"),
        ("Always", &["i"], &["a"], "s i0 a137 S", "start i#1"),
        ("Never", &[], &["a"], "s a+", "finished"),
        ("Never", &[], &["a"], "s a0", "finished"),
        // Two live sandboxes: the older goes.
        ("Always", &[], &["a"], "S S a+", "stop sandbox-0"),
        // A container that was made and never started; one that the runtime lost.
        ("Always", &[], &["a"], "S a.", "remove id-a-1, start a#1"),
        ("Always", &[], &["a"], "S a?", "kill a, start a#1"),
    ] {
        let (pod, observed) = (pod(policy, init, main), observed(shown));
        let plan = plan(&pod, &observed, &started(&observed), time(1));
        assert_eq!(show(&plan), expected, "{policy} {init:?} {main:?} {shown:?}");
    }
}

#[test]
fn a_sidecar_holds_the_others_until_it_is_started() {
    let pod = pod("Always", &["i*", "j"], &["a"]);
    let shown = observed("S i+");
    assert_eq!(show(&plan(&pod, &shown, &Memory::default(), time(1))), "");
    assert_eq!(show(&plan(&pod, &shown, &started(&shown), time(1))), "start j#0");
}

#[test]
fn crashes_wait_longer_and_longer() {
    let (pod, observed) = (pod("Always", &[], &["a"]), observed("S a1#2"));
    let backoff = Backoff { delay: std::time::Duration::from_secs(20), updated: time(-30) };
    let mut memory = started(&observed);
    memory.backoff.insert("a".to_owned(), backoff);
    let waiting = plan(&pod, &observed, &memory, time(5));
    assert_eq!(show(&waiting), "a: CrashLoopBackOff");
    assert_eq!(waiting.wake_at, Some(after(time(0), backoff.delay)));
    assert_eq!(
        waiting.waiting["a"].message,
        "back-off 20s restarting failed container=a pod=p_ns(u)"
    );
    assert_eq!(show(&plan(&pod, &observed, &memory, time(20))), "start a#3");
    // Another image has not crashed yet.
    let mut observed = observed;
    let annotations = &mut observed.containers[0].container.annotations;
    annotations.insert(labels::IMAGE.to_owned(), "old".to_owned());
    assert_eq!(show(&plan(&pod, &observed, &memory, time(5))), "start a#3");
}

#[test]
fn an_unhealthy_container_is_killed_and_a_failed_start_waits() {
    let pod = pod("Always", &[], &["a", "b"]);
    let shown = observed("S a+");
    let mut memory = started(&shown);
    memory.unhealthy.insert(ContainerId("id-a-1".to_owned()), Kind::Liveness);
    let waiting = Waiting { reason: "ErrImagePull".to_owned(), message: String::new() };
    memory.failures.insert("b".to_owned(), Failure { waiting, retry_at: time(9), image: None });
    let early = plan(&pod, &shown, &memory, time(1));
    assert_eq!(
        (show(&early).as_str(), early.wake_at),
        ("kill a, start a#1, b: ErrImagePull", Some(time(9)))
    );
    assert_eq!(show(&plan(&pod, &shown, &memory, time(9))), "kill a, start a#1, start b#0");
}

#[test]
fn what_a_failed_probe_means_for_each_policy() {
    for (policy, expected, message) in [
        ("Always", "kill a, start a#1", "Container a failed liveness probe, will be restarted"),
        ("OnFailure", "kill a, start a#1", "Container a failed liveness probe, will be restarted"),
        ("Never", "kill a", "Container a failed liveness probe"),
    ] {
        let (mut pod, shown) = (pod(policy, &[], &["a"]), observed("S a+"));
        let probe = json!({"terminationGracePeriodSeconds": 7});
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        container.liveness_probe = serde_json::from_value(probe).unwrap();
        let mut memory = started(&shown);
        memory.unhealthy.insert(ContainerId("id-a-1".to_owned()), Kind::Liveness);
        let plan = plan(&pod, &shown, &memory, time(1));
        assert_eq!(show(&plan), expected, "{policy}");
        let Action::Kill { message: said, grace, .. } = &plan.actions[0] else { panic!() };
        assert_eq!((said.as_str(), grace.as_secs()), (message, 7));
    }
    // The third time within the back-off it waits.
    let (pod, shown) = (pod("Always", &[], &["a"]), observed("S a1#1 a+#2"));
    let mut memory = started(&shown);
    let delay = std::time::Duration::from_secs(20);
    memory.backoff.insert("a".to_owned(), Backoff { delay, updated: time(0) });
    memory.unhealthy.insert(ContainerId("id-a-2".to_owned()), Kind::Liveness);
    assert_eq!(show(&plan(&pod, &shown, &memory, time(1))), "kill a");
}

#[test]
fn a_changed_text_reaches_a_running_container() {
    let (mut pod, mut shown) = (pod("Never", &[], &["a"]), observed("S a+"));
    let given = json!({"limits": {"cpu": "1"}}).to_string();
    let annotations = &mut shown.containers[0].container.annotations;
    annotations.insert(labels::IMAGE.to_owned(), "one".to_owned());
    annotations.insert(labels::RESOURCES.to_owned(), given);
    let set = |pod: &mut Pod, text: serde_json::Value| {
        pod.spec.as_mut().unwrap().containers[0] = serde_json::from_value(text).unwrap();
    };
    let next = |pod: &Pod, memory: &Memory| show(&plan(pod, &shown, memory, time(1)));
    let mut memory = started(&shown);
    for (text, expected) in [
        (json!({"name": "a", "image": "one", "resources": {"limits": {"cpu": "1"}}}), ""),
        (json!({"name": "a", "image": "one", "resources": {"limits": {"cpu": "1000m"}}}), ""),
        (json!({"name": "a", "image": "one", "resources": {"limits": {"cpu": "2"}}}), "resize a"),
        (
            json!({"name": "a", "image": "one", "resources": {"limits": {"cpu": "2"}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}),
            "kill a, start a#1",
        ),
        (
            json!({"name": "a", "image": "two", "resources": {"limits": {"cpu": "1"}}}),
            "kill a, start a#1",
        ),
    ] {
        set(&mut pod, text.clone());
        assert_eq!(next(&pod, &memory), expected, "{text}");
    }
    set(&mut pod, json!({"name": "a", "image": "one", "resources": {"limits": {"cpu": "2"}}}));
    memory.resize_refused = true;
    assert_eq!(next(&pod, &memory), "");
}
