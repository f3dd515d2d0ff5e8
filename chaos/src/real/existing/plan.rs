//! What a run on a cluster that is there would do, without doing any of it; and what it must not do.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Existing, KINDS, why_not};
use crate::limits::{BEAT_EVERY, GUARD_SLACK, KEEPER_SILENCE, TRIAL_NODES_MAX};
use crate::real::Options;
use crate::real::cluster::{Cluster as _, TRANSFER};
use crate::real::kube::change::REPLICAS_MAX;
use crate::real::kube::{self, DEPLOYMENTS};
use crate::real::members::{DEMOTE, PROMOTE};
use crate::real::nemesis::{Nemesis, random_of};
use crate::scenario::fault::{Effect, Target};
use crate::scenario::{Fault, Scenario, Step};

/// Whether everything of the scenario may be done to `masters` masters.
///
/// # Errors
/// What may not, and what would allow it.
pub fn allowed(
    scenario: &Scenario,
    allow: &[Fault],
    (masters, beyond_quorum): (usize, bool),
) -> anyhow::Result<()> {
    let kinds: BTreeSet<Fault> = scenario.schedule.iter().map(|step| step.fault).collect();
    anyhow::ensure!(
        scenario.masters == masters,
        "the scenario is for {} masters, and the cluster has {masters}",
        scenario.masters
    );
    if let Some(step) = scenario.schedule.iter().find(|step| is_for_agent(step)) {
        anyhow::bail!(
            "{} at {} is for a node agent: faults are done only to those that the run starts itself",
            step.fault,
            step.at
        );
    }
    for kind in kinds {
        anyhow::ensure!(
            KINDS.contains(&kind),
            "{kind} cannot be done to a cluster that is already there: {}; what can: {}",
            why_not(kind),
            names(&KINDS)
        );
        anyhow::ensure!(
            allow.contains(&kind),
            "the scenario has {kind}, and allowed is {}: --allow {} allows it",
            names(allow),
            names(&[allow, &[kind]].concat()).replace(", ", ",")
        );
    }
    for step in scenario.schedule.iter().filter(|_| !beyond_quorum) {
        let hit = match step.target {
            Some(Target::All) => masters,
            Some(Target::Majority) => masters / 2 + 1,
            Some(Target::Minority) => masters.saturating_sub(1) / 2,
            _ => 1,
        };
        let targets = (0..hit).collect();
        let random = &mut StdRng::seed_from_u64(0);
        let phases = step.fault.phases((&targets, masters), step.lasts, &step.with, random);
        anyhow::ensure!(
            phases.iter().all(|phase| phase.effect.leaves_majority(masters)),
            "{} at {} leaves no majority of {masters} masters undisturbed; --beyond-quorum allows it",
            step.fault,
            step.at
        );
    }
    Ok(())
}

fn is_for_agent(step: &Step) -> bool {
    matches!(step.target, Some(Target::Agent(_)))
}

/// What becomes of nodes that are there, in a few lines.
#[must_use]
pub fn words(kube: &kube::Shared) -> String {
    let container = kube.pods.container();
    let nodes = kube.nodes.as_deref().unwrap_or_default();
    let (image, count) = (container["image"].as_str().unwrap_or_default(), nodes.len());
    let tried = count.min(TRIAL_NODES_MAX);
    format!(
        "{DEPLOYMENTS} Deployments of up to {REPLICAS_MAX} pods each, with Services, are created, scaled, rolled and \
         deleted.\nTheir image is {image}; before anything else a pod on each of {tried} of {count} nodes shows that \
         it runs there."
    )
}

fn names(kinds: &[Fault]) -> String {
    kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Existing {
    /// Every command, with whom each fault would meet if whoever leads now still led then.
    pub async fn plan(&self, options: &Options, kube: Option<&kube::Shared>) -> String {
        let mut text = String::new();
        let scenario = &options.scenario;
        let _ = writeln!(
            text,
            "# Nothing of this was done. Whom a fault meets is as it would be if it began now; all would be\n\
             # in the namespace quorate-chaos-{}, which is made before and removed after it.\n",
            options.seed
        );
        if let Some(kube) = kube {
            let _ = writeln!(text, "# {}\n", words(kube).replace('\n', "\n# "));
        }
        let _ = writeln!(text, "# Before: this is put on each machine, in a directory of its own:");
        for line in super::HANDS.lines() {
            let _ = writeln!(text, "#   {line}");
        }
        for master in &self.masters {
            let _ = writeln!(
                text,
                "# {}: {}/hands by {}; cuts are in the nft table {}",
                master.name,
                master.hands.traces().0,
                master.reach,
                master.hands.traces().1
            );
        }
        let lacks = super::super::cluster::Cluster::lacks(self);
        let nemesis = Nemesis::new(scenario, options.seed, (&lacks, options.beyond_quorum));
        let mut guards = 0;
        for step in &scenario.schedule {
            let _ = writeln!(text, "\n# {}: {} for {}", step.at, step.fault, step.lasts);
            if let Some((_, why)) = lacks.iter().find(|(need, _)| *need == step.need()) {
                let _ = writeln!(text, "#   would be left out: {why}");
                continue;
            }
            let mut random = random_of(options.seed, step);
            let targets = match nemesis.targets(step, self, &mut random).await {
                Ok(targets) => targets,
                Err(why) => {
                    let _ = writeln!(text, "#   would be left out: {why}");
                    continue;
                }
            };
            let met = (&targets, self.count());
            let phases = step.fault.phases(met, step.lasts, &step.with, &mut random);
            let mut now = Effect::default();
            let end = (step.lasts.duration(), Effect::default());
            let all = phases.into_iter().map(|phase| (phase.after.duration(), phase.effect));
            for (after, then) in all.chain([end]) {
                let at = (step.at.duration() + after).as_secs_f64();
                let left = step.lasts.duration().saturating_sub(after);
                self.plan_change((&now, &then), (at, left), &mut guards, &mut text);
                now = then;
            }
        }
        let _ = writeln!(text, "\n# At the end, and when it is stopped, on each machine:");
        for master in &self.masters {
            let _ = writeln!(text, "{}", master.reach.command(&master.hands.finish()));
        }
        let _ = writeln!(
            text,
            "\n# If this process is gone by then, the guard of each fault takes it back {GUARD_SLACK:?} after its end, \
             and what was put\n# on a machine is removed {KEEPER_SILENCE:?} after that by its keeper, which is told \
             each {BEAT_EVERY:?} that all is well."
        );
        text
    }

    fn plan_change(
        &self,
        (from, to): (&Effect, &Effect),
        (at, left): (f64, Duration),
        guards: &mut u64,
        text: &mut String,
    ) {
        if let Some((heir, _)) = to.leads.filter(|_| to.leads != from.leads) {
            let _ = writeln!(text, "# {at:.1} s: {TRANSFER} to {}, by the API", self.name(heir));
        }
        let changes = [(DEMOTE, &to.demoted, &from.demoted), (PROMOTE, &from.demoted, &to.demoted)];
        for (path, these, but) in changes {
            for master in these.difference(but) {
                let _ = writeln!(text, "# {at:.1} s: {path} of {}, by the API", self.name(*master));
            }
        }
        for (index, master) in self.masters.iter().enumerate() {
            for act in self.acts_of(index, from, to) {
                *guards += 1;
                let script = master.hands.act(&act, (*guards, left));
                let command = master.reach.command(&script);
                let _ = writeln!(text, "{command:<72} # {at:.1} s, {}", master.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::read;

    fn said(schedule: &str, allow: &[Fault], beyond: bool) -> String {
        let text = format!("name: x\nmasters: 3\nschedule:\n- {schedule}\n");
        let scenario = read::text("x.yaml", &text, 1).unwrap();
        match allowed(&scenario, allow, (3, beyond)) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_nobody_allowed_is_refused() {
        let kill = "{at: 1s, for: 1s, fault: kill, target: leader}";
        let text = said(kill, &[Fault::Pause], false);
        assert!(text.contains("has kill, and allowed is pause: --allow pause,kill"), "{text}");
        assert_eq!(said(kill, &[Fault::Kill], false), "");
        let text = said("{at: 1s, for: 1s, fault: disk-full, target: any}", Fault::all(), true);
        assert!(text.contains("disk-full cannot be done"), "{text}");
        let text = said("{at: 1s, for: 1s, fault: replace, target: any}", Fault::all(), true);
        assert!(text.contains("there: it would remove a data directory that is not"), "{text}");
        let demote = "{at: 1s, for: 1s, fault: demote, target: majority}";
        assert!(said(demote, &KINDS, false).contains("--beyond-quorum"));
    }

    #[test]
    fn agents_of_the_cluster_are_left_alone() {
        let text = "name: x\nmasters: 3\nworkload: kubernetes\n\
                    schedule: [{at: 1s, for: 1s, fault: pause, target: TARGET}]\n";
        let said = |target: &str| {
            let scenario = read::text("x.yaml", &text.replace("TARGET", target), 1).unwrap();
            allowed(&scenario, &[Fault::Pause], (3, false)).map_err(|error| error.to_string())
        };
        assert_eq!(said("m1"), Ok(()));
        assert!(said("n1").unwrap_err().starts_with("pause at 1s is for a node agent"));
    }

    #[test]
    fn a_majority_stays() {
        for schedule in [
            "{at: 1s, for: 1s, fault: kill-all}",
            "{at: 1s, for: 1s, fault: pause, target: majority}",
            "{at: 1s, for: 1s, fault: kill, target: all}",
            "{at: 1s, for: 1s, fault: ring}",
        ] {
            let text = said(schedule, &KINDS, false);
            assert!(text.contains("--beyond-quorum"), "{schedule}: {text}");
            assert_eq!(said(schedule, &KINDS, true), "");
        }
        for schedule in [
            "{at: 1s, for: 9s, fault: rolling-restart, every: 2s}",
            "{at: 1s, for: 1s, fault: pause, target: minority}",
            "{at: 1s, for: 1s, fault: isolate, target: leader}",
        ] {
            assert_eq!(said(schedule, &KINDS, false), "");
        }
    }
}
