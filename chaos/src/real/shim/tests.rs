//! The library in a process of its own, which does what masters do: this test program, started again.
#![allow(clippy::disallowed_methods, reason = "the environment is how a test and its child talk")]

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdout};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::scenario::span::{Shift, Span};

const ERRAND: &str = "QUORATE_CHAOS_ERRAND";
const CHILD: &str = "real::shim::tests::child";

/// Does nothing unless it was started by one of the tests below: then it answers each line on its standard input.
#[test]
#[ignore = "started by the tests below, as a process of its own"]
fn child() {
    let Ok(directory) = std::env::var(ERRAND) else { return };
    let directory = PathBuf::from(directory);
    answer("ready");
    let mut last = Instant::now();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let text = match line.as_str() {
            "clock" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                now.as_millis().to_string()
            }
            "monotonic" => {
                let now = Instant::now();
                let text = match now.checked_duration_since(last) {
                    Some(since) => since.as_millis().to_string(),
                    None => "back".to_owned(),
                };
                last = now;
                text
            }
            "wait" => {
                let (lock, condition) = (Mutex::new(()), Condvar::new());
                let held = lock.lock().unwrap();
                let (_held, _) = condition.wait_timeout(held, Duration::from_millis(200)).unwrap();
                "waited".to_owned()
            }
            "write" => said(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(directory.join("log"))
                    .and_then(|mut file| file.write_all(b"line\n")),
            ),
            "sync" => said(File::open(directory.join("log")).and_then(|file| file.sync_data())),
            "files" => said(files(&directory)),
            other => other.to_owned(),
        };
        answer(&text);
    }
}

fn answer(text: &str) {
    // The test runner has words of its own.
    let _ = writeln!(std::io::stdout(), "\n> {text}");
}

fn said(done: std::io::Result<()>) -> String {
    done.map_or_else(
        |error| format!("error {}", error.raw_os_error().unwrap_or(0)),
        |()| "done".into(),
    )
}

/// Some changes that are certain, and some that are not.
fn files(directory: &Path) -> std::io::Result<()> {
    let sync = |path: &Path| File::open(path)?.sync_all();
    std::fs::write(directory.join("whole"), [b'a'; 2000])?;
    std::fs::write(directory.join("cut"), [b'a'; 2000])?;
    std::fs::write(directory.join("gone"), b"gone")?;
    std::fs::write(directory.join("old"), b"old")?;
    for name in ["whole", "cut", "gone", "old"] {
        sync(&directory.join(name))?;
    }
    sync(directory)?;
    // From here on nothing is certain, but that `whole` has 'b' in its first half.
    let file = OpenOptions::new().write(true).open(directory.join("whole"))?;
    file.write_all_at(&[b'b'; 1000], 0)?;
    file.sync_data()?;
    file.write_all_at(&[b'c'; 1000], 1000)?;
    file.write_all_at(&[b'c'; 1000], 2000)?;
    OpenOptions::new().write(true).open(directory.join("cut"))?.set_len(10)?;
    std::fs::remove_file(directory.join("gone"))?;
    std::fs::write(directory.join("new"), b"new")?;
    std::fs::rename(directory.join("new"), directory.join("old"))
}

/// A process with the library in it.
struct Errand {
    process: Child,
    answers: BufReader<ChildStdout>,
    shims: Shims,
    data: PathBuf,
    _directory: tempfile::TempDir,
}

impl Errand {
    fn start(journals: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let roots = [data.clone()];
        let shims = Shims::make(directory.path(), &roots, journals).unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--ignored", "--nocapture"])
            .env(ERRAND, &data)
            .envs(shims.environment(0))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut errand = Self { process, answers, shims, data, _directory: directory };
        assert_eq!(errand.hear(), "ready");
        errand
    }

    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some(answer) = line.strip_prefix("> ") {
                return answer.trim_end().to_owned();
            }
        }
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{what}").unwrap();
        self.hear()
    }

    fn number(&mut self, what: &str) -> i128 {
        let answer = self.ask(what);
        answer.parse().unwrap_or_else(|_| panic!("{what}: {answer}"))
    }

    /// How far its clock is from ours, in milliseconds.
    fn shift(&mut self) -> i128 {
        let theirs = self.number("clock");
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        theirs - i128::try_from(ours).unwrap()
    }

    fn wrong(&mut self, effect: &Effect) {
        self.shims.set(effect).unwrap();
    }

    fn clock(&mut self, clock: Clock) {
        self.wrong(&Effect { clocks: [(0, clock)].into(), ..Effect::default() });
    }

    fn disk(&mut self, disk: Disk) {
        self.wrong(&Effect { disks: [(0, disk)].into(), ..Effect::default() });
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn clocks_jump_and_come_back() {
    let mut errand = Errand::start(false);
    assert!(errand.shift().abs() < 10_000);
    errand.clock(Clock::Jump(Shift(3_600_000)));
    let shift = errand.shift();
    assert!((3_590_000..3_610_000).contains(&shift), "{shift}");
    errand.clock(Clock::Jump(Shift(-3_600_000)));
    let shift = errand.shift();
    assert!((-3_610_000..-3_590_000).contains(&shift), "{shift}");
    let shown = errand.shims.shown(0, Some(errand.process.id())).unwrap().unwrap();
    assert_eq!(shown, "its clock is -1h from the truth");
    assert!(errand.shims.shown(0, Some(1)).is_err(), "that is another process");
    let jumped = Effect { clocks: [(0, Clock::Jump(Shift(1)))].into(), ..Effect::default() };
    assert!(errand.shims.met(&jumped).unwrap() >= 2);
    errand.wrong(&Effect::default());
    assert!(errand.shift().abs() < 10_000);
}

#[test]
fn a_clock_flickers() {
    let mut errand = Errand::start(false);
    errand.clock(Clock::Strobe(Shift(3_600_000), Span(50)));
    let (mut right, mut wrong) = (0, 0);
    while right < 3 || wrong < 3 {
        if errand.shift() > 1_800_000 { wrong += 1 } else { right += 1 }
    }
}

#[test]
fn a_monotonic_clock_drifts_and_never_goes_back() {
    let mut errand = Errand::start(false);
    errand.clock(Clock::Drift { percent: 90, monotonic: true });
    let began = Instant::now();
    errand.number("monotonic");
    std::thread::sleep(Duration::from_secs(1));
    let theirs = errand.number("monotonic");
    let ours = i128::try_from(began.elapsed().as_millis()).unwrap();
    assert!(theirs >= 1800 && theirs < 2 * ours, "{theirs} in {ours}");
    assert!(errand.shift() >= 800, "the other one too");
    errand.clock(Clock::Drift { percent: -50, monotonic: true });
    errand.wrong(&Effect::default());
    for _ in 0..100 {
        errand.number("monotonic");
    }
    // Its clock is a second ahead of the kernel's: a wait must not take that much longer.
    let began = Instant::now();
    assert_eq!(errand.ask("wait"), "waited");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(190), "{waited:?}");
    assert!(errand.shift().abs() < 500, "the other one is right again");
}

#[test]
fn disks_fail_as_asked() {
    let mut errand = Errand::start(false);
    assert_eq!((errand.ask("write"), errand.ask("sync")), ("done".into(), "done".into()));
    errand.disk(Disk::Fails(DiskError::Eio, DiskCall::Sync, Some(1)));
    assert_eq!((errand.ask("write"), errand.ask("sync")), ("done".into(), "error 5".into()));
    assert!(errand.shims.gave_errors(0).unwrap());
    assert_eq!(errand.ask("sync"), "done", "once");
    errand.disk(Disk::Fails(DiskError::Enospc, DiskCall::Write, None));
    assert!(!errand.shims.gave_errors(0).unwrap());
    assert_eq!((errand.ask("write"), errand.ask("write")), ("error 28".into(), "error 28".into()));
    assert_eq!(errand.ask("sync"), "done");
    errand.disk(Disk::ReadOnly);
    assert_eq!(errand.ask("write"), "error 30");
    errand.disk(Disk::Slow(Span(300)));
    let began = Instant::now();
    assert_eq!(errand.ask("sync"), "done");
    assert!(began.elapsed() >= Duration::from_millis(300));
    errand.wrong(&Effect::default());
    assert_eq!((errand.ask("write"), errand.ask("sync")), ("done".into(), "done".into()));
    assert_eq!(std::fs::read_to_string(errand.data.join("log")).unwrap(), "line\n".repeat(3));
}

/// What is left of files after power losses of many seeds: each text once.
#[derive(Debug, Default)]
struct Seen {
    whole: std::collections::BTreeSet<Vec<u8>>,
    cut: std::collections::BTreeSet<usize>,
    gone: std::collections::BTreeSet<bool>,
    old: std::collections::BTreeSet<String>,
    new: std::collections::BTreeSet<bool>,
}

fn after_power_losses(disk: Option<Disk>) -> Seen {
    let mut seen = Seen::default();
    for seed in 0..40 {
        let mut errand = Errand::start(true);
        disk.into_iter().for_each(|disk| errand.disk(disk));
        assert_eq!(errand.ask("files"), "done");
        errand.kill();
        errand.shims.lose_power(0, seed).unwrap();
        let data = &errand.data;
        seen.whole.extend(std::fs::read(data.join("whole")));
        seen.cut.extend(std::fs::read(data.join("cut")).map(|bytes| bytes.len()));
        seen.gone.insert(data.join("gone").exists());
        seen.old.extend(std::fs::read_to_string(data.join("old")));
        seen.new.insert(data.join("new").exists());
    }
    seen
}

#[test]
fn what_is_synced_survives_and_the_rest_may_be_lost() {
    let seen = after_power_losses(None);
    for whole in &seen.whole {
        assert!(whole.len() >= 2000 && whole[..1000].iter().all(|byte| *byte == b'b'), "{seen:?}");
        assert!(whole[1000..2000].iter().all(|byte| matches!(byte, b'a' | b'c')), "{seen:?}");
    }
    assert!(seen.whole.iter().any(|whole| whole.ends_with(b"aaaa")), "none survived once");
    assert!(seen.whole.iter().any(|whole| whole.len() == 3000), "all survived once");
    let torn =
        |whole: &&Vec<u8>| whole[1000..2000].contains(&b'a') && whole[1000..2000].contains(&b'c');
    assert!(seen.whole.iter().any(|whole| torn(&whole)), "one was torn");
    assert_eq!(seen.cut, [10, 2000].into());
    assert_eq!((seen.gone.len(), seen.new.len()), (2, 2), "{seen:?}");
    assert!(seen.old.contains("old") && seen.old.len() >= 2, "{:?}", seen.old);
}

#[test]
fn a_disk_that_lies_loses_what_was_synced() {
    let seen = after_power_losses(Some(Disk::Lies));
    let lost = |whole: &Vec<u8>| !whole.starts_with(&[b'b'; 1000]);
    assert!(seen.whole.is_empty() || seen.whole.iter().any(lost), "{:?}", seen.whole.len());
}

#[test]
fn a_program_that_cannot_load_it_is_told() {
    let error = Shims::possible(Path::new("/no/such/program")).unwrap_err();
    assert!(error.contains("cannot start /no/such/program"), "{error}");
}
