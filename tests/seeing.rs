//! What people see of the masters while things happen to them: `quorate status --watch`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::Command;

use common::cluster::Cluster;
use common::process::Running;
use common::step;

/// `quorate status --watch` at one master.
fn watch(cluster: &Cluster, number: usize, more: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(["status", "--watch", "--interval", "1"]).args(more);
    command.arg("--data").arg(&cluster.masters[number].data);
    Running::start(&mut command)
}

/// The blocks that were printed so far.
fn blocks(text: &str) -> Vec<&str> {
    text.split("--- ").skip(1).collect()
}

#[test]
fn the_status_goes_on_whichever_master_is_lost() {
    let mut cluster = Cluster::start(3);
    cluster.quorate(&["masters", "transfer-leader", "m1"]);
    let mut watched = watch(&cluster, 0, &[]);
    let text = watched.says("m1 leads");
    for part in ["3 voters, quorum 2, survives the loss of 1", "no alarms", "TRAILS BY", "VERSION"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The one that is asked; what was known of the others goes on.
    cluster.masters[0].process.kill_9();
    watched.says("m0 does not answer");
    cluster.masters[1].process.kill_9();
    watched.says("m0, m1 do not answer: NO QUORUM, writes wait");
    cluster.masters[2].process.kill_9();
    watched.says("NO MASTER ANSWERS");
    for number in 0..3 {
        cluster.restart(number);
    }
    let back = |block: &&str| block.contains(" leads, ") && !block.contains("do not answer");
    let text = watched.says_by("all are back", |text| {
        blocks(text).last().is_some_and(|block| back(&block) && !block.contains("does not answer"))
    });
    step("nothing happens, nothing is said");
    let said = blocks(&text).len();
    assert!(said < 20, "{text}");

    // In a terminal it stays where it is, as wide as that is.
    let line = format!(
        "stty cols 60 rows 9; exec {} status --watch --interval 1 --data {}",
        env!("CARGO_BIN_EXE_quorate"),
        cluster.masters[1].data.display()
    );
    let mut terminal = Running::start(Command::new("script").args(["-qefc", &line, "/dev/null"]));
    let text = terminal.says_by("it is drawn anew", |text| text.matches("\x1b[8A\r").count() >= 2);
    assert!(text.contains("more lines\x1b[K"), "nine rows are too few: {text}");
    let widest = text.lines().map(|line| line.replace("\x1b[K", "").trim_end().chars().count());
    assert!(widest.max() <= Some(60 + "\x1b[J\x1b[8A\r".len()), "{text}");
    terminal.types("\x03");
    let (code, _) = terminal.ends();
    assert_eq!(code, 0, "Ctrl-C is how it ends");
}
