//! Carries out the faults of a scenario, each at its time, and sees to it that they are there and gone again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use super::cluster::Cluster;
use super::masters::Broke;
use crate::history::Tick;
use crate::limits::{COMES_EVERY, LEADING_MAX};
use crate::scenario::expect::Health;
pub use crate::scenario::fault::Fault;
use crate::scenario::fault::{Effect, Need, Phase, Target};
use crate::scenario::{Scenario, Step};

/// A fault that was there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Injected {
    /// Which.
    pub fault: Fault,
    /// In words.
    pub what: String,
    /// Its beginning.
    pub from: Tick,
    /// Its end.
    pub to: Tick,
    /// Names of the masters that it met.
    #[serde(default)]
    pub targets: Vec<String>,
    /// How the host showed that it was there.
    #[serde(default)]
    pub shown: String,
}

/// A fault that did not happen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Skipped {
    /// Which.
    pub fault: Fault,
    /// Why not.
    pub why: String,
    /// Without it the run says nothing.
    pub required: bool,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Faults that were there.
    pub injected: Vec<Injected>,
    /// Faults that were not.
    pub skipped: Vec<Skipped>,
    /// When a majority was fit.
    pub health: Vec<Health>,
}

/// Steps that begin no later than this are not late: doing something takes time.
const LATE_MIN: Duration = Duration::from_millis(500);

/// Tells the time of the run.
type Clock<'a> = &'a dyn Fn() -> Tick;

/// Tells a person.
type Say<'a> = &'a dyn Fn(&str);

/// What happens next to a step.
#[derive(Debug, Clone)]
enum Event {
    Begin,
    Phase(Box<Phase>),
    End,
}

/// Carries out a scenario.
#[derive(Debug)]
pub struct Nemesis<'a> {
    scenario: &'a Scenario,
    seed: u64,
    /// What this host cannot do, and why.
    lacks: &'a [(Need, String)],
    /// Whether a majority may be disturbed.
    beyond_quorum: bool,
    /// Steps that have not begun, with when they are to, in order.
    begins: VecDeque<(Duration, usize)>,
    /// How much later steps begin than they were to: a step that waited for a leader holds up those behind it, so that
    /// what lies between them stays between them.
    late: Duration,
    /// What else is still to come, by time and then by order.
    events: BTreeMap<(Duration, usize), (usize, Event)>,
    scheduled: usize,
    /// What each step that is under way does now.
    active: BTreeMap<usize, Effect>,
    now: Effect,
    /// Masters that have not joined yet.
    absent: BTreeSet<usize>,
    /// When each step that is under way ends, after the beginning.
    ends: BTreeMap<usize, Duration>,
    /// All that each step that is under way does at any time, at once.
    all_phases: BTreeMap<usize, Effect>,
    /// Indices of steps in `done.injected`.
    places: BTreeMap<usize, usize>,
    /// What steps do at first, and how often that had been met before, where that is counted.
    met: BTreeMap<usize, (Effect, Option<u64>)>,
    /// Steps that end when something has come about: what showed that, or what lacks.
    comes: BTreeMap<usize, Result<String, String>>,
    /// So far.
    pub done: Done,
}

impl<'a> Nemesis<'a> {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(
        scenario: &'a Scenario,
        seed: u64,
        (lacks, beyond_quorum): (&'a [(Need, String)], bool),
    ) -> Self {
        let mut nemesis = Self {
            scenario,
            seed,
            lacks,
            beyond_quorum,
            begins: VecDeque::new(),
            late: Duration::ZERO,
            events: BTreeMap::new(),
            scheduled: 0,
            active: BTreeMap::new(),
            now: Effect { down: scenario.absent(), ..Effect::default() },
            absent: scenario.absent(),
            ends: BTreeMap::new(),
            all_phases: BTreeMap::new(),
            places: BTreeMap::new(),
            met: BTreeMap::new(),
            comes: BTreeMap::new(),
            done: Done::default(),
        };
        let begins = scenario.schedule.iter().enumerate();
        nemesis.begins = begins.map(|(index, step)| (step.at.duration(), index)).collect();
        nemesis
    }

    fn plan(&mut self, at: Duration, step: usize, event: Event) {
        self.events.insert((at, self.scheduled), (step, event));
        self.scheduled += 1;
    }

    /// All of it, from now on.
    ///
    /// # Errors
    /// When a fault cannot be injected or taken back, or a master ended that nobody killed: the run is over.
    pub(super) async fn run<C: Cluster>(
        &mut self,
        masters: &mut C,
        (tick, say): (Clock<'_>, Say<'_>),
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        self.note_health(masters.count(), tick());
        while let Some(at) = self.next_at() {
            let left = at.saturating_sub(begin.elapsed());
            if !self.waiting().is_empty() && !left.is_zero() {
                tokio::time::sleep(left.min(COMES_EVERY)).await;
                masters.all_live()?;
                self.look_what_has_come(masters, begin).await;
                continue;
            }
            tokio::time::sleep(left).await;
            let Some((_, index, event)) = self.next() else { break };
            masters.all_live()?;
            match event {
                Event::Begin => {
                    self.begin(index, masters, (tick, begin)).await?;
                    let meant = self.scenario.schedule[index].at.duration();
                    let late = begin.elapsed().saturating_sub(meant);
                    if late > self.late + LATE_MIN {
                        self.late = late;
                    }
                }
                Event::Phase(phase) => {
                    self.active.insert(index, phase.effect);
                    self.settle(masters, (tick, begin.elapsed())).await?;
                    if let Err(error) = masters.shows(&self.now).await {
                        tracing::warn!(%error, "a fault is not there as it should be");
                    }
                }
                Event::End => self.end(index, masters, (tick, say, begin)).await?,
            }
        }
        masters.all_live()?;
        self.note_health(masters.count(), tick());
        Ok(())
    }

    /// When what comes next is to come.
    fn next_at(&self) -> Option<Duration> {
        let begin = self.begins.front().map(|(at, _)| *at + self.late);
        let other = self.events.first_key_value().map(|((at, _), _)| *at);
        begin.into_iter().chain(other).min()
    }

    /// Steps that are there and wait for something that has not come about.
    fn waiting(&self) -> Vec<usize> {
        let waits = |index: &usize| {
            let came = self.comes.get(index).is_some_and(Result::is_ok);
            self.scenario.schedule[*index].fault.waits() && !came
        };
        self.met.keys().copied().filter(waits).collect()
    }

    /// Steps end now for which what they wait for has come about.
    async fn look_what_has_come<C: Cluster>(&mut self, masters: &mut C, begin: Instant) {
        for index in self.waiting() {
            let Some((effect, _)) = self.met.get(&index) else { continue };
            let came = masters.come_about(effect).await;
            if came.is_ok() {
                let now = begin.elapsed();
                let is_end = |event: &Event| matches!(event, Event::End);
                self.events.retain(|_, (other, event)| *other != index || !is_end(event));
                self.plan(now, index, Event::End);
                self.ends.insert(index, now);
            }
            self.comes.insert(index, came);
        }
    }

    /// What comes next, and when.
    fn next(&mut self) -> Option<(Duration, usize, Event)> {
        let begin = self.begins.front().map(|(at, index)| (*at + self.late, *index));
        let other = self.events.first_key_value().map(|((at, _), _)| *at);
        match (begin, other) {
            (Some((at, index)), other) if other.is_none_or(|other| at < other) => {
                self.begins.pop_front();
                Some((at, index, Event::Begin))
            }
            _ => {
                let ((at, _), (index, event)) = self.events.pop_first()?;
                Some((at, index, event))
            }
        }
    }

    async fn begin<C: Cluster>(
        &mut self,
        index: usize,
        masters: &mut C,
        (tick, begin): (&dyn Fn() -> Tick, Instant),
    ) -> anyhow::Result<()> {
        let step = &self.scenario.schedule[index];
        let lack = self.lacks.iter().find(|(need, _)| *need == step.need());
        if let Some((_, why)) = lack {
            self.skip(step, why.clone());
            return Ok(());
        }
        let mut random = random_of(self.seed, step);
        let targets = match self.targets(step, masters, &mut random).await {
            Ok(targets) => targets,
            Err(why) => {
                self.skip(step, why);
                return Ok(());
            }
        };
        let met = (&targets, masters.count());
        let phases = step.fault.phases(met, step.lasts, &step.with, &mut random);
        let may = match self.keeps_quorum(&phases, masters.count()) {
            Ok(()) => {
                let first = phases.first().map(|phase| &phase.effect);
                let then = first.cloned().unwrap_or_default().and(&self.now);
                masters.may_become(&self.now, &then).await
            }
            Err(why) => Err(why),
        };
        if let Err(why) = may {
            self.skip(step, why);
            return Ok(());
        }
        let at_once = phases.iter().fold(Effect::default(), |all, phase| all.and(&phase.effect));
        self.all_phases.insert(index, at_once);
        let names: Vec<String> =
            targets.iter().map(|target| masters.name(*target).to_owned()).collect();
        let (from, now) = (tick(), begin.elapsed());
        let first = phases.first().map(|phase| phase.effect.clone()).unwrap_or_default();
        let before = masters.met(&first);
        self.met.insert(index, (first, before));
        for phase in phases {
            if phase.after.0 == 0 {
                self.active.insert(index, phase.effect);
            } else {
                self.plan(now + phase.after.duration(), index, Event::Phase(Box::new(phase)));
            }
        }
        if step.fault == Fault::Join {
            self.absent.retain(|master| !targets.contains(master));
        }
        // Told before it is there: the run may be stopped on the way.
        let (fault, what) = (step.fault, words(step, &names));
        let place = self.done.injected.len();
        self.places.insert(index, place);
        let (to, targets, shown) = (from, names, String::new());
        self.done.injected.push(Injected { fault, what, from, to, targets, shown });
        self.ends.insert(index, now + step.lasts.duration());
        self.settle(masters, (tick, now)).await?;
        self.plan(now + step.lasts.duration(), index, Event::End);
        match masters.shows(&self.now).await {
            Ok(shown) => {
                let injected = &mut self.done.injected[place];
                tracing::info!(fault = injected.what, "injected");
                injected.shown = shown;
            }
            Err(error) => {
                self.places.remove(&index);
                self.met.remove(&index);
                self.done.injected.truncate(place);
                self.skip(step, format!("it was not there: {error:#}"));
            }
        }
        Ok(())
    }

    async fn end<C: Cluster>(
        &mut self,
        index: usize,
        masters: &mut C,
        (tick, say, begin): (Clock<'_>, Say<'_>, Instant),
    ) -> anyhow::Result<()> {
        self.active.remove(&index);
        masters.all_live()?;
        let (mut told, mut met, mut done) = (Vec::new(), None, Effect::default());
        if let Some((effect, before)) = self.met.remove(&index) {
            masters.decided(&effect).await;
            masters.all_live()?;
            let after = masters.met(&effect);
            met = after.zip(before).map(|(after, before)| after.saturating_sub(before));
            told = masters.told_after(&effect);
            done = effect;
        }
        self.ends.remove(&index);
        self.all_phases.remove(&index);
        self.settle(masters, (tick, begin.elapsed())).await?;
        masters.shows(&self.now).await?;
        if met == Some(0) {
            self.leave_out(index, "it met nobody".to_owned());
        }
        let Step { fault, lasts, .. } = &self.scenario.schedule[index];
        match self.comes.remove(&index) {
            Some(Ok(shown)) => told.push(shown),
            Some(Err(why)) => {
                self.leave_out(index, format!("it did not come about in {lasts}: {why}"));
            }
            None if fault.waits() => self.leave_out(index, format!("nobody looked in {lasts}")),
            None => {}
        }
        if self.places.contains_key(&index) {
            let followed = masters.follows(&done, &self.now).await;
            masters.all_live()?;
            told.extend(followed.map_err(Broke::new)?);
        }
        let Some(place) = self.places.get(&index) else { return Ok(()) };
        let injected = &mut self.done.injected[*place];
        injected.to = tick();
        for name in injected.targets.iter().filter(|_| injected.fault == Fault::Join) {
            let role = masters.role_of(name).await;
            told.push(format!("{name} is {}", role.as_deref().unwrap_or("not known")));
        }
        if let Some(met) = met {
            injected.shown = format!("{}; met {met} times", injected.shown);
        }
        for told in told {
            injected.shown = format!("{}; {told}", injected.shown);
        }
        say(&format!(
            "{:>5.1} s  {:<32} {:.1} s",
            begin.elapsed().as_secs_f64(),
            injected.what,
            Duration::from_nanos(injected.to - injected.from).as_secs_f64(),
        ));
        Ok(())
    }

    /// Whether a majority is fit whatever of this comes together with what is under way; if not, what to do. Steps that
    /// overlap are looked at with all their phases, since any of those may come together.
    fn keeps_quorum(&self, phases: &[Phase], count: usize) -> Result<(), String> {
        if self.beyond_quorum {
            return Ok(());
        }
        let others = self.all_phases.values().fold(Effect::default(), Effect::and);
        let fit = |effect: &Effect| effect.clone().and(&others).leaves_majority(count);
        let all = phases.iter().fold(Effect::default(), |all, phase| all.and(&phase.effect));
        let fits = match self.all_phases.is_empty() {
            true => phases.iter().all(|phase| fit(&phase.effect)),
            false => fit(&all),
        };
        fits.then_some(()).ok_or_else(|| {
            "no majority would be left that runs undisturbed; --beyond-quorum allows it".to_owned()
        })
    }

    /// It was there, and nothing came its way, or of it: as if it had not been.
    fn leave_out(&mut self, index: usize, why: String) {
        if let Some(place) = self.places.remove(&index) {
            self.done.injected.remove(place);
            self.places.values_mut().filter(|other| **other > place).for_each(|other| *other -= 1);
        }
        self.skip(&self.scenario.schedule[index], why);
    }

    /// The run is cut short: what is under way ends now, whoever takes it back.
    pub fn abandon(&mut self, count: usize, now: Tick) {
        let under_way = self.active.keys().filter_map(|index| self.places.get(index));
        for place in under_way {
            self.done.injected[*place].to = now;
        }
        self.active.clear();
        self.now = Effect::default();
        self.note_health(count, now);
    }

    /// Makes true what all that is under way does together.
    async fn settle<C: Cluster>(
        &mut self,
        masters: &mut C,
        (tick, now): (&dyn Fn() -> Tick, Duration),
    ) -> anyhow::Result<()> {
        let ends = self.ends.values().max().copied().unwrap_or(now);
        masters.lasting(ends.saturating_sub(now));
        let mut wanted = self.active.values().fold(Effect::default(), Effect::and);
        wanted.down.extend(&self.absent);
        masters.change(&self.now, &wanted).await?;
        self.now = wanted;
        self.note_health(masters.count(), tick());
        Ok(())
    }

    fn note_health(&mut self, count: usize, from: Tick) {
        let majority = self.now.leaves_majority(count);
        self.done.health.push(Health { from, majority });
    }

    fn skip(&mut self, step: &Step, why: String) {
        let fault = step.fault;
        tracing::warn!(%fault, why, "left out");
        self.done.skipped.push(Skipped { fault, why, required: step.required });
    }

    /// Whom the step meets now.
    pub(super) async fn targets<C: Cluster>(
        &self,
        step: &Step,
        masters: &C,
        random: &mut StdRng,
    ) -> Result<BTreeSet<usize>, String> {
        let count = masters.count();
        let Some(target) = &step.target else { return Ok((0..count).collect()) };
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(random);
        // A fault of somebody who does not run is none.
        order.sort_by_key(|master| self.now.down.contains(master));
        let leader = async {
            let begin = Instant::now();
            loop {
                match masters.leader_beside(&self.now).await {
                    Some(leader) => return Ok(leader),
                    None if begin.elapsed() > LEADING_MAX => {
                        return Err("nobody led when it was to begin".to_owned());
                    }
                    None => tokio::time::sleep(super::POLL).await,
                }
            }
        };
        let targets: BTreeSet<usize> = match target {
            Target::Leader => [leader.await?].into(),
            Target::Follower => {
                let leader = leader.await?;
                let found = order.into_iter().find(|master| *master != leader);
                [found.ok_or("there is no follower")?].into()
            }
            Target::Any => order.into_iter().take(1).collect(),
            Target::All => order.into_iter().collect(),
            Target::Minority => order.into_iter().take(count.saturating_sub(1) / 2).collect(),
            Target::Majority => order.into_iter().take(count / 2 + 1).collect(),
            Target::Master(master) => [*master].into(),
            Target::Agent(agent) if *agent < masters.agents() => [count + agent].into(),
            Target::Agent(_) => return Err("no node agent runs".to_owned()),
        };
        if step.fault == Fault::Join {
            return Ok(targets);
        }
        if targets.is_subset(&self.now.down) {
            return Err(format!("{target} did not run when it was to begin"));
        }
        Ok(targets)
    }
}

/// What chooses whom a step meets: whatever else is left away from the scenario, this one means the same.
pub(super) fn random_of(seed: u64, step: &Step) -> StdRng {
    let own = step.at.0.wrapping_mul(2_654_435_761).wrapping_add(step.fault as u64);
    StdRng::seed_from_u64(seed ^ own)
}

fn words(step: &Step, names: &[String]) -> String {
    let names = names.join(", ");
    match (&step.target, step.with.point) {
        (Some(_), Some(place)) => format!("{} {place} of {names}", step.fault),
        (Some(_), None) => format!("{} of {names}", step.fault),
        (None, _) => step.fault.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::read;

    #[test]
    fn a_step_that_is_late_holds_up_those_behind_it_and_no_end() {
        let text = "name: s\nschedule:\n- {at: 1s, for: 1s, fault: kill}\n\
                    - {at: 3s, for: 1s, fault: pause}\n";
        let scenario = read::text("s.yaml", text, 1).unwrap();
        let mut nemesis = Nemesis::new(&scenario, 1, (&[], true));
        let mut next = |late: u64, end: Option<u64>| {
            nemesis.late = Duration::from_secs(late);
            if let Some(end) = end {
                nemesis.plan(Duration::from_secs(end), 0, Event::End);
            }
            let (at, index, event) = nemesis.next()?;
            Some((at.as_secs(), index, matches!(event, Event::Begin)))
        };
        assert_eq!(next(0, None), Some((1, 0, true)));
        // It waited 10 s for a leader: its end comes before the next one, whenever that was to begin.
        assert_eq!(next(10, Some(12)), Some((12, 0, false)));
        assert_eq!(next(10, Some(15)), Some((13, 1, true)));
        assert_eq!(next(10, None), Some((15, 0, false)));
        assert_eq!(next(10, None), None);
    }
}
