//! What a container may do: system call filters, capabilities, users, devices, kernel parameters.

use std::time::Duration;

use quorate_node_agent::runtime::{ContainerConfig, Error, Runtime, SecurityProfile};

use crate::world::{World, can_run};

/// What a process says of its own rights, one line each.
const RIGHTS: &str = "grep -E '^(Cap|NoNewPrivs:|Seccomp:)' /proc/self/status";

fn confined(script: &str, seccomp: SecurityProfile) -> ContainerConfig {
    let mut config = World::shell(script);
    config.security.seccomp = seccomp;
    config
}

async fn rights(world: &World, name: &str, config: &ContainerConfig) -> Vec<(String, String)> {
    let (status, log) = world.output(name, config).await;
    assert_eq!(status.exit_code, 0, "{} {log:?}", status.message);
    let pairs = log.iter().filter_map(|line| line.strip_prefix("stdout F ")?.split_once(":\t"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn value<'a>(rights: &'a [(String, String)], name: &str) -> &'a str {
    rights.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_profile_refuses_what_an_unconfined_container_may_do() {
    if !can_run("the_default_profile_refuses_what_an_unconfined_container_may_do") {
        return;
    }
    let world = World::new(20).await;
    // New user namespaces need no capability: only the filter forbids them.
    let script = "unshare -U true && echo made; mkdir /ok && echo ok; sleep 1000";
    let free = confined(script, SecurityProfile::Unconfined);
    let (_, free) = world.run("free", &free).await;
    world.said(&free, "stdout F made").await;
    let strict = confined(script, SecurityProfile::RuntimeDefault);
    let (_, strict) = world.run("strict", &strict).await;
    world.said(&strict, "stdout F ok").await;
    let refused = world.said(&strict, "stderr F unshare").await;
    assert!(refused.contains("Operation not permitted"), "{refused}");
    // What is executed in it later is under the same filter.
    let (code, text) = world.sh(&strict, "unshare -U true").await;
    assert!(code != 0 && text.contains("Operation not permitted"), "{code} {text}");
    assert_eq!(world.sh(&free, "unshare -U true").await, (0, String::new()));
    let (_, text) = world.sh(&strict, "grep Seccomp: /proc/self/status").await;
    assert_eq!(text, "Seccomp:\t2\n");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_leaves_capabilities_and_privileges_as_they_were() {
    if !can_run("a_filter_leaves_capabilities_and_privileges_as_they_were") {
        return;
    }
    let world = World::new(21).await;
    for user in [0, 1000] {
        let mut config = confined(RIGHTS, SecurityProfile::Unconfined);
        config.security.run_as_user = Some(user);
        let free = rights(&world, &format!("free{user}"), &config).await;
        config.security.seccomp = SecurityProfile::RuntimeDefault;
        let filtered = rights(&world, &format!("filtered{user}"), &config).await;
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"] {
            assert_eq!(value(&free, name), value(&filtered, name), "{name} of user {user}");
        }
        assert_eq!((value(&free, "Seccomp"), value(&filtered, "Seccomp")), ("0", "2"));
        assert_eq!(value(&filtered, "NoNewPrivs"), "0");
    }
    // The `restricted` standard.
    let mut config = confined(RIGHTS, SecurityProfile::RuntimeDefault);
    config.security.run_as_user = Some(1000);
    config.security.no_new_privs = true;
    config.security.drop_capabilities = vec!["ALL".into()];
    let restricted = rights(&world, "restricted", &config).await;
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(value(&restricted, name), "0000000000000000", "{name}");
    }
    assert_eq!((value(&restricted, "Seccomp"), value(&restricted, "NoNewPrivs")), ("2", "1"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_of_the_host_is_applied_or_refused() {
    if !can_run("a_profile_of_the_host_is_applied_or_refused") {
        return;
    }
    let world = World::new(22).await;
    let path = world.dir.path().join("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    std::fs::write(&path, profile).unwrap();
    let local = SecurityProfile::Localhost(path.display().to_string());
    let (status, log) =
        world.output("local", &confined("touch /x && mkdir /d; exit 4", local.clone())).await;
    assert_eq!(status.exit_code, 4);
    assert!(log[0].contains("No space left on device"), "{log:?}");
    // A list of what is allowed, without the call that would install a second filter.
    let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": [
        "execve", "brk", "mmap", "mprotect", "munmap", "arch_prctl", "set_tid_address", "set_robust_list", "rseq",
        "prlimit64", "readlink", "readlinkat", "getrandom", "newfstatat", "fstat", "write", "exit_group", "exit",
        "getuid", "getgid", "setuid", "setgid", "prctl", "rt_sigaction", "rt_sigprocmask", "uname", "ioctl"]},
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}"#;
    std::fs::write(&path, profile).unwrap();
    let mut config = confined("", local.clone());
    config.command = ["echo", "said"].map(str::to_owned).to_vec();
    let (status, log) = world.output("list", &config).await;
    assert_eq!(
        (status.exit_code, log),
        (0, vec!["stdout F said".to_owned()]),
        "{}",
        status.message
    );
    std::fs::remove_file(&path).unwrap();
    let pod = world.pod("missing");
    let sandbox = world.sandbox(&pod).await;
    let err =
        world.runtime.create_container(&sandbox, &confined("true", local), &pod).await.unwrap_err();
    assert!(matches!(err, Error::Invalid(_)), "{err:?}");
    assert!(err.to_string().contains("cannot load seccomp profile"), "{err}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_containers_have_the_hosts_devices_and_no_limits() {
    if !can_run("privileged_containers_have_the_hosts_devices_and_no_limits") {
        return;
    }
    let world = World::new(23).await;
    let script = format!(
        "ls /dev/mem /dev/kmsg >/dev/null 2>&1 && echo devices; mkdir /m; mount -t tmpfs x /m && echo mounted; {RIGHTS}"
    );
    let plain = confined(&script, SecurityProfile::RuntimeDefault);
    let (_, log) = world.output("plain", &plain).await;
    assert!(
        !log.iter().any(|line| line.ends_with(" devices") || line.ends_with(" mounted")),
        "{log:?}"
    );
    let mut config = plain.clone();
    config.security.privileged = true;
    let (_, log) = world.output("privileged", &config).await;
    assert!(log.contains(&"stdout F mounted".to_owned()), "{log:?}");
    if std::path::Path::new("/dev/kmsg").exists() && std::path::Path::new("/dev/mem").exists() {
        assert!(log.contains(&"stdout F devices".to_owned()), "{log:?}");
    }
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own.lines().find(|line| line.starts_with("CapBnd")).unwrap();
    assert!(log.contains(&format!("stdout F {bounding}")), "{bounding}: {log:?}");
    assert!(log.contains(&"stdout F Seccomp:\t0".to_owned()), "{log:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kernel_parameters_of_the_pod_are_set_and_others_refused() {
    if !can_run("kernel_parameters_of_the_pod_are_set_and_others_refused") {
        return;
    }
    let world = World::new(24).await;
    let mut pod = world.pod("sysctls");
    pod.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    pod.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    let sandbox = world.sandbox(&pod).await;
    let config = World::shell(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced",
    );
    let id = world.runtime.create_container(&sandbox, &config, &pod).await.unwrap();
    world.runtime.start_container(&id).await.unwrap();
    assert_eq!(World::log(&world.ended(&id).await), ["stdout F 80", "stdout F 1"]);
    for bad in ["kernel.panic", "vm.swappiness", "net../../kernel.panic"] {
        let mut pod = world.pod("bad");
        pod.sysctls.insert(bad.into(), "1".into());
        let err = world.runtime.run_pod_sandbox(&pod).await.unwrap_err();
        assert!(err.to_string().contains(&format!("sysctl \"{bad}\"")), "{err}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_program_is_read_only_to_its_containers() {
    if !can_run("the_hosts_program_is_read_only_to_its_containers") {
        return;
    }
    let world = World::new(26).await;
    let (sandbox, _) = world.run("sealed", &World::shell("sleep 1000")).await;
    let path = world.dir.path().join("agent/sandboxes").join(&sandbox.0).join("shim.json");
    let shim: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let program = format!("/proc/{}/exe", shim["pid"]);
    // Opening it for writing tells nothing: most kernels refuse that anyway while it runs.
    let mounted = rustix::fs::statvfs(program).unwrap();
    assert!(mounted.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_the_image_count_unless_the_pod_is_strict() {
    if !can_run("groups_of_the_image_count_unless_the_pod_is_strict") {
        return;
    }
    let world = World::new(25).await;
    let mut config = World::shell("id -G; sleep 1000");
    config.security.run_as_user = Some(33);
    config.security.supplemental_groups = vec![600];
    let (_, id) = world.run("merged", &config).await;
    world.said(&id, "stdout F 34 77 600").await;
    config.security.strict_groups = true;
    let (_, id) = world.run("strict", &config).await;
    world.said(&id, "stdout F 34 600").await;
    let command = ["id", "-G"].map(str::to_owned);
    let output = world.runtime.exec_sync(&id, &command, Duration::from_secs(20)).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "34 600\n");
    world.finish().await;
}
