//! What each kind does over time.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::machine::{Away, Harm};
use super::*;
use crate::scenario::Parameters;

fn phases(fault: Fault, targets: &[usize], count: usize, with: Parameters) -> Vec<Phase> {
    let targets = targets.iter().copied().collect();
    fault.phases((&targets, count), Span(6000), &with, &mut StdRng::seed_from_u64(7))
}

fn cuts(fault: Fault, targets: &[usize], count: usize) -> BTreeSet<Link> {
    phases(fault, targets, count, Parameters::default())[0].effect.cuts.clone()
}

#[test]
fn partitions_of_every_shape() {
    assert_eq!(cuts(Fault::Isolate, &[0], 3), [(0, 1), (0, 2), (1, 0), (2, 0)].into());
    // Two that are isolated do not see each other either; two on one side do.
    assert!(cuts(Fault::Isolate, &[0, 1], 5).contains(&(0, 1)));
    assert!(!cuts(Fault::Partition, &[0, 1], 5).contains(&(0, 1)));
    assert_eq!(cuts(Fault::Partition, &[0, 1], 5).len(), 2 * 2 * 3);
    assert_eq!(cuts(Fault::Link, &[0, 2], 3), [(0, 2), (2, 0)].into());
    assert_eq!(cuts(Fault::OneWay, &[1], 3), [(1, 0), (1, 2)].into());
    let with = Parameters { direction: Some(Direction::Deaf), ..Parameters::default() };
    let deaf = &phases(Fault::OneWay, &[1], 3, with)[0].effect.cuts;
    assert_eq!(*deaf, [(0, 1), (2, 1)].into());
}

#[test]
fn rings_and_bridges() {
    let ring = cuts(Fault::Ring, &[], 5);
    assert_eq!(ring.len(), 20 - 5, "each hears one other");
    for master in 0..5 {
        assert_eq!(ring.iter().filter(|(_, to)| *to == master).count(), 3);
    }
    let majorities = cuts(Fault::MajoritiesRing, &[], 5);
    let sees = |master: usize| -> BTreeSet<usize> {
        (0..5).filter(|other| !majorities.contains(&(*other, master))).collect()
    };
    let views: BTreeSet<BTreeSet<usize>> = (0..5).map(sees).collect();
    assert!(views.iter().all(|view| view.len() == 3), "{views:?}");
    assert_eq!(views.len(), 5, "no two see the same");
    let bridge = cuts(Fault::Bridge, &[], 5);
    assert_eq!(bridge.len(), 2 * 2 * 2);
    let free = (0..5).filter(|m| !bridge.iter().any(|(a, b)| a == m || b == m)).count();
    assert_eq!(free, 1, "one sees all");
}

#[test]
fn swizzled_links_are_all_cut_and_all_healed() {
    let phases = phases(Fault::Swizzle, &[], 3, Parameters::default());
    let sizes: Vec<usize> = phases.iter().map(|phase| phase.effect.cuts.len()).collect();
    assert_eq!(sizes, [2, 4, 6, 4, 2, 0]);
    let times: Vec<u64> = phases.iter().map(|phase| phase.after.0).collect();
    assert_eq!(times, [0, 1000, 2000, 3000, 4000, 5000]);
}

#[test]
fn restarts_again_and_again() {
    let with = Parameters { every: Some(Span(2000)), ..Parameters::default() };
    let down = |fault| -> Vec<Vec<usize>> {
        let phases = phases(fault, &[1], 3, with);
        phases.iter().map(|phase| phase.effect.down.iter().copied().collect()).collect()
    };
    assert_eq!(down(Fault::RestartLoop), [vec![1], vec![], vec![1], vec![], vec![1], vec![]]);
    assert_eq!(down(Fault::RollingRestart), [vec![0], vec![], vec![1], vec![], vec![2], vec![]]);
}

#[test]
fn a_majority_is_one_that_hears_itself() {
    let down =
        |masters: &[usize]| Effect { down: masters.iter().copied().collect(), ..Effect::default() };
    assert!(Effect::default().leaves_majority(1));
    assert!(down(&[0]).leaves_majority(3));
    assert!(!down(&[0, 1]).leaves_majority(3));
    assert!(down(&[0, 1]).leaves_majority(5));
    let cut = |fault, count| Effect { cuts: cuts(fault, &[0], count), ..Effect::default() };
    assert!(cut(Fault::Isolate, 3).leaves_majority(3));
    assert!(!cut(Fault::Isolate, 3).and(&down(&[1])).leaves_majority(3));
    assert!(!cut(Fault::MajoritiesRing, 5).leaves_majority(5));
    assert!(!cut(Fault::Ring, 3).leaves_majority(3));
}

#[test]
fn power_is_lost_once_or_again_and_again() {
    let once = phases(Fault::PowerLoss, &[0, 2], 3, Parameters::default());
    assert_eq!(once.len(), 1, "until the end");
    assert_eq!(once[0].effect.down, [0, 2].into());
    assert_eq!(once[0].effect.dark.keys().copied().collect::<Vec<_>>(), [0, 2]);
    let with = Parameters { every: Some(Span(2000)), ..Parameters::default() };
    let again = phases(Fault::PowerLoss, &[1], 3, with);
    let seen: Vec<(u64, bool)> =
        again.iter().map(|phase| (phase.after.0, phase.effect.down.contains(&1))).collect();
    assert_eq!(
        seen,
        [(0, true), (300, false), (2000, true), (2300, false), (4000, true), (4300, false)]
    );
    let seeds: BTreeSet<u64> =
        again.iter().flat_map(|phase| phase.effect.dark.values()).copied().collect();
    assert_eq!(seeds.len(), 3, "each takes something else");
}

#[test]
fn a_rollback_keeps_files_and_goes_back_to_them() {
    let all = phases(Fault::Rollback, &[1], 3, Parameters::default());
    let seen: Vec<(bool, Harm)> = all
        .iter()
        .map(|phase| (phase.effect.down.contains(&1), phase.effect.damaged[&1].how))
        .collect();
    let (keep, back) = (Harm::Keep, Harm::GoBack);
    assert_eq!(seen, [(true, keep), (false, keep), (true, back), (false, back)]);
    assert!(all.windows(2).all(|pair| pair[0].after < pair[1].after));
}

#[test]
fn who_gets_no_memory_is_not_fit_and_who_has_slow_watchers_is() {
    let of = |fault| phases(fault, &[0, 1], 3, Parameters::default())[0].effect.clone();
    assert!(!of(Fault::Memory).leaves_majority(3));
    assert!(of(Fault::SlowWatchers).leaves_majority(3));
    assert_eq!(of(Fault::SlowWatchers).watched, [(0, 100), (1, 100)].into());
}

#[test]
fn whose_machine_is_wrong_is_not_fit() {
    for fault in [Fault::ClockJump, Fault::DiskSlow, Fault::DiskLies] {
        let effect = &phases(fault, &[0, 1], 3, Parameters::default())[0].effect;
        assert!(!effect.leaves_majority(3), "{fault}");
        let one = &phases(fault, &[0], 3, Parameters::default())[0].effect;
        assert!(one.leaves_majority(3), "{fault}");
    }
}

#[test]
fn who_is_unreached_is_fit_as_long_as_clients_reach_another() {
    let of = |fault, targets: &[usize]| {
        phases(fault, targets, 3, Parameters::default())[0].effect.clone()
    };
    assert!(of(Fault::ClientsCut, &[0, 1]).leaves_majority(3));
    assert!(!of(Fault::ClientsCut, &[0, 1, 2]).leaves_majority(3));
    let down = Effect { down: [2].into(), ..Effect::default() };
    assert!(!of(Fault::ClientsCut, &[0, 1]).and(&down).leaves_majority(3));
    assert!(of(Fault::ApiFlood, &[0, 1, 2]).leaves_majority(3), "it has to serve");
    assert!(of(Fault::ExpiredWatches, &[0, 1]).leaves_majority(3));
    assert!(!of(Fault::DiskInodes, &[0, 1]).leaves_majority(3));
    let behind = of(Fault::FallBehind, &[1]);
    assert_eq!((&behind.behind, behind.cuts.len()), (&[1].into(), 4));
}

#[test]
fn a_start_is_slow_or_finds_a_bad_certificate() {
    for fault in [Fault::SlowStart, Fault::Certificates] {
        let all = phases(fault, &[1], 3, Parameters::default());
        assert_eq!(all.len(), 2);
        assert!(all[0].effect.down.contains(&1) && all[1].effect.down.is_empty());
        assert!(all.iter().all(|phase| phase.effect.disturbs(1) && !phase.effect.disturbs(0)));
        assert_eq!(all[0].effect.disks, all[1].effect.disks);
        assert_eq!(all[0].effect.certificates, all[1].effect.certificates);
    }
}

#[test]
fn authorities_are_changed_for_all_and_disturb_nobody() {
    let all = phases(Fault::RotateCa, &[0, 1, 2], 3, Parameters::default());
    assert_eq!(all.len(), 1);
    let effect = &all[0].effect;
    assert!(effect.rotated && effect.clone().and(&Effect::default()).rotated);
    assert!(effect.leaves_majority(3) && (0..3).all(|master| !effect.disturbs(master)));
    assert!(Fault::RotateCa.waits() && !Fault::RotateCa.has_target());
}

#[test]
fn who_outlives_its_certificate_hangs_or_does_not_run() {
    let of = |away| {
        let with = Parameters { away, ..Parameters::default() };
        phases(Fault::ShortLived, &[1], 3, with)[0].effect.clone()
    };
    let (hangs, dead) = (of(None), of(Some(Away::Killed)));
    assert!(hangs.paused.contains(&1) && hangs.down.is_empty());
    assert!(dead.down.contains(&1) && dead.paused.is_empty());
    assert!([&hangs, &dead].iter().all(|effect| effect.outlived == [1].into()));
    assert!(hangs.leaves_majority(3) && dead.leaves_majority(3));
}

#[test]
fn what_ends_a_run_disturbs_nobody_before() {
    for fault in Fault::all().iter().filter(|fault| fault.ends_run()) {
        let all = phases(*fault, &[0, 1, 2], 3, Parameters::default());
        assert!(!fault.has_target() && all.len() == 1, "{fault}");
        assert!((0..3).all(|master| !all[0].effect.disturbs(master)), "{fault}");
        assert_eq!(all[0].effect.saved, *fault == Fault::Restore, "a backup is saved under load");
    }
}
