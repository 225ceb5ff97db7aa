//! Looks at a story as Prometheus would have had them: what each page counted, and what the exporters told.

use super::deployment::{Life, Pod, Story, Version};
use super::effect::{Loss, Who};
use super::exporters::Told;
use super::nature::Nature;
use super::noise::Dice;
use super::page::{Page, Places};
use super::trace::Trace;

/// What one look at a pod of the new version added to what was known, and what was so meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When it was recorded.
    pub(super) at: f64,
    /// The pod's age at the look before.
    pub(super) age: f64,
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) buckets: Vec<u64>,
    /// Requests that took more than 5 s.
    pub(super) slow: u64,
    /// The true share of failures: of such a pod, and of a pod of the old version.
    pub(super) errors: [f64; 2],
    /// The true shares of the buckets, likewise.
    pub(super) shares: [Vec<f64>; 2],
    /// The true share above 5 s.
    pub(super) slow_share: f64,
    /// Whether the shift of the latency is one that a user feels.
    pub(super) is_felt: bool,
    /// Whether a pod of the old version had traffic.
    pub(super) beside: bool,
}

/// Records a whole story; the looks at the new version's pods, by time, and what exporters told of it.
pub(super) fn record(nature: &Nature<'_>, dice: &mut Dice, trace: &mut Trace) -> (Vec<Look>, Told) {
    let story = nature.story;
    let edges = nature.edges();
    let mut looks = Vec::new();
    for index in 0..story.pods.len() {
        Camera { nature, index, edges: &edges, dice, trace, looks: &mut looks }.run();
    }
    let told = super::exporters::record(story, dice, trace);
    looks.sort_by(|a, b| a.at.total_cmp(&b.at));
    (looks, told)
}

struct Camera<'a> {
    nature: &'a Nature<'a>,
    index: usize,
    edges: &'a [f64],
    dice: &'a mut Dice,
    trace: &'a mut Trace,
    looks: &'a mut Vec<Look>,
}

/// Counts since the look before, with what was so.
#[derive(Default)]
struct Growth {
    requests: u64,
    failed: u64,
    buckets: Vec<u64>,
    weight: f64,
    errors: [f64; 2],
    shares: [Vec<f64>; 2],
    slow_share: f64,
    is_felt: bool,
    beside: bool,
}

impl<'a> Camera<'a> {
    fn pod(&self) -> &'a Pod {
        &self.nature.story.pods[self.index]
    }

    fn story(&self) -> &'a Story {
        self.nature.story
    }

    fn run(&mut self) {
        let (interval, end) = (self.story().interval * self.pod().every, self.story().end.min(self.pod().gone));
        let begin = self.pod().created.max(0.0);
        let mut next = begin + self.dice.between(0.0, interval);
        let mut page = Page::new(self.story(), self.pod(), self.trace);
        // The other job's looks fall between this one's, and see the same counters as they are then.
        let other = self.story().dialect.twice.then(|| Places::new("api-too", self.story(), self.pod(), self.trace));
        let mut life: Option<usize> = None;
        let mut seen = 0.0;
        while next < end {
            let t = next + self.dice.between(-0.02, 0.02) * interval;
            next += interval;
            let loss = loss(self.story(), self.pod(), t);
            if loss == Some(Loss::Gap) {
                continue;
            }
            let stamp = t + self.pod().skew;
            let Some((number, alive)) = self.pod().life(t).filter(|_| loss != Some(Loss::Down)) else {
                page.down(self.trace, stamp);
                continue;
            };
            if t < alive.ready {
                // Nothing listens yet.
                if self.story().dialect.down_while_starting || number > 0 {
                    page.down(self.trace, stamp);
                }
                continue;
            }
            match loss {
                Some(Loss::Frozen) if life.is_some() => {
                    page.write(self.trace, stamp);
                    continue;
                }
                Some(Loss::Nan) => {
                    page.nan(self.trace, stamp);
                    continue;
                }
                Some(Loss::Frozen | Loss::Gap | Loss::Down) | None => {}
            }
            let is_first = life != Some(number);
            if is_first {
                life = Some(number);
                page.reset(&alive);
                seen = alive.ready.max(0.0);
            }
            let growth = self.grow(&mut page, seen, t);
            page.write(self.trace, stamp);
            if let Some(other) = &other {
                page.write_as(other, self.trace, stamp + interval * 0.3);
            }
            if !is_first && self.pod().version == Version::New {
                self.note(growth, stamp, seen - alive.start);
            }
            seen = t;
        }
    }

    /// Draws what happened from one time to another.
    fn grow(&mut self, page: &mut Page, from: f64, until: f64) -> Growth {
        let mut growth = Growth::default();
        let first = self.edges.partition_point(|edge| *edge <= from);
        let inner = self.edges[first..].iter().copied().take_while(|edge| *edge < until);
        // Where nothing changes abruptly, ramps and drifts are still followed.
        let mut cuts: Vec<f64> = std::iter::once(from).chain(inner).chain([until]).collect();
        let mut index = 0;
        while index + 1 < cuts.len() {
            if cuts[index + 1] - cuts[index] > 20.0 {
                cuts.insert(index + 1, cuts[index] + 15.0);
            }
            index += 1;
        }
        for pair in cuts.windows(2) {
            self.stretch(page, pair[0], pair[1], &mut growth);
        }
        growth
    }

    fn stretch(&mut self, page: &mut Page, from: f64, until: f64, growth: &mut Growth) {
        let nature = self.nature;
        let (t, pod) = ((from + until) / 2.0, &nature.story.pods[self.index]);
        let expected = nature.rates(t)[self.index] * (until - from);
        if expected <= 0.0 {
            return;
        }
        let latency = nature.latency(Some(pod), t);
        let errors = nature.errors(Some(pod), t);
        let shares = latency.shares(page.bounds);
        let requests = self.dice.poisson(expected);
        let failed = self.dice.binomial(requests, errors + nature.own_errors(self.index, t) * (1.0 - errors));
        let drawn = nature.own_latency(self.index, t);
        let buckets = self.dice.multinomial(requests, &drawn.shares(page.bounds));
        page.add(requests, failed, &buckets, drawn.mean());
        if pod.version == Version::Old {
            return;
        }
        let like_old = nature.latency(None, t);
        growth.requests += requests;
        growth.failed += failed;
        add(&mut growth.buckets, &buckets);
        growth.weight += expected;
        growth.errors[0] += errors * expected;
        growth.errors[1] += nature.errors(None, t) * expected;
        let weighted = |shares: &[f64]| shares.iter().map(|share| share * expected).collect::<Vec<f64>>();
        add(&mut growth.shares[0], &weighted(&shares));
        add(&mut growth.shares[1], &weighted(&like_old.shares(page.bounds)));
        growth.slow_share += latency.above(5.0) * expected;
        growth.is_felt |= super::truth::is_felt(&latency, &like_old);
        growth.beside |= nature.is_beside(t);
    }

    fn note(&mut self, growth: Growth, at: f64, age: f64) {
        if growth.requests == 0 {
            return;
        }
        let mean = |sum: f64| sum / growth.weight;
        let bounds = self.story().dialect.bounds[1];
        let above = bounds.iter().position(|bound| *bound >= 5.0).map_or(usize::MAX, |place| place + 1);
        self.looks.push(Look {
            at,
            age,
            requests: growth.requests,
            failed: growth.failed,
            slow: growth.buckets.iter().skip(above).sum(),
            buckets: growth.buckets,
            errors: growth.errors.map(mean),
            shares: growth.shares.map(|shares| shares.into_iter().map(mean).collect()),
            slow_share: mean(growth.slow_share),
            is_felt: growth.is_felt,
            beside: growth.beside,
        });
    }
}

fn add<T: Copy + std::ops::AddAssign>(sums: &mut Vec<T>, values: &[T]) {
    if sums.is_empty() {
        sums.extend(values);
        return;
    }
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += *value);
}

/// What is lost of a look at a pod.
fn loss(story: &Story, pod: &Pod, t: f64) -> Option<Loss> {
    let is_about = |who: Who| match who {
        Who::All => true,
        Who::Old => pod.version == Version::Old,
        Who::New => pod.version == Version::New,
        Who::NewPod(index) => pod.version == Version::New && pod.index == index,
        Who::NewEach(nth) => pod.version == Version::New && pod.index % nth == nth - 1,
        Who::Each(nth) => pod.index % nth == nth - 1,
        Who::Young(age) => pod.age(t).is_some_and(|at| at < age),
    };
    let mut sights = story.sights.iter().filter(|sight| sight.from <= t && t < sight.until);
    sights.find(|sight| is_about(sight.who)).map(|sight| sight.loss)
}

/// Whether a life began before the recording.
pub(super) fn is_old_life(life: &Life) -> bool {
    life.start < 0.0
}
