//! A release against the one before it, over whole rollouts of simulated pods with seeded chance.

use crate::domain::health::around::Around;
use crate::domain::health::compare::chance::Chance;
use crate::domain::health::fixtures::{BAD, BUCKETS, Scene, TOTAL, at, finite, page, policy_with, sample, trigger};
use crate::domain::health::verdict::{Subject, TriggerState, TriggerStatus};
use crate::domain::id::RevisionId;
use crate::domain::observation::Page;
use crate::domain::policy::{Comparison, Condition, Trigger};

/// Upper bounds of the latency buckets, in seconds.
const BOUNDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];

/// When the rollout begins, with ten minutes of the old release before it.
pub(super) const ROLLOUT: i64 = 600;

/// What a pod is like at a time.
#[derive(Clone, Copy)]
pub(super) struct Like {
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) errors: f64,
    /// Median latency in seconds; log-normal with a deviation of 0.6, so that p99 is 4 times as much.
    pub(super) median: f64,
}

impl Like {
    pub(super) const WELL: Like = Like { rate: 8.0, errors: 0.002, median: 0.05 };
}

/// One pod.
struct Pod {
    name: String,
    release: &'static str,
    begins: i64,
    ends: i64,
    total: f64,
    bad: f64,
    counts: [f64; 9],
}

/// A rolling update of `pods` pods, one every `pace` seconds.
pub(super) struct Rollout {
    pods: Vec<Pod>,
    chance: Chance,
}

impl Rollout {
    pub(super) fn new(pods: i64, pace: i64, seed: u64) -> Self {
        let pod = |release: &'static str, index: i64, begins: i64, ends: i64| Pod {
            name: format!("{release}-{index}"),
            release,
            begins,
            ends,
            total: 0.0,
            bad: 0.0,
            counts: [0.0; 9],
        };
        let old = (0..pods).map(|i| pod("old", i, -100_000, ROLLOUT + 10 + (i + 1) * pace));
        let new = (0..pods).map(|i| pod("new", i, ROLLOUT + 10 + i * pace, i64::MAX));
        Self { pods: old.chain(new).collect(), chance: Chance::new(seed) }
    }

    /// Runs until `until` and returns when each trigger first fired, counted from the rollout.
    pub(super) fn run(
        self,
        triggers: Vec<Trigger>,
        until: i64,
        like: impl Fn(&str, i64, i64) -> Like,
    ) -> Vec<Option<i64>> {
        self.watch(triggers, until, like, |_| {})
    }

    /// Shows each trigger's status as well.
    pub(super) fn watch(
        mut self,
        triggers: Vec<Trigger>,
        until: i64,
        like: impl Fn(&str, i64, i64) -> Like,
        mut show: impl FnMut(&TriggerStatus),
    ) -> Vec<Option<i64>> {
        let mut scene = Scene::new(policy_with(triggers));
        let mut fired: Vec<Option<i64>> = Vec::new();
        for step in 0..until / 5 {
            let now = step * 5;
            let is_rolling = now >= ROLLOUT;
            scene.subject = Some(Subject {
                revision: RevisionId::from(if is_rolling { "new" } else { "old" }),
                since: at(if is_rolling { ROLLOUT } else { 0 }),
                baseline: is_rolling.then(|| RevisionId::from("old")),
                known_good: false,
            });
            let alive: Vec<usize> = (0..self.pods.len())
                .filter(|index| (self.pods[*index].begins..self.pods[*index].ends).contains(&now))
                .collect();
            let names: Vec<(String, &'static str)> =
                alive.iter().map(|index| (self.pods[*index].name.clone(), self.pods[*index].release)).collect();
            let instances: Vec<(&str, &str)> = names.iter().map(|(name, release)| (name.as_str(), *release)).collect();
            scene.releases(now, &instances);
            self.pods.iter().filter(|pod| pod.ends <= now).for_each(|pod| scene.page_gone(now, &pod.name));
            for index in alive {
                let like = like(self.pods[index].release, index as i64, now);
                self.pods[index].serve(like, now, &mut self.chance);
                let pod = &self.pods[index];
                let (page, name) = (pod.page(), pod.name.clone());
                scene.scrape_result(now, &name, Some(&name), Ok(page));
            }
            let assessment = scene.assess(now);
            fired.resize(assessment.triggers.len(), None);
            for (fired, status) in fired.iter_mut().zip(&assessment.triggers) {
                show(status);
                if matches!(status.state, TriggerState::Firing { .. }) {
                    fired.get_or_insert(now - ROLLOUT);
                }
            }
        }
        fired
    }
}

impl Pod {
    fn serve(&mut self, like: Like, now: i64, chance: &mut Chance) {
        let seconds = (now - self.begins).clamp(0, 5) as f64;
        let requests = (like.rate * seconds).round() as u32;
        self.total += f64::from(requests);
        self.bad += chance.binomial(requests, like.errors);
        for _ in 0..requests {
            let normal =
                (-2.0 * (1.0 - chance.uniform()).ln()).sqrt() * (std::f64::consts::TAU * chance.uniform()).cos();
            let latency = like.median * (0.6 * normal).exp();
            for (count, bound) in self.counts.iter_mut().zip(BOUNDS) {
                *count += f64::from(latency <= bound);
            }
        }
    }

    fn page(&self) -> Page {
        let series = |offset: u32| 100 + offset;
        let mut samples = vec![sample(TOTAL, 1, 0.0, self.total), sample(BAD, 2, 0.0, self.bad)];
        let buckets = BOUNDS.iter().zip(self.counts).enumerate();
        samples.extend(buckets.map(|(slot, (bound, count))| sample(BUCKETS, series(slot as u32), *bound, count)));
        Page { process_start: Some(self.begins as f64), ..page(samples) }
    }
}

pub(super) fn worse(signal: &str, factor: f64, plus: f64) -> Trigger {
    let comparison = Comparison { confidence: finite(0.99), factor: finite(factor), plus: finite(plus) };
    trigger(signal, Condition::WorseThanBaseline(comparison), 300)
}

pub(super) fn triggers() -> Vec<Trigger> {
    vec![worse("error_rate", 1.3, 0.001), worse("p99_latency", 1.3, 0.05)]
}

/// Evidence is looked for beside the old release, in young processes and against the past. Over lives in which a release is at
/// the edge of what each of them denies - as much worse as is still alike, its young processes at the policy's threshold, and
/// where the old one is gone at what is materially worse than its past - no more are found than the confidence says: one in
/// five here, so that forty lives tell.
#[test]
fn three_places_to_look_in_are_one_bet() {
    let comparison = Comparison { confidence: finite(0.8), factor: finite(1.3), plus: finite(0.001) };
    let errors = || vec![trigger("error_rate", Condition::WorseThanBaseline(comparison), 300)];
    let fired = (0..40).filter(|seed| {
        let at_the_edge = |release: &str, pod: i64, now: i64| {
            let age = now - (ROLLOUT + 10 + (pod - 6) * 60);
            let errors = match release {
                "old" => 0.02,
                _ if age < 90 => 0.1,
                _ if now > ROLLOUT + 400 => 0.026,
                _ => 0.024,
            };
            Like { errors, ..Like::WELL }
        };
        Rollout::new(6, 60, *seed).run(errors(), ROLLOUT + 900, at_the_edge)[0].is_some()
    });
    let fired = fired.count();
    assert!(fired <= 8, "{fired} of 40");
}

/// When the two comparisons fire on a rolling update of six pods, one a minute.
fn six(seed: u64, until: i64, like: impl Fn(&str, i64, i64) -> Like) -> (Option<i64>, Option<i64>) {
    let fired = Rollout::new(6, 60, seed).run(triggers(), ROLLOUT + until, like);
    (fired[0], fired[1])
}

#[test]
fn a_hard_fault_of_the_first_pod_is_found_in_two_looks() {
    let fired = (0..9).map(|seed| six(seed, 120, new_is(Like { errors: 0.4, ..Like::WELL })).0);
    let mut fired: Vec<i64> = fired.map(|errors| errors.unwrap_or(i64::MAX)).collect();
    fired.sort_unstable();
    // The first pod is ready 10 s after the rollout began, and has 40 requests a look: by chance it takes a third.
    assert!(fired[4] <= 22 && fired[8] <= 27, "{fired:?}");
}

/// While all its processes are young the new release has no value of its own to compare; the old one's is a measure all the
/// same, by which one bad pod of two is told from the other.
#[test]
fn one_bad_pod_of_the_first_two_is_told_from_the_other() {
    let mut seen = None;
    let of_one = |_: &str, pod: i64, _| if pod == 7 { Like { errors: 0.6, ..Like::WELL } } else { Like::WELL };
    Rollout::new(6, 60, 1).watch(triggers(), ROLLOUT + 100, of_one, |status| {
        if matches!(status.state, TriggerState::Firing { .. }) && seen.is_none() {
            seen = Some(status.evidence.clone());
        }
    });
    let evidence = seen.unwrap();
    let compared = evidence.compared.unwrap();
    assert!(compared.value.is_some_and(|old| old < finite(0.01)) && compared.bound.is_some(), "{compared:?}");
    let (target, of, without) = evidence.around.unwrap().worst.unwrap();
    assert!(target.as_str() == "new-1" && of == 2 && without.value < finite(0.01), "{target} {of} {without:?}");
}

/// The release before is as cold as this one, and well.
#[test]
fn a_hard_fault_is_found_beside_a_release_that_only_just_came_up() {
    let mut rollout = Rollout::new(6, 60, 0);
    rollout.pods.iter_mut().filter(|pod| pod.release == "old").for_each(|pod| pod.begins = ROLLOUT - 60);
    let fired = rollout.run(triggers(), ROLLOUT + 120, new_is(Like { errors: 0.4, ..Like::WELL }));
    assert!(fired[0].is_some_and(|errors| errors <= 22), "{fired:?}");
}

/// What the new release is like; the old one is well.
fn new_is(like: Like) -> impl Fn(&str, i64, i64) -> Like {
    move |release, _, _| if release == "new" { like } else { Like::WELL }
}

#[test]
fn softer_faults_are_found_while_both_serve() {
    let cases: [(&str, Like, i64, i64); 3] = [
        // Young processes don't count before 100 s but for what is beyond 10 %.
        ("5 %", Like { errors: 0.05, ..Like::WELL }, 100, 150),
        ("2 %", Like { errors: 0.02, ..Like::WELL }, 100, 200),
        ("latency doubled", Like { median: 0.1, ..Like::WELL }, 100, 200),
    ];
    for (name, like, from, to) in cases {
        for seed in 0..2 {
            let (errors, latency) = six(seed, 400, new_is(like));
            let fired = errors.or(latency);
            assert!(fired.is_some_and(|at| (from..=to).contains(&at)), "{name}, seed {seed}: {errors:?} {latency:?}");
        }
    }
}

#[test]
fn what_is_no_fault_of_the_release_is_left_alone() {
    type Case = (&'static str, fn(&str, i64, i64) -> Like);
    let cases: [Case; 8] = [
        ("alike", |_, _, _| Like::WELL),
        ("a cold start", |release, pod, now| {
            let began = ROLLOUT + 10 + (pod - 6) * 60;
            let is_cold = release == "new" && now - began < 60;
            if is_cold { Like { errors: 0.03, median: 0.3, ..Like::WELL } } else { Like::WELL }
        }),
        ("a dependency fails for both", |_, _, now| {
            if now > ROLLOUT + 200 { Like { errors: 0.4, median: 0.4, ..Like::WELL } } else { Like::WELL }
        }),
        (
            "a dependency flaps",
            |_, _, now| {
                if now / 7 % 9 == 0 { Like { errors: 0.4, ..Like::WELL } } else { Like::WELL }
            },
        ),
        ("a fifth worse", |release, _, _| match release {
            "new" => Like { errors: 0.024, median: 0.056, ..Like::WELL },
            _ => Like { errors: 0.02, ..Like::WELL },
        }),
        ("hardly any traffic", |_, _, _| Like { rate: 0.2, errors: 0.02, ..Like::WELL }),
        ("more traffic and with it latency", |_, _, now| {
            let more = if now > ROLLOUT { 1.0 + (now - ROLLOUT) as f64 / 4_000.0 } else { 1.0 };
            Like { rate: 8.0 * more, median: 0.05 * more, ..Like::WELL }
        }),
        ("a burst of two minutes once the old release is gone", |_, _, now| {
            let is_burst = (ROLLOUT + 700..ROLLOUT + 820).contains(&now);
            if is_burst { Like { errors: 0.5, ..Like::WELL } } else { Like::WELL }
        }),
    ];
    for (name, like) in cases {
        for seed in 0..2 {
            assert_eq!(six(seed, 1_200, like), (None, None), "{name}, seed {seed}");
        }
    }
}

/// When the comparison of errors fires where the new release fails for so many looks, from when its first pod counts on: half
/// of what is staked is on a fault from the first look on.
fn burst(seed: u64, rate: f64, looks: i64) -> Option<i64> {
    let from = ROLLOUT + 110;
    let bad = from..from + 5 * looks;
    six(seed, 250, |release, _, now| match release {
        "new" if bad.contains(&now) => Like { errors: 0.4, rate, ..Like::WELL },
        _ => Like { rate, ..Like::WELL },
    })
    .0
}

#[test]
fn a_burst_that_two_looks_saw_is_no_proof() {
    for seed in 0..3 {
        assert_eq!(burst(seed, 30.0, 2), None, "seed {seed}");
        let lasting = burst(seed, 30.0, 20);
        assert!(lasting.is_some_and(|at| (120..=130).contains(&at)), "seed {seed}: {lasting:?}");
    }
}

/// The window has it for a minute, in which single errors come by chance.
#[test]
fn evidence_of_a_burst_that_is_over_does_not_wait_for_a_bad_minute() {
    let fired: Vec<i64> = (0..12).filter_map(|seed| burst(seed, 8.0, 2)).collect();
    assert!(fired.is_empty(), "{fired:?}");
}

/// Each pod has better and worse stretches of 40 s, whichever its release.
#[test]
fn bad_stretches_of_single_pods_are_left_alone() {
    let fired = (0..12).filter(|seed| {
        let by_itself = |_: &str, pod: i64, now: i64| {
            let is_bad =
                Chance::new(seed * 1_000_003 + pod.cast_unsigned() * 1009 + now.cast_unsigned() / 40).uniform() < 0.5;
            Like { rate: 60.0, errors: if is_bad { 0.085 } else { 0.015 }, ..Like::WELL }
        };
        let (errors, _) = six(*seed, 480, by_itself);
        errors.is_some()
    });
    let fired = fired.count();
    assert_eq!(fired, 0, "of 12");
}

#[test]
fn once_the_old_release_is_gone_its_past_is_the_measure_and_a_fault_must_hold() {
    let late = ROLLOUT + 1_200;
    type Case = (&'static str, fn(i64) -> bool, std::ops::RangeInclusive<i64>);
    let cases: [Case; 2] = [
        ("for good", |_| true, 1_500..=1_540),
        ("three minutes of every five", |since| since % 300 < 180, 1_500..=1_900),
    ];
    for (name, is_bad, expected) in cases {
        let (errors, _) = six(3, 2_400, |_, _, now| {
            if now >= late && is_bad(now - late) { Like { errors: 0.05, ..Like::WELL } } else { Like::WELL }
        });
        assert!(errors.is_some_and(|errors| expected.contains(&errors)), "{name}: {errors:?}");
    }
}

/// When the comparison of errors fires where all traffic goes to the new release at once, and the old one is still asked every
/// five seconds whether it is up.
fn asked_whether_it_is_up(seed: u64, until: i64, new: impl Fn(i64) -> f64) -> Option<i64> {
    let mut rollout = Rollout::new(6, 0, seed);
    rollout.pods.iter_mut().for_each(|pod| pod.ends = i64::MAX);
    let like = |release: &str, pod: i64, now: i64| match (release, pod) {
        ("new", _) => Like { errors: new(now), ..Like::WELL },
        _ if now <= ROLLOUT + 10 => Like::WELL,
        (_, 0) => Like { rate: 0.2, errors: 0.0, ..Like::WELL },
        _ => Like { rate: 0.0, ..Like::WELL },
    };
    rollout.run(triggers(), ROLLOUT + until, like)[0]
}

#[test]
fn an_old_release_that_is_only_asked_whether_it_is_up_serves_no_more() {
    for seed in 0..3 {
        let outage = asked_whether_it_is_up(seed, 300, |now| if now < ROLLOUT + 50 { 0.6 } else { 0.002 });
        assert_eq!(outage, None, "seed {seed}");
        let bad = asked_whether_it_is_up(seed, 900, |_| 0.04);
        assert!(bad.is_some_and(|at| (300..=540).contains(&at)), "seed {seed}: {bad:?}");
    }
}

/// Little traffic, of which a third fails for 120 s every 520 s, and a single request now and then between.
#[test]
fn a_request_that_fails_by_itself_keeps_no_earlier_burst_alive() {
    let late = ROLLOUT + 800;
    let (errors, _) = six(3, 2_000, |_, pod, now| {
        let since = (now - late) % 520;
        let few = Like { rate: 0.4, errors: 0.0, ..Like::WELL };
        match since {
            _ if now < late => few,
            0..120 if pod % 3 == 0 => Like { errors: 1.0, ..few },
            190 | 310 if pod == 6 => Like { rate: 0.2, errors: 1.0, ..few },
            _ => few,
        }
    });
    assert_eq!(errors, None);
}

/// What the absolute trigger of errors above 10 % saw around it when it fired.
fn around(seed: u64, until: i64, like: impl Fn(&str, i64, i64) -> Like) -> Option<Around> {
    let mut seen = None;
    let triggers = vec![trigger("error_rate", Condition::Above(finite(0.1)), 60)];
    Rollout::new(6, 60, seed).watch(triggers, ROLLOUT + until, like, |status| {
        if matches!(status.state, TriggerState::Firing { .. }) && seen.is_none() {
            seen = status.evidence.around.as_deref().cloned();
        }
    });
    seen
}

#[test]
fn what_was_seen_around_a_fault_tells_whose_it_is() {
    let bad = Like { errors: 0.4, ..Like::WELL };
    let of_both = around(1, 400, |_, _, now| if now > ROLLOUT + 200 { bad } else { Like::WELL }).unwrap();
    assert!(of_both.beside.is_some_and(|old| old.value > finite(0.3)), "{of_both:?}");
    let own = around(1, 300, new_is(bad)).unwrap();
    assert!(own.beside.is_some_and(|old| old.value < finite(0.02)), "{own:?}");
    assert!(own.worst.is_none_or(|(_, _, without)| without.value > finite(0.3)), "{:?}", own.typical);
    let of_one = around(
        1,
        900,
        |_, pod, now| if pod == 8 && now > ROLLOUT + 500 { Like { errors: 0.9, ..bad } } else { Like::WELL },
    );
    let (target, of, without) = of_one.unwrap().worst.unwrap();
    assert!(target.as_str() == "new-2" && of == 6 && without.value < finite(0.02), "{target} {of} {without:?}");
    let crowd = around(1, 1_500, |_, _, now| if now > ROLLOUT + 900 { Like { rate: 40.0, ..bad } } else { Like::WELL });
    let (now, most) = crowd.unwrap().traffic.unwrap();
    assert!(now.get() > 2.0 * most.get(), "{now:?} {most:?}");
}

#[test]
fn a_fault_that_was_there_before_the_rollout_shows_in_the_old_ones_last_minutes() {
    let mut before = None;
    let triggers = vec![trigger("error_rate", Condition::Above(finite(0.1)), 60)];
    // All at once: from the rollout on only the new release serves.
    Rollout::new(6, 0, 1).watch(
        triggers,
        ROLLOUT + 200,
        |_, _, now| if now > ROLLOUT - 240 { Like { errors: 0.4, ..Like::WELL } } else { Like::WELL },
        |status| before = status.evidence.around.as_ref().and_then(|around| around.before).or(before),
    );
    assert!(before.is_some_and(|before| before.value > finite(0.3)), "{before:?}");
}

/// When a latency beyond 1 s for two minutes fires on a rolling update, one pod a minute, each of which is slow until that age.
fn slow_until(age: i64) -> Option<i64> {
    let like = |_: &str, pod: i64, now: i64| {
        let is_slow = pod >= 6 && now - (ROLLOUT + 10 + (pod - 6) * 60) < age;
        if is_slow { Like { median: 3.0, ..Like::WELL } } else { Like::WELL }
    };
    Rollout::new(6, 60, 1).run(vec![trigger("p99_latency", Condition::Above(finite(1.0)), 120)], ROLLOUT + 900, like)[0]
}

#[test]
fn a_cold_start_a_little_longer_than_the_warmup_is_one_all_the_same() {
    assert_eq!(slow_until(75), None);
    assert!(slow_until(i64::MAX).is_some_and(|at| (190..=210).contains(&at)), "{:?}", slow_until(i64::MAX));
}
