//! Windows over whole pages against a naive model: resets, restarts, faults, gaps, series that come and go.

use proptest::prelude::*;

use crate::domain::health::fixtures::*;
use crate::domain::health::verdict::{UnknownReason, Verdict};
use crate::domain::observation::FaultKind;
use crate::domain::policy::WorkloadPolicy;

/// What happens before one look.
#[derive(Clone, Debug)]
struct Happens {
    target: usize,
    millis: u64,
    good: u32,
    bad: u32,
    restarts: bool,
    fails: bool,
    /// Whether the page leaves the series of bad requests out.
    hides_bad: bool,
}

fn happenings() -> impl Strategy<Value = Vec<Happens>> {
    let one = (0usize..2, 100u64..9_000, 0u32..50, 0u32..50, prop::bool::weighted(0.1), prop::bool::weighted(0.2));
    let one = (one, prop::bool::weighted(0.1)).prop_map(|((target, millis, good, bad, restarts, fails), hides_bad)| {
        Happens { target, millis, good, bad, restarts, fails, hides_bad }
    });
    prop::collection::vec(one, 1..120)
}

/// One counter as its exporter has it, and what a reader who forgets nothing makes of it.
#[derive(Clone, Default)]
struct Counter {
    value: f64,
    read: Option<f64>,
    increases: Vec<(u64, f64)>,
}

impl Counter {
    /// The naive reading: the rules in full, nothing kept short.
    fn read(&mut self, now: u64, origin: &Origin) {
        let increase = match (origin, self.read) {
            (Origin::Nothing, _) => 0.0,
            (Origin::Zero, _) => self.value,
            (Origin::Before, None) => self.value,
            (Origin::Before, Some(before)) if self.value < before => self.value,
            (Origin::Before, Some(before)) => self.value - before,
        };
        self.read = Some(self.value);
        self.increases.push((now, increase));
    }

    fn within(&self, now: u64, window: u64) -> f64 {
        self.increases.iter().filter(|(at, _)| *at + window > now).map(|(_, increase)| increase).sum()
    }
}

enum Origin {
    Nothing,
    Zero,
    Before,
}

#[derive(Clone, Default)]
struct Target {
    total: Counter,
    bad: Counter,
    start: u64,
    seen: Option<(u64, u64)>,
}

fn plain_policy() -> WorkloadPolicy {
    let mut policy = policy();
    for signal in policy.signals.values_mut() {
        signal.min_requests = 0;
    }
    policy
}

fn check(script: &[Happens], tells_start: bool) -> Result<(), TestCaseError> {
    let mut scene = Scene::new(plain_policy());
    let mut targets = [Target::default(), Target::default()];
    let mut now = 1_000_000u64;
    for happens in script {
        now += happens.millis;
        let target = &mut targets[happens.target];
        if happens.restarts {
            target.start = now - happens.millis / 2;
            (target.total.value, target.bad.value) = (0.0, 0.0);
        }
        target.total.value += f64::from(happens.good + happens.bad);
        target.bad.value += f64::from(happens.bad);
        let name = ["a:1", "b:1"][happens.target];
        if happens.fails {
            scene.scrape_millis(now, name, Err(fault(FaultKind::Timeout)));
        } else {
            let origin = match target.seen {
                None if tells_start && now - target.start <= 25_000 => Origin::Zero,
                None => Origin::Nothing,
                Some((at, start)) if tells_start && start.abs_diff(target.start) > 1_000 => {
                    if target.start > at && now - target.start <= 25_000 { Origin::Zero } else { Origin::Nothing }
                }
                Some((at, _)) if now - at > 25_000 => Origin::Nothing,
                Some(_) => Origin::Before,
            };
            if !matches!(origin, Origin::Before) {
                (target.total.read, target.bad.read) = (None, None);
            }
            target.seen = Some((now, target.start));
            target.total.read(now, &origin);
            let mut page = page(vec![sample(TOTAL, 1, 0.0, target.total.value)]);
            if !happens.hides_bad {
                target.bad.read(now, &origin);
                page.samples.push(sample(BAD, 2, 0.0, target.bad.value));
            }
            page.process_start = tells_start.then_some(target.start as f64 / 1000.0);
            scene.scrape_millis(now, name, Ok(page));
        }
        let total: f64 = targets.iter().map(|target| target.total.within(now, 60_000)).sum();
        let bad: f64 = targets.iter().map(|target| target.bad.within(now, 60_000)).sum();
        match scene.signal_millis(now, "error_rate") {
            (Some(value), verdict) => {
                prop_assert_eq!(verdict, Verdict::Ok);
                prop_assert_eq!(value, bad / total);
            }
            (None, Verdict::Unknown(UnknownReason::TooFewRequests { have, .. })) => {
                prop_assert_eq!((have, total), (0, 0.0));
            }
            // Too long without a good page; the sums are not asked for.
            (None, verdict) => {
                let is_silence = match &verdict {
                    Verdict::Unknown(reason) => is_silence(reason),
                    Verdict::Ok | Verdict::Breach => false,
                };
                prop_assert!(is_silence, "{:?}", verdict);
            }
        }
    }
    Ok(())
}

fn is_silence(reason: &UnknownReason) -> bool {
    matches!(reason, UnknownReason::Stale { .. } | UnknownReason::Blind { .. } | UnknownReason::NoReading)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_with_start_times_add_up_as_the_naive_model_says(script in happenings()) {
        check(&script, true)?;
    }

    #[test]
    fn pages_without_start_times_add_up_as_the_naive_model_says(script in happenings()) {
        check(&script, false)?;
    }
}
