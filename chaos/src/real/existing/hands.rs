//! What is done on a master's machine, as scripts: `hands.sh` is put there at the beginning, and every command is a
//! line that uses it. A guard is set there before each fault and takes everything back when this harness does not; a
//! keeper is there from the beginning, and removes everything when it hears nothing of this harness any more.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::reach::quoted;
use crate::limits::{GUARD_SLACK, KEEPER_SILENCE};

/// The shell functions, as they are put on the machine.
pub const HANDS: &str = include_str!("hands.sh");

/// Who restarts a master that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restart {
    /// Its systemd unit; found out where it is not said.
    pub unit: Option<String>,
    /// Somebody whom the harness does not know.
    pub supervised: bool,
}

/// What the lines for one master have in common.
#[derive(Debug, Clone)]
pub struct Hands {
    /// The directory there.
    directory: String,
    table: String,
    /// Lines that set what `hands.sh` wants.
    settings: String,
}

/// What a master is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// `kill -9`, or SIGTERM.
    Down {
        /// Asked to end.
        asked: bool,
    },
    /// Started again.
    Up,
    /// SIGSTOP.
    Hold,
    /// SIGCONT.
    Wake,
    /// Nothing comes in from these addresses any more, and from all others again.
    CutFrom(BTreeSet<IpAddr>),
}

impl Hands {
    /// For the master of this number, in this run, whose API and port are these.
    #[must_use]
    pub fn new(run: &str, master: usize, api: (IpAddr, u16), restart: &Restart) -> Self {
        let number = master + 1;
        let directory = format!("/tmp/quorate-chaos-{run}-{number}");
        let table = format!("quorate_chaos_{run}_{number}");
        let settings = format!(
            "LC_ALL=C; export LC_ALL; D={directory}; T={table}; A={}; U={}; S={}\n",
            quoted(&listening(api)),
            quoted(restart.unit.as_deref().unwrap_or_default()),
            if restart.supervised { "yes" } else { "no" },
        );
        Self { directory, table, settings }
    }

    /// Before anything is there: what is to be known.
    #[must_use]
    pub fn probe(&self) -> String {
        format!("{}{HANDS}\nprobe", self.settings)
    }

    /// Puts the functions there, and starts the keeper.
    #[must_use]
    pub fn prepare(&self) -> String {
        self.prepare_for(KEEPER_SILENCE)
    }

    fn prepare_for(&self, silence: Duration) -> String {
        let (directory, text) = (&self.directory, format!("{}{HANDS}", self.settings));
        let (text, silence) = (quoted(&text), silence.as_secs());
        format!(
            "umask 077; mkdir {directory} && printf %s {text} >{directory}/hands && \
             . {directory}/hands && keep {silence}"
        )
    }

    /// Lets the keeper know that this harness is there; each `number` is another.
    #[must_use]
    pub fn beat(&self, number: u64) -> String {
        self.line(&format!("beat {number}"))
    }

    /// One thing, behind a guard that takes everything back some time after `at_most`; `number` tells the guards apart.
    #[must_use]
    pub fn act(&self, act: &Act, (number, at_most): (u64, Duration)) -> String {
        let seconds = (at_most + GUARD_SLACK).as_secs() + 1;
        let harm = match act {
            Act::Up => return self.line("up"),
            Act::Wake => return self.line("wake"),
            Act::CutFrom(none) if none.is_empty() => return self.line("heal"),
            Act::Down { asked: true } => "down stop".to_owned(),
            Act::Down { asked: false } => "down kill".to_owned(),
            Act::Hold => "hold".to_owned(),
            Act::CutFrom(addresses) => {
                let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("cut_from {}", all.join(" "))
            }
        };
        self.line(&format!("guard {number} {seconds}; {harm}"))
    }

    /// Takes everything back.
    #[must_use]
    pub fn undo(&self) -> String {
        self.line("undo")
    }

    /// What is there.
    #[must_use]
    pub fn look(&self) -> String {
        self.line("look")
    }

    /// Takes everything back, and what was put there too; says what is left.
    #[must_use]
    pub fn finish(&self) -> String {
        let directory = &self.directory;
        format!("if [ -e {directory}/hands ]; then . {directory}/hands; finish; fi")
    }

    /// Where it is put, and the name of the table of cuts.
    #[must_use]
    pub fn traces(&self) -> (&str, &str) {
        (&self.directory, &self.table)
    }

    fn line(&self, what: &str) -> String {
        format!(". {}/hands; {what}", self.directory)
    }
}

/// A pattern of how `/proc/net/tcp` and `tcp6` write the place where somebody listens who can be had there.
fn listening((address, port): (IpAddr, u16)) -> String {
    let words = |bytes: &[u8]| -> String {
        let words = bytes.chunks(4).map(|word| {
            let word = word.iter().rev().map(|byte| format!("{byte:02X}"));
            word.collect::<String>()
        });
        words.collect()
    };
    let own = match address {
        IpAddr::V4(four) => {
            let mapped = words(&four.to_ipv6_mapped().octets());
            format!("{}|{mapped}|00000000", words(&four.octets()))
        }
        IpAddr::V6(six) => words(&six.octets()),
    };
    format!("^({own}|{}):{port:04X}$", "0".repeat(32))
}

#[cfg(test)]
mod tests {
    use super::super::reach::Reach;
    use super::*;

    #[test]
    fn a_listener_is_written_as_the_kernel_does() {
        let four = listening(("127.0.0.1".parse().unwrap(), 8080));
        assert!(
            four.starts_with("^(0100007F|0000000000000000FFFF00000100007F|00000000|"),
            "{four}"
        );
        assert!(four.ends_with("):1F90$"), "{four}");
        let six = listening(("fe80::1".parse().unwrap(), 443));
        assert!(six.starts_with("^(000080FE000000000000000001000000|"), "{six}");
    }

    /// What a machine has of a run: the directory, and processes that know it.
    fn remains(hands: &Hands) -> (bool, usize) {
        let directory = hands.traces().0;
        let processes = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(directory)
        });
        (std::path::Path::new(directory).exists(), processes.count())
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let begin = std::time::Instant::now();
        while !holds() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// For a process that listens nowhere: nothing is done to anybody.
    fn of_nobody(run: &str) -> (Hands, Reach) {
        let run = format!("{run}{}", std::process::id());
        let hands = Hands::new(&run, 0, ("127.0.0.1".parse().unwrap(), 1), &Restart::default());
        (hands, Reach::all("exec:env").unwrap().remove(0))
    }

    #[tokio::test]
    async fn the_keeper_removes_everything_when_nobody_is_heard() {
        let (hands, reach) = of_nobody("silence");
        reach.run(&hands.prepare_for(Duration::from_secs(5))).await.unwrap();
        reach.run(&hands.beat(0)).await.unwrap();
        let beat = std::path::Path::new(hands.traces().0).join("beat");
        assert_eq!(std::fs::read_to_string(&beat).unwrap(), "0\n");
        for number in 1..=40 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            std::fs::write(&beat, format!("{number}\n")).unwrap();
        }
        assert!(remains(&hands).0, "longer than that, and somebody was heard");
        until("all is gone", || remains(&hands) == (false, 0)).await;
        let error = reach.run(&hands.beat(41)).await.unwrap_err().to_string();
        assert!(error.contains(hands.traces().0), "{error}");
        assert_eq!(reach.run(&hands.finish()).await.unwrap(), "");
    }

    #[tokio::test]
    async fn the_keeper_waits_for_a_guard() {
        let (hands, reach) = of_nobody("guarded");
        reach.run(&hands.prepare_for(Duration::from_secs(1))).await.unwrap();
        let begin = std::time::Instant::now();
        reach.run(&hands.line("guard 1 4")).await.unwrap();
        until("all is gone", || remains(&hands) == (false, 0)).await;
        assert!(begin.elapsed() >= Duration::from_secs(4), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn the_end_ends_guard_and_keeper() {
        let (hands, reach) = of_nobody("end");
        reach.run(&hands.prepare()).await.unwrap();
        reach.run(&hands.line("guard 1 1000")).await.unwrap();
        until("guard and keeper are there", || remains(&hands) == (true, 2)).await;
        assert_eq!(reach.run(&hands.finish()).await.unwrap(), "");
        assert!(!remains(&hands).0);
        // What they had started was told to end with them.
        until("their processes are gone", || remains(&hands) == (false, 0)).await;
    }

    #[test]
    fn a_guard_is_set_before_harm() {
        let hands = Hands::new("7", 1, ("10.0.0.2".parse().unwrap(), 6443), &Restart::default());
        let line = hands.act(&Act::Hold, (4, Duration::from_secs(3)));
        assert_eq!(line, ". /tmp/quorate-chaos-7-2/hands; guard 4 19; hold");
        let line = hands.act(&Act::Wake, (5, Duration::ZERO));
        assert_eq!(line, ". /tmp/quorate-chaos-7-2/hands; wake");
        let from = ["10.0.0.1".parse().unwrap(), "10.0.0.3".parse().unwrap()].into();
        let line = hands.act(&Act::CutFrom(from), (6, Duration::from_millis(500)));
        assert_eq!(line, ". /tmp/quorate-chaos-7-2/hands; guard 6 16; cut_from 10.0.0.1 10.0.0.3");
    }
}
