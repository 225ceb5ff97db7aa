//! What is so at a moment of a story, whether anyone sees it or not: traffic, errors and latency of each pod.

use super::deployment::{Pod, STEPS, Shape, Split, Story, Version};
use super::effect::{Loss, What, Who};
use super::latency::Latency;
use super::noise::{Dice, Drift};

/// A story with its unrest drawn.
#[derive(Debug)]
pub(super) struct Nature<'s> {
    pub(super) story: &'s Story,
    traffic: Drift,
    errors: Drift,
    latency: Drift,
    own: Vec<Drift>,
}

impl<'s> Nature<'s> {
    pub(super) fn new(story: &'s Story, dice: &mut Dice) -> Self {
        let [traffic, errors, own, latency] = story.unrest;
        let mut drift = |spread, memory| Drift::new(dice, story.end, spread, memory);
        Self {
            story,
            traffic: drift(traffic, 120.0),
            errors: drift(errors, 90.0),
            latency: drift(latency, 180.0),
            own: story.pods.iter().map(|_| drift(own, 40.0)).collect(),
        }
    }

    /// Requests a second of the whole.
    pub(super) fn demand(&self, t: f64) -> f64 {
        let effects = self.story.effects.iter().map(|effect| match effect.what {
            What::Traffic(factor) => 1.0 + (factor - 1.0) * effect.strength(t),
            What::Errors(_)
            | What::ErrorsTimes(_)
            | What::ErrorsEachSecond(_)
            | What::Slower(_)
            | What::Diverted { .. } => 1.0,
        });
        self.story.rate * self.traffic.at(t) * effects.product::<f64>()
    }

    /// The new version's share of the traffic, of the weights of the pods in service of the old one and the new one.
    fn share(&self, t: f64, old: f64, new: f64) -> f64 {
        let by_pods = if new > 0.0 { new / (old + new) } else { 0.0 };
        let asked = match self.story.split {
            Split::ByPods => by_pods,
            Split::Canary { from, .. } if t < from => 0.0,
            Split::Canary { until, share, .. } if t < until => share,
            Split::Canary { .. } => by_pods,
            Split::Steps { from, .. } if t < from => 0.0,
            Split::Steps { from, every } => STEPS.get(((t - from) / every) as usize).copied().unwrap_or(by_pods),
            Split::Switch(at) => f64::from(t >= at),
        };
        // Where nobody of one version serves, the balancer knows only the other.
        if new <= 0.0 {
            0.0
        } else if old <= 0.0 {
            1.0
        } else {
            asked
        }
    }

    /// Requests a second of whoever asks a pod of the old version after the switch whether it is up.
    fn asked(&self, pod: &Pod, t: f64) -> f64 {
        match self.story.split {
            Split::Switch(at) if t >= at && pod.index == 0 => self.story.trickle,
            Split::Switch(_) | Split::ByPods | Split::Canary { .. } | Split::Steps { .. } => 0.0,
        }
    }

    /// Requests a second that reach each pod.
    pub(super) fn rates(&self, t: f64) -> Vec<f64> {
        let serving = |version| self.story.pods.iter().filter(move |pod| pod.version == version && pod.serves(t));
        let weight = |version| serving(version).map(|pod: &Pod| pod.weight).sum::<f64>();
        let (old, new) = (weight(Version::Old), weight(Version::New));
        let share = self.share(t, old, new);
        let demand = self.demand(t);
        let rate = |pod: &Pod| match pod.version {
            _ if !pod.serves(t) => 0.0,
            Version::Old => demand * (1.0 - share) * pod.weight / old + self.asked(pod, t),
            Version::New => demand * share * pod.weight / new,
        };
        self.story.pods.iter().map(rate).collect()
    }

    /// The share of a pod's requests that fail; a pod of the old version where none is given. Its own unrest is left
    /// out, as no one can know it.
    pub(super) fn errors(&self, pod: Option<&Pod>, t: f64) -> f64 {
        let mut base = self.story.errors * self.errors.at(t);
        let mut well = 1.0 - (1.0 - self.story.capacity / self.demand(t)).max(0.0);
        for effect in self.story.effects.iter().filter(|effect| effect.is_about(pod, t)) {
            let strength = effect.strength(t);
            match effect.what {
                What::Errors(share) => well *= 1.0 - share * strength,
                What::ErrorsTimes(factor) => base *= 1.0 + (factor - 1.0) * strength,
                What::ErrorsEachSecond(count) => well *= 1.0 - (count * strength / self.demand(t)).min(1.0),
                What::Slower(_) | What::Diverted { .. } | What::Traffic(_) => {}
            }
        }
        (1.0 - (1.0 - base) * well).clamp(0.0, 1.0)
    }

    /// How far a pod's own errors are from those of its like: a factor on the usual ones only, and bursts.
    pub(super) fn own_errors(&self, index: usize, t: f64) -> f64 {
        let pod = &self.story.pods[index];
        let burst: f64 =
            self.bursts(index, t).map(|what| if let What::Errors(share) = what { share } else { 0.0 }).sum();
        self.story.errors * self.errors.at(t) * (pod.proneness * self.own[index].at(t) - 1.0) + burst
    }

    fn bursts(&self, index: usize, t: f64) -> impl Iterator<Item = What> {
        let bursts = self.story.pods[index].bursts.iter();
        bursts.filter(move |burst| burst.from <= t && t < burst.until).map(|burst| burst.what)
    }

    /// How long a pod's requests take with its own pauses, which no one can know.
    pub(super) fn own_latency(&self, index: usize, t: f64) -> Latency {
        let mut latency = self.latency(Some(&self.story.pods[index]), t);
        for what in self.bursts(index, t) {
            match what {
                What::Slower(times) => latency.slow_down(times),
                What::Diverted { share, median } => latency.divert(share, median, 0.3),
                What::Errors(_) | What::ErrorsTimes(_) | What::ErrorsEachSecond(_) | What::Traffic(_) => {}
            }
        }
        latency
    }

    /// How long a pod's requests take, its own pauses left out; a pod of the old version where none is given.
    pub(super) fn latency(&self, pod: Option<&Pod>, t: f64) -> Latency {
        let story = self.story;
        let mut latency = story.latency.clone();
        let mut factor = self.latency.at(t) * pod.map_or(1.0, |pod| pod.slowness);
        if story.load > 0.0 {
            factor *= (self.demand(t) / story.rate).powf(story.load);
        }
        for effect in story.effects.iter().filter(|effect| effect.is_about(pod, t)) {
            let strength = effect.strength(t);
            match effect.what {
                What::Slower(times) => factor *= 1.0 + (times - 1.0) * strength,
                What::Diverted { share, median } if strength > 0.0 => latency.divert(share * strength, median, 0.3),
                What::Diverted { .. }
                | What::Errors(_)
                | What::ErrorsTimes(_)
                | What::ErrorsEachSecond(_)
                | What::Traffic(_) => {}
            }
        }
        latency.slow_down(factor);
        latency
    }

    /// Whether a pod of the old version has traffic, and is recorded at all.
    pub(super) fn is_beside(&self, t: f64) -> bool {
        let mut sights = self.story.sights.iter();
        if sights.any(|sight| (sight.who, sight.loss) == (Who::Old, Loss::Gap) && sight.from <= t && t < sight.until) {
            return false;
        }
        let rates = self.rates(t);
        let old = self.story.pods.iter().zip(rates).filter(|(pod, _)| pod.version == Version::Old);
        let asked = old.map(|(pod, rate)| rate - self.asked(pod, t)).sum::<f64>();
        self.story.shape != Shape::Direct && asked > 0.0
    }

    /// Times at which something changes abruptly.
    pub(super) fn edges(&self) -> Vec<f64> {
        let story = self.story;
        let mut edges = Vec::new();
        for effect in &story.effects {
            effect.edges(story.end, &mut edges);
        }
        for life in story.pods.iter().flat_map(|pod| &pod.lives) {
            edges.extend([life.start, life.ready, life.end]);
        }
        edges.extend(story.pods.iter().map(|pod| pod.unready));
        for burst in story.pods.iter().flat_map(|pod| &pod.bursts) {
            edges.extend([burst.from, burst.until]);
        }
        match story.split {
            Split::ByPods => {}
            Split::Canary { from, until, .. } => edges.extend([from, until]),
            Split::Steps { from, every } => {
                edges.extend((0..=STEPS.len()).map(|step| from + every * step as f64));
            }
            Split::Switch(at) => edges.push(at),
        }
        edges.retain(|edge| (0.0..story.end).contains(edge));
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        edges
    }
}
