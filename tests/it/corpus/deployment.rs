//! A deployment as it was drawn: its pods, how traffic goes from the old version to the new one, and what it is like
//! where nothing is wrong.

use super::effect::{Course, Effect, Loss, Sight, What, Who};
use super::latency::{DEFAULT_BOUNDS, Latency};
use super::noise::Dice;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    Old,
    New,
}

/// How a rollout goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// All at once: only one version serves at any time.
    Direct,
    /// Pod by pod.
    Rolling,
    /// A few new pods with a share of the traffic for a long time, then the rest.
    Canary,
    /// All new pods beside all old ones, and the traffic moves at once.
    BlueGreen,
}

pub(super) const SHAPES: [Shape; 4] = [Shape::Direct, Shape::Rolling, Shape::Canary, Shape::BlueGreen];

/// One process of a pod, from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) start: f64,
    pub(super) ready: f64,
    pub(super) end: f64,
}

/// What a pod does by itself for a while, whatever its version: some of its requests fail, or they are slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) version: Version,
    /// The name of its release, where that is not its version's: a release that comes in between.
    pub(super) named: Option<&'static str>,
    /// The order in which the pods of its version came.
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) created: f64,
    pub(super) gone: f64,
    pub(super) lives: Vec<Life>,
    /// From when on it is not ready, though it runs and its page answers.
    pub(super) unready: f64,
    /// When it was killed for memory.
    pub(super) ooms: Vec<f64>,
    /// What the exporters had counted of it before the story.
    pub(super) past: usize,
    /// Its part of the traffic, beside the others' of its version.
    pub(super) weight: f64,
    /// How much more of its requests fail than of others'.
    pub(super) proneness: f64,
    /// Bursts of its own.
    pub(super) bursts: Vec<Burst>,
    /// How much slower it is than others.
    pub(super) slowness: f64,
    /// Seconds that its clock is ahead.
    pub(super) skew: f64,
    /// Intervals between two looks at it.
    pub(super) every: f64,
}

impl Pod {
    /// The name of its release.
    pub(super) fn release(&self) -> &'static str {
        self.named.unwrap_or(match self.version {
            Version::Old => "v41",
            Version::New => "v42",
        })
    }

    pub(super) fn life(&self, t: f64) -> Option<(usize, Life)> {
        self.lives.iter().copied().enumerate().find(|(_, life)| life.start <= t && t < life.end)
    }

    /// Seconds since its process started.
    pub(super) fn age(&self, t: f64) -> Option<f64> {
        self.life(t).map(|(_, life)| t - life.start)
    }

    pub(super) fn serves(&self, t: f64) -> bool {
        t < self.unready && self.life(t).is_some_and(|(_, life)| life.ready <= t)
    }

    /// Ends the process at `at`; the next one starts after `pause` and is ready `startup` later.
    pub(super) fn restart(&mut self, at: f64, pause: f64, startup: f64) {
        let Some(last) = self.lives.last_mut().filter(|life| life.start < at && at < life.end) else { return };
        let end = std::mem::replace(&mut last.end, at);
        if at + pause < end {
            self.lives.push(Life { start: at + pause, ready: at + pause + startup, end });
        }
    }
}

/// Shares of the traffic that a canary gets one after the other.
pub(super) const STEPS: [f64; 4] = [0.05, 0.1, 0.25, 0.5];

/// What share of the traffic the new version has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Split {
    ByPods,
    /// So much from one time to another; before nothing, after by pods.
    Canary {
        from: f64,
        until: f64,
        share: f64,
    },
    /// By [`STEPS`], of so many seconds each; after the last of them by pods.
    Steps {
        from: f64,
        every: f64,
    },
    /// All from one time on.
    Switch(f64),
}

/// How the recording names things.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    /// The label that tells the release; empty where none does.
    pub(super) release_label: &'static str,
    /// The workload's own series have a label `pod`.
    pub(super) pod_label: bool,
    /// Exporters' series have a label `revision`.
    pub(super) exporters_tell: bool,
    /// A status code has no series before its first answer.
    pub(super) lazy_codes: bool,
    /// cAdvisor and kube-state-metrics are recorded.
    pub(super) kube: bool,
    pub(super) process_start: bool,
    /// `up` is recorded as 0 while a pod starts.
    pub(super) down_while_starting: bool,
    /// A blackbox probe of the whole service is recorded.
    pub(super) probe: bool,
    /// `up` has a label `revision`.
    pub(super) up_tells: bool,
    /// A `meta.json` lies beside the recording.
    pub(super) meta: bool,
    /// Seconds that its `deploy_at` is late.
    pub(super) meta_late: f64,
    /// A second job looks at the same pods.
    pub(super) twice: bool,
    /// Of a label `workload`.
    pub(super) workload: Option<String>,
    /// By version: prefix of the request metrics' names, and bounds of the histogram.
    pub(super) prefix: [&'static str; 2],
    pub(super) bounds: [&'static [f64]; 2],
}

#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) shape: Shape,
    pub(super) pods: Vec<Pod>,
    pub(super) deploy_at: f64,
    /// When only the new version is left.
    pub(super) done_at: f64,
    pub(super) end: f64,
    /// Requests a second, of the whole.
    pub(super) rate: f64,
    pub(super) errors: f64,
    pub(super) latency: Latency,
    pub(super) split: Split,
    /// Requests a second that still come to the old version after a switch.
    pub(super) trickle: f64,
    pub(super) effects: Vec<Effect>,
    pub(super) sights: Vec<Sight>,
    /// Latency grows with this power of the traffic.
    pub(super) load: f64,
    /// Requests a second of the whole above which the rest fails.
    pub(super) capacity: f64,
    /// Seconds between two looks.
    pub(super) interval: f64,
    /// When cAdvisor and kube-state-metrics are first recorded.
    pub(super) exporters_from: f64,
    /// Pods of other workloads that the exporters tell of, and when they are killed for memory.
    pub(super) strangers: usize,
    pub(super) strangers_killed: f64,
    /// Standard deviations of the logarithms: of the traffic, of errors alike, of a pod's own errors, of latency.
    pub(super) unrest: [f64; 4],
    pub(super) dialect: Dialect,
}

/// Sizes that a family may want otherwise before a story is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) pods: usize,
    pub(super) before: f64,
    pub(super) after: f64,
    /// Seconds between two pods of a rolling update.
    pub(super) gap: f64,
    /// How long a canary runs beside the old version.
    pub(super) bake: f64,
}

impl Plan {
    pub(super) fn draw(dice: &mut Dice, shape: Shape) -> Self {
        Self {
            shape,
            pods: dice.whole(3, 6),
            before: dice.between(1000.0, 1400.0),
            after: dice.between(1500.0, 1900.0),
            gap: dice.between(20.0, 60.0),
            bake: dice.between(900.0, 1300.0),
        }
    }
}

impl Story {
    pub(super) fn draw(dice: &mut Dice, shape: Shape) -> Self {
        let plan = Plan::draw(dice, shape);
        Self::of(dice, plan)
    }

    pub(super) fn of(dice: &mut Dice, plan: Plan) -> Self {
        let pod_label = dice.chance(0.7);
        let dialect = Dialect {
            release_label: "revision",
            pod_label,
            exporters_tell: !pod_label || dice.chance(0.5),
            lazy_codes: dice.chance(0.5),
            kube: dice.chance(0.8),
            process_start: dice.chance(0.85),
            down_while_starting: dice.chance(0.4),
            probe: dice.chance(0.3),
            up_tells: dice.chance(0.4),
            meta: dice.chance(0.7),
            meta_late: 0.0,
            twice: false,
            workload: None,
            prefix: ["http", "http"],
            bounds: [DEFAULT_BOUNDS, DEFAULT_BOUNDS],
        };
        let (pods, split, done_at) = super::rollout::roll(dice, plan);
        Self {
            shape: plan.shape,
            pods,
            deploy_at: plan.before,
            done_at,
            end: plan.before + plan.after,
            rate: dice.log_between(30.0, 200.0),
            errors: dice.log_between(0.0005, 0.008),
            latency: Latency::one(dice.log_between(0.02, 0.08), dice.between(0.5, 0.8)),
            split,
            trickle: 0.0,
            effects: Vec::new(),
            sights: Vec::new(),
            load: 0.0,
            capacity: f64::INFINITY,
            interval: dice.pick(&[5.0, 10.0, 15.0]),
            exporters_from: 0.0,
            strangers: 0,
            strangers_killed: f64::INFINITY,
            unrest: [0.12, 0.25, 0.15, 0.06],
            dialect,
        }
    }

    pub(super) fn happen(&mut self, who: Who, from: f64, what: What) -> &mut Effect {
        self.effects.push(Effect { who, from, until: f64::INFINITY, course: Course::Step, what });
        self.effects.last_mut().unwrap()
    }

    /// As [`Story::happen`], for so many seconds.
    pub(super) fn happen_for(&mut self, who: Who, from: f64, lasts: f64, what: What) {
        self.happen(who, from, what).until = from + lasts;
    }

    pub(super) fn lose(&mut self, who: Who, from: f64, lasts: f64, loss: Loss) {
        self.sights.push(Sight { who, from, until: from + lasts, loss });
    }

    pub(super) fn new_pods(&mut self) -> impl Iterator<Item = &mut Pod> {
        self.pods.iter_mut().filter(|pod| pod.version == Version::New)
    }

    /// A time after the rollout, with enough left to be judged.
    pub(super) fn later(&self, dice: &mut Dice) -> f64 {
        let latest = (self.end - 1080.0).max(self.done_at + 30.0);
        dice.between(self.done_at + 20.0, latest.min(self.done_at + 400.0))
    }
}
