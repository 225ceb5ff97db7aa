//! What is worth keeping of a workload's windows while nobody looks: the past of each release, minute by minute, and how far
//! its targets lie apart and what bursts single ones have, so that after a restart the next release is compared with all that
//! is known of the one before, and a restless target's bad minutes are not taken for proof.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bursts::Burst;
use super::dispersion::{Dispersion, Learned};
use super::follow;
use super::past::{Minute, Past, Sum};
use super::quantile::Bucket;
use super::single::Single;
use super::survey;
use super::{Health, MAX_EVENTS, MAX_RELEASES};
use crate::domain::id::{RevisionId, SignalName};
use crate::domain::time::Timestamp;

/// Buckets of one minute that are taken; a page with more is not compared.
const MAX_BUCKETS: usize = 256;

/// The past of a workload's releases. At most 30 minutes of each of four releases a signal, and 256 of their kills and
/// restarts.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    signals: Vec<SignalMemory>,
    events: Vec<(RevisionId, Vec<Kills>)>,
}

/// When, and how many kills and restarts.
type Kills = (Timestamp, u64, u64);

/// The past of one signal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct SignalMemory {
    signal: SignalName,
    /// The series that it was read from, as PromQL: of other series it would be another past.
    series: Vec<String>,
    releases: Vec<(RevisionId, Vec<MinuteMemory>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dispersions: Vec<(RevisionId, Learned)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bursts: Vec<(RevisionId, Vec<Burst>)>,
}

/// One minute: its begin, the bad and all requests, and cumulative buckets, whose last bound, `+Inf`, JSON has no number for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct MinuteMemory(Timestamp, f64, f64, Vec<(Option<f64>, f64)>);

impl Memory {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signals.is_empty() && self.events.is_empty()
    }
}

impl Health {
    /// What is worth keeping.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let signals = self.followed.iter().filter_map(|(signal, followed)| {
            let candidate = followed.candidate.as_ref()?;
            let releases = followed.past.minutes_by_release();
            let releases = releases.map(|(release, minutes)| (release.clone(), minutes.map(kept).collect()));
            Some(SignalMemory {
                signal: signal.clone(),
                series: survey::series(candidate, &self.policy.operands),
                releases: releases.collect(),
                dispersions: followed.dispersions().map(|(release, of)| (release.clone(), of.learned())).collect(),
                bursts: followed
                    .bursts()
                    .map(|(release, of)| (release.clone(), of.learned().collect::<Vec<Burst>>()))
                    .filter(|(_, known)| !known.is_empty())
                    .collect(),
            })
        });
        let events = self.events.iter().map(|(release, events)| (release.clone(), events.iter().copied().collect()));
        Memory { signals: signals.collect(), events: events.collect() }
    }

    /// Takes up what was kept, where nothing newer is known. What is no past of this policy's signals is left out, and so is
    /// what can't be.
    pub fn recall(&mut self, memory: Memory) {
        for SignalMemory { signal, series, releases, dispersions, bursts } in memory.signals {
            let Some(known) = self.policy.signals.get(&signal).filter(|known| follow::is_counted(known)) else {
                continue;
            };
            let same = |candidate: &&crate::domain::policy::Candidate| {
                survey::series(candidate, &self.policy.operands) == series
            };
            let Some(candidate) = known.candidates.iter().find(same) else { continue };
            let followed = self.followed.entry(signal).or_default();
            if followed.candidate.is_some() {
                continue;
            }
            followed.candidate = Some(candidate.clone());
            for (release, minutes) in releases.into_iter().take(MAX_RELEASES) {
                followed.past.recall(release, minutes.into_iter().filter_map(recalled));
            }
            for (release, learned) in dispersions.into_iter().take(MAX_RELEASES) {
                if let Some(dispersion) = Dispersion::recalled(learned) {
                    followed.recall(release, dispersion);
                }
            }
            for (release, known) in bursts.into_iter().take(MAX_RELEASES) {
                followed.recall_bursts(release, Single::recalled(&known));
            }
        }
        for (release, events) in memory.events.into_iter().take(MAX_RELEASES) {
            let events: VecDeque<_> = events.into_iter().take(MAX_EVENTS).collect();
            self.events.entry(release).or_insert(events);
        }
    }
}

fn kept(minute: &Minute) -> MinuteMemory {
    let bound = |bound: f64| bound.is_finite().then_some(bound);
    let buckets = minute.sum.buckets.iter().map(|bucket| (bound(bucket.bound), bucket.count)).collect();
    MinuteMemory(minute.begin, minute.sum.bad, minute.sum.all, buckets)
}

fn recalled(MinuteMemory(begin, bad, all, buckets): MinuteMemory) -> Option<Minute> {
    let is_count = |count: f64| count.is_finite() && count >= 0.0;
    let is_sound = is_count(bad) && is_count(all) && bad <= all && buckets.len() <= MAX_BUCKETS;
    let of = |(bound, count): (Option<f64>, f64)| {
        is_count(count).then_some(Bucket { bound: bound.unwrap_or(f64::INFINITY), count })
    };
    let buckets: Vec<Bucket> = buckets.into_iter().map(of).collect::<Option<_>>()?;
    let is_ascending = buckets.is_sorted_by(|a, b| a.bound < b.bound && a.count <= b.count);
    (is_sound && is_ascending).then_some(Minute { begin, sum: Sum { bad, all, buckets } })
}

impl Past {
    /// Every release and its minutes, oldest first.
    fn minutes_by_release(&self) -> impl Iterator<Item = (&RevisionId, impl Iterator<Item = &Minute>)> {
        self.releases().map(|release| (release, self.minutes(release)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use crate::domain::health::verdict::{Subject, Verdict};
    use crate::domain::policy::{Comparison, Condition, Formula, OperandId, WorkloadPolicy};
    use crate::domain::time::Span;
    use crate::domain::units::Unit;

    fn policy() -> WorkloadPolicy {
        let worse = |signal: &str, unit| trigger(signal, Condition::WorseThanBaseline(Comparison::usual(unit)), 60);
        policy_with(vec![worse("error_rate", Unit::Ratio), worse("p99_latency", Unit::Seconds)])
    }

    /// A page of one instance after so many seconds: 20 requests a second, so many of a hundred errors, all but those fast.
    fn look(scene: &mut Scene, seconds: i64, release: &str, errors: f64) {
        let total = 20.0 * seconds as f64;
        let mut page = requests(total, total * errors / 100.0);
        for (series, (bound, count)) in (10..).zip([(0.1, total * 0.98), (1.0, total), (f64::INFINITY, total)]) {
            page.samples.push(sample(BUCKETS, series, bound, count));
        }
        scene.releases(seconds, &[("one", release)]);
        scene.scrape_result(seconds, "a:1", Some("one"), Ok(page));
    }

    /// v1 for ten minutes.
    fn served() -> Scene {
        let mut scene = Scene::new(policy());
        scene.about("v1", 0);
        for seconds in (0..600).step_by(5) {
            look(&mut scene, seconds, "v1", 1.0);
            scene.assess(seconds);
        }
        scene
    }

    /// The new release by itself, with 30 % errors: what the comparison with the past says after three minutes.
    fn next(memory: Memory) -> Verdict {
        let mut scene = Scene::new(policy());
        scene.health.recall(memory);
        let (revision, since) = (RevisionId::from("v2"), at(1_000_000));
        scene.subject = Some(Subject { revision, since, baseline: Some(RevisionId::from("v1")), known_good: false });
        for seconds in (1_000_000..1_000_180).step_by(5) {
            look(&mut scene, seconds, "v2", 0.0);
            scene.assess(seconds);
        }
        for seconds in (1_000_180..1_000_360).step_by(5) {
            let (total, bad) = (20.0 * seconds as f64, 6.0 * (seconds - 1_000_180) as f64);
            scene.releases(seconds, &[("one", "v2")]);
            scene.scrape_result(seconds, "a:1", Some("one"), Ok(requests(total, bad)));
            scene.assess(seconds);
        }
        scene.trigger(1_000_355).evidence.verdict
    }

    #[test]
    fn after_a_restart_the_next_release_is_held_against_what_was_kept() {
        let memory = served().health.memory();
        assert_eq!(next(memory.clone()), Verdict::Breach);
        let written = serde_json::to_string(&memory).unwrap();
        let read: Memory = serde_json::from_str(&written).unwrap();
        assert_eq!(read, memory, "as it is written down");
        assert_eq!(next(read), Verdict::Breach);
        assert_ne!(next(Memory::default()), Verdict::Breach, "without it nothing is known");
    }

    /// Without it a release of restless targets would be held against calm ones after every restart.
    #[test]
    fn how_far_targets_lie_apart_is_kept_as_well() {
        let memory = served().health.memory();
        let error_rate = &memory.signals[0];
        assert_eq!(error_rate.dispersions.iter().map(|(of, _)| of.as_str()).collect::<Vec<_>>(), ["v1"]);
        let mut health = Scene::new(policy()).health;
        health.recall(memory.clone());
        assert_eq!(health.memory().signals[0].dispersions, error_rate.dispersions);
        let mut before = serde_json::to_value(&memory).unwrap();
        before["signals"][0].as_object_mut().unwrap().remove("dispersions");
        let before: Memory = serde_json::from_value(before).unwrap();
        assert_eq!(before.signals[0].releases, error_rate.releases, "of a journal from before it was kept");
    }

    /// Without it a canary of restless targets would be rolled back after every restart.
    #[test]
    fn bursts_of_single_targets_are_kept_as_well() {
        let mut memory = served().health.memory();
        assert!(memory.signals.iter().all(|signal| signal.bursts.is_empty()));
        let burst = Burst { at: at(300), lasted: Span::from_secs(40), share: 0.15, above: None };
        memory.signals[0].bursts = vec![(RevisionId::from("v1"), vec![burst])];
        let written = serde_json::to_string(&memory).unwrap();
        let mut health = Scene::new(policy()).health;
        health.recall(serde_json::from_str(&written).unwrap());
        assert_eq!(health.memory(), memory);
    }

    #[test]
    fn what_is_recalled_is_kept_again() {
        let memory = served().health.memory();
        let mut health = Scene::new(policy()).health;
        health.recall(memory.clone());
        assert_eq!(health.memory(), memory);
        assert_eq!(
            memory.signals.iter().map(|signal| signal.signal.as_str()).collect::<Vec<_>>(),
            ["error_rate", "p99_latency"]
        );
        let minutes = |memory: &Memory| memory.signals[0].releases[0].1.len();
        assert_eq!(minutes(&memory), 9, "the first 90 seconds are put down to its start");
    }

    #[test]
    fn the_past_of_other_series_is_none() {
        let memory = served().health.memory();
        let mut other = policy();
        let formula = Formula::Ratio { bad: OperandId(BAD), total: OperandId(QUEUE) };
        let signal = signal("error_rate", Unit::Ratio, formula);
        other.signals.insert(signal.name.clone(), signal);
        let mut health = Scene::new(other).health;
        health.recall(memory);
        let known: Vec<SignalName> = health.memory().signals.into_iter().map(|signal| signal.signal).collect();
        assert_eq!(known, [SignalName::from("p99_latency")]);
    }

    #[test]
    fn what_can_t_be_is_left_out() {
        let minute = |bad: f64, all: f64, buckets: &[(Option<f64>, f64)]| {
            recalled(MinuteMemory(at(0), bad, all, buckets.to_vec())).is_some()
        };
        assert!(minute(1.0, 2.0, &[]));
        assert!(minute(0.0, 2.0, &[(Some(0.1), 1.0), (None, 2.0)]));
        for (bad, all) in [(3.0, 2.0), (-1.0, 2.0), (f64::NAN, 2.0), (0.0, f64::INFINITY)] {
            assert!(!minute(bad, all, &[]), "{bad} of {all}");
        }
        assert!(!minute(0.0, 2.0, &[(Some(0.5), 1.0), (Some(0.1), 2.0)]), "bounds out of order");
        assert!(!minute(0.0, 2.0, &[(Some(0.1), 2.0), (None, 1.0)]), "counts that fall");
    }

    #[test]
    fn a_newer_past_is_not_overwritten() {
        let mut scene = served();
        let before = scene.health.memory();
        let mut other = Scene::new(policy());
        other.about("v1", 0);
        for seconds in (0..300).step_by(5) {
            look(&mut other, seconds, "v1", 50.0);
            other.assess(seconds);
        }
        scene.health.recall(other.health.memory());
        assert_eq!(scene.health.memory(), before);
        assert!(!before.is_empty());
    }
}
