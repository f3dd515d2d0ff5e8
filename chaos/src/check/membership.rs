//! At the end the members are those that were meant to be: all are voters, none is there twice, all masters know the
//! same ones and follow the same leader.
//!
//! Source: `reliability.md` section 8, (16) and (17): "membership uniform and equals intent after heal, ghost voters =
//! 0"; "node ID never repeats"; section 1.4, etcd's zombie members.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::{Check, Evidence};

const NAME: &str = "membership";

/// How one master sees the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Who says so.
    pub by: String,
    /// Whom it follows.
    pub leader: Option<String>,
    /// All members.
    pub members: BTreeSet<Member>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its id in the log.
    pub id: u64,
    /// Whether it votes.
    pub voter: bool,
}

impl Membership {
    /// What a status says; `None` when it is none.
    #[must_use]
    pub fn of(status: &Value) -> Option<Self> {
        let member = |member: &Value| {
            Some(Member {
                name: member["name"].as_str()?.to_owned(),
                id: member["nodeId"].as_u64()?,
                voter: member["voter"].as_bool()?,
            })
        };
        Some(Self {
            by: status["answeredBy"].as_str()?.to_owned(),
            leader: status["leader"].as_str().map(str::to_owned),
            members: status["masters"].as_array()?.iter().map(member).collect::<Option<_>>()?,
        })
    }
}

/// What is wrong with what the masters say; each of these was asked.
#[must_use]
pub fn wrong(all: &[Membership], masters: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let meant: BTreeSet<String> = masters.iter().map(|name| (*name).to_owned()).collect();
    for Membership { by, leader, members } in all {
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let set: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let ids: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
        if set != meant || names.len() != meant.len() {
            wrong.push(format!("{by} knows {}", names.join(", ")));
        }
        if ids.len() != members.len() {
            wrong.push(format!("{by} knows two members with one id"));
        }
        for member in members.iter().filter(|member| !member.voter) {
            wrong.push(format!("{by}: {} does not vote", member.name));
        }
        match (leader, all.first().map(|first| &first.leader)) {
            (None, _) => wrong.push(format!("{by} follows nobody")),
            (leader, Some(first)) if leader != first => {
                let name = |leader: &Option<String>| leader.clone().unwrap_or_default();
                wrong.push(format!("{by} follows {}, not {}", name(leader), name(first)));
            }
            _ => {}
        }
        if all.first().is_some_and(|first| first.members != *members) {
            wrong.push(format!("{by} knows other members than {}", all[0].by));
        }
    }
    wrong
}

/// Fails for each difference; unknown when not every master was asked.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let masters = evidence.options.scenario.masters;
    let all = &evidence.memberships;
    let checked = format!("{} masters were asked", all.len());
    let names: Vec<String> = (0..masters).map(|master| evidence.options.name(master)).collect();
    let found = wrong(all, &names.iter().map(String::as_str).collect::<Vec<_>>());
    if found.is_empty() && all.len() < masters {
        let why = "not every master was asked at the end, or by an older program";
        return Check::unknown(NAME, checked, why);
    }
    Check::broken(NAME, checked, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(by: &str, leader: &str, members: &[(&str, u64, bool)]) -> Membership {
        let masters: Vec<Value> = members
            .iter()
            .map(|(name, id, voter)| json!({"name": name, "nodeId": id, "voter": voter}))
            .collect();
        let status = json!({"answeredBy": by, "leader": leader, "masters": masters});
        Membership::of(&status).unwrap()
    }

    const THREE: [(&str, u64, bool); 3] = [("m1", 1, true), ("m2", 4, true), ("m3", 7, true)];

    #[test]
    fn all_know_the_same() {
        let good: Vec<Membership> = ["m1", "m2", "m3"].map(|by| seen(by, "m2", &THREE)).to_vec();
        assert_eq!(wrong(&good, &["m1", "m2", "m3"]), Vec::<String>::new());
        let with = |other: Membership| {
            wrong(&[good[0].clone(), good[1].clone(), other], &["m1", "m2", "m3"])
        };
        let ghost = [THREE[0], THREE[1], THREE[2], ("m3", 9, false)];
        assert!(with(seen("m3", "m2", &ghost)).join(";").contains("m3 knows m1, m2, m3, m3"));
        let learner = [THREE[0], THREE[1], ("m3", 7, false)];
        assert!(with(seen("m3", "m2", &learner)).join(";").contains("m3 does not vote"));
        assert!(with(seen("m3", "m1", &THREE)).join(";").contains("m3 follows m1, not m2"));
        assert!(with(seen("m3", "m2", &THREE[..2])).join(";").contains("m3 knows m1, m2"));
        let same = [THREE[0], THREE[1], ("m3", 4, true)];
        assert!(with(seen("m3", "m2", &same)).join(";").contains("two members with one id"));
    }
}
