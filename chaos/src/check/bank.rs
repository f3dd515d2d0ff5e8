//! Money neither comes nor goes: in every read, in every event of every watcher and in the last lists, a bank's
//! accounts have the sum that they were opened with, and none is below 0.
//!
//! Source: Jepsen's bank workload. The accounts are in one object, since a Kubernetes API has no transaction over
//! several; what breaks this is a write under a `resourceVersion` that was no longer there, or a mixture of two writes.

use crate::history::Tick;
use crate::model::{Content, Output, VersionedOutput};
use crate::real::workload::{bank, content};
use crate::report::violation::{self, Violation, sentence};
use crate::report::{Check, Evidence};

const NAME: &str = "bank";

/// Fails for each place at which the sum is another.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let (mut found, mut first, mut looked) = (Vec::new(), None::<Violation>, 0);
    let mut tell = |what: String, at: Tick, object: &str| {
        if first.as_ref().is_none_or(|first: &Violation| at < first.at) {
            first = Some(violation::around(evidence, NAME, &what, at, Some(object)));
        }
        found.push(what);
    };
    for recorded in &evidence.history {
        let Some(Output::Versioned(VersionedOutput::Is(_, content))) = recorded.operation.output()
        else {
            continue;
        };
        let Some(why) = wrong(content, &mut looked) else { continue };
        let at = recorded.operation.returned().unwrap_or_default();
        tell(format!("{why}: {}", sentence(evidence, recorded)), at, &recorded.object());
    }
    for (revision, object, content) in &evidence.contents {
        if let Some(why) = wrong(content, &mut looked) {
            let at = violation::arrival(evidence, None, *revision);
            tell(format!("{why}: {object} at revision {revision}, told to a watcher"), at, object);
        }
    }
    for (master, list) in evidence.last.iter().enumerate() {
        for item in list["items"].as_array().into_iter().flatten() {
            let Some((_, content)) = content(item) else { continue };
            if let Some(why) = wrong(&content, &mut looked) {
                let object = item["metadata"]["name"].as_str().unwrap_or_default();
                let what = format!("{why}: {object} at the end, at m{}", master + 1);
                tell(what, evidence.ended, object);
            }
        }
    }
    let checked = format!("{looked} looks at all accounts");
    if looked == 0 {
        return Check::unknown(NAME, checked, "nobody looked at the accounts");
    }
    Check { violation: first, ..Check::broken(NAME, checked, found) }
}

fn wrong(content: &Content, looked: &mut usize) -> Option<String> {
    let Content::Balances(balances) = content else { return None };
    *looked += 1;
    let (sum, opened): (i64, i64) =
        (balances.iter().sum(), bank::OPENING * i64::try_from(bank::ACCOUNTS).unwrap_or(0));
    if sum != opened {
        return Some(format!("{balances:?} are {sum}, not {opened}"));
    }
    let below = balances.iter().find(|balance| **balance < 0);
    below.map(|balance| format!("{balances:?}: an account is at {balance}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_stays() {
        let why = |balances: &[i64]| wrong(&Content::Balances(balances.to_vec()), &mut 0);
        assert_eq!(why(&[100; 5]), None);
        assert_eq!(why(&[0, 200, 100, 150, 50]), None);
        assert!(why(&[100, 100, 100, 100, 99]).unwrap().contains("are 499, not 500"));
        assert!(why(&[100, 100, 100, 100]).unwrap().contains("are 400"), "an account is gone");
        assert!(why(&[-1, 201, 100, 100, 100]).unwrap().contains("at -1"));
        let lease = Content::Lease { holder: "a".into(), transitions: 1 };
        assert_eq!(wrong(&lease, &mut 0), None, "not a bank");
    }
}
