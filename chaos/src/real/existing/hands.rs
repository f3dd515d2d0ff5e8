//! What is done on a master's machine, as scripts: `hands.sh` is put there at the beginning, and every command is a
//! line that uses it. A guard is set there before each fault and takes everything back when this harness does not.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::reach::quoted;
use crate::limits::GUARD_SLACK;

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

    /// Puts the functions there.
    #[must_use]
    pub fn prepare(&self) -> String {
        let (directory, text) = (&self.directory, format!("{}{HANDS}", self.settings));
        format!("umask 077; mkdir {directory} && printf %s {} >{directory}/hands", quoted(&text))
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
