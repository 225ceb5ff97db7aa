//! One workload of a recording: what each series is to it, and what its daemon would have seen at each moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bind::{Bound, Layout, Options};
use super::exporters::Tells;
use super::offer::Offer;
use super::recording::{Point, Recording, is_stale};
use super::view::Places;
use crate::domain::id::{InstanceId, RevisionId, SignalName, TargetId, WorkloadId};
use crate::domain::observation::{
    Answer, Fault, FaultKind, HostReading, Observation, Page, QueryAnswer, Sample, Seen, Teller,
};
use crate::domain::policy::WorkloadPolicy;
use crate::domain::time::{Span, Timestamp};

/// One workload of a recording.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: WorkloadId,
    pub(super) policy: Arc<WorkloadPolicy>,
    layout: Layout,
    places: Places,
    offer: Offer,
    moment: Gathered,
}

/// What the points of one moment add up to, with what has to be remembered from one to the next.
#[derive(Debug, Default)]
struct Gathered {
    /// By target and release.
    looks: BTreeMap<(u32, Option<u32>), Look>,
    counts: BTreeMap<u32, Counts>,
    events: Events,
    replicas: Replicas,
    /// Values of expressions.
    answers: Vec<(SignalName, f64)>,
}

/// What one target showed at one moment.
#[derive(Debug, Default)]
struct Look {
    samples: Vec<Sample>,
    process_start: Option<f64>,
    up: Option<bool>,
    probe: Option<bool>,
    /// All values so far were NaN, which a series that ended has as well.
    real: bool,
}

/// Events of one instance, added up over its containers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    reading: HostReading,
    told: Told,
}

/// Events that exporters count.
#[derive(Debug, Default)]
struct Events {
    /// By series: the value before.
    before: BTreeMap<u32, f64>,
    /// By series: how many of what it counts were seen by it, or before it.
    seen: BTreeMap<u32, u64>,
    /// By what is counted: the most that any series saw.
    most: BTreeMap<u32, u64>,
}

/// Replicas of which only the number is recorded: by the release that their Deployment's series tell, where they do.
#[derive(Debug, Default)]
struct Replicas {
    of: BTreeMap<Option<u32>, Numbers>,
    told: Told,
}

/// A number that Deployments have: by what is counted and by series, each with its time.
type Number = BTreeMap<(u32, u32), (f64, i64)>;

/// The numbers that Deployments have.
#[derive(Debug, Default)]
struct Numbers {
    all: Number,
    available: Number,
    names: Vec<InstanceId>,
}

/// When an exporter last spoke, and when that was last handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Told {
    seen: Option<i64>,
    at: Option<i64>,
}

impl Lane {
    pub(super) fn new(id: WorkloadId, policy: Arc<WorkloadPolicy>, recording: &Recording, options: &Options) -> Self {
        let layout = Layout::of(&id, &policy, recording, options);
        let interval = layout.cadence.map_or(policy.interval, |cadence| cadence.max(policy.interval));
        let policy = match interval == policy.interval {
            true => policy,
            false => Arc::new(WorkloadPolicy { interval, ..(*policy).clone() }),
        };
        let places = Places::new(interval);
        let offer = Offer::new(Arc::clone(&recording.families));
        Self { id, policy, layout, places, offer, moment: Gathered::default() }
    }

    /// How often the recording looked, where that is known.
    pub(super) fn cadence(&self) -> Option<Span> {
        self.layout.cadence
    }

    /// The release that the recording begins with, once one is seen.
    pub(super) fn first_release(&self) -> Option<&RevisionId> {
        self.places.first()
    }

    /// The releases by the time at which they were first seen.
    pub(super) fn releases(&self) -> &[(Timestamp, RevisionId)] {
        self.places.seen()
    }

    /// How the releases are known, in words.
    pub(super) fn told_by(&self) -> String {
        self.layout.told_by.to_string()
    }

    /// What of the rollouts that were given is most likely not so.
    pub(super) fn doubts(&self) -> impl Iterator<Item = String> {
        self.layout.late.iter().map(ToString::to_string)
    }

    /// Whether any series tells something of this workload.
    pub(super) fn is_empty(&self) -> bool {
        self.layout.is_empty()
    }

    /// Whether values of a signal that a server computes are recorded.
    pub(super) fn has_answers(&self, signal: &SignalName) -> bool {
        self.layout.bounds.iter().flatten().any(|bound| bound.query.as_ref() == Some(signal))
    }

    /// What was seen at one moment, releases first, added to `seen`.
    pub(super) fn observe(&mut self, at: i64, points: &[Point], seen: &mut Vec<Observation>) {
        let ours = |point: &Point| !is_stale(point.value);
        for point in points.iter().filter(|point| ours(point)) {
            let Some(bound) = self.layout.bound(point.series) else { continue };
            if let (Some(revision), false) = (bound.revision, bound.is_of_whole()) {
                self.places.saw(bound.spot, revision, at);
            }
        }
        self.places.turn(&self.layout, at);
        let mut any = false;
        for point in points {
            let Some(bound) = self.layout.bounds.get(point.series as usize).and_then(Option::as_ref) else { continue };
            any = true;
            if is_stale(point.value) {
                self.moment.events.forget(point.series);
                self.moment.replicas.forget(point.series);
                continue;
            }
            let revision = match bound.revision {
                None if !bound.is_of_whole() => self.places.resolve(&self.layout, bound.spot, at),
                told => told,
            };
            self.moment.take(bound, revision, point);
        }
        if !any && !self.places.is_due(at) {
            return;
        }
        let replicas = self.moment.replicas.count(&self.layout);
        if let Some(view) = self.places.view(&self.layout, at, &replicas) {
            seen.push(self.seen(Timestamp::from_millis(at), Seen::Releases(Ok(view))));
        }
        self.emit(Timestamp::from_millis(at), seen);
    }

    fn emit(&mut self, now: Timestamp, seen: &mut Vec<Observation>) {
        for (signal, value) in std::mem::take(&mut self.moment.answers) {
            let answer = QueryAnswer { value: Some(value), evaluated: Some(now), warning: None };
            seen.push(self.seen(now, Seen::Query { signal, result: Ok(answer) }));
        }
        let looks = std::mem::take(&mut self.moment.looks);
        for ((target, revision), look) in looks {
            let (id, instance) = self.places.names(&self.layout, target, revision);
            if let Some(healthy) = look.probe {
                let detail = if healthy { String::new() } else { "probe_success is 0".to_owned() };
                let answer = Answer { healthy, detail, revision: None };
                let (target, instance) = (id.clone(), instance.clone());
                seen.push(self.seen(now, Seen::Probe { target, instance, result: Ok(answer) }));
            }
            if let Some(result) = self.page(target, revision, look, now) {
                seen.push(self.seen(now, Seen::Scrape { target: id, instance, result }));
            }
        }
        let mut counts = std::mem::take(&mut self.moment.counts);
        for (spot, counts) in &mut counts {
            if self.is_due(counts.told, now.as_millis()) {
                counts.told.at = Some(now.as_millis());
                let instance = self.places.instance(&self.layout, *spot, now.as_millis());
                seen.push(self.seen(now, Seen::Host { instance, result: Ok(counts.reading) }));
            }
        }
        self.moment.counts = counts;
        if self.is_due(self.moment.replicas.told, now.as_millis()) {
            self.moment.replicas.told.at = Some(now.as_millis());
            for numbers in self.moment.replicas.of.values().filter(|numbers| !numbers.available.is_empty()) {
                let available = sum(&numbers.available);
                for (number, instance) in (1..).zip(&numbers.names) {
                    let active = Some(f64::from(number) <= available);
                    let result = Ok(HostReading { active, teller: Teller::Number, ..HostReading::default() });
                    seen.push(self.seen(now, Seen::Host { instance: instance.clone(), result }));
                }
            }
        }
    }

    /// The page of a look, or the fault; nothing where a look says nothing of the page.
    fn page(&mut self, target: u32, revision: Option<u32>, look: Look, now: Timestamp) -> Option<Result<Page, Fault>> {
        let has_page = look.real && (!look.samples.is_empty() || look.process_start.is_some());
        match look.up {
            Some(false) => {
                return Some(Err(Fault { kind: FaultKind::Refused, detail: "up is 0".to_owned() }));
            }
            // Beside a page at another moment of the same look it says nothing new.
            Some(true) if !has_page && self.places.was_read(target, revision, now.as_millis()) => return None,
            Some(true) => {}
            None if !has_page => return None,
            None => {}
        }
        self.places.read(target, revision, now.as_millis());
        let families = self.offer.at(revision, &self.layout.revisions, now.as_millis());
        Some(Ok(Page { samples: look.samples, process_start: look.process_start, wall_ahead: 0, families }))
    }

    /// Exporters that count for the whole cluster are read less often than pages. What they said stands until they should
    /// have spoken again, as the daemon's own look at the host would have found it at each interval.
    fn is_due(&self, told: Told, now: i64) -> bool {
        let millis = |span: Span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let stands = self.layout.counting.map_or(0, millis);
        let since = |then: i64| now - then;
        told.seen.is_some_and(|seen| {
            seen == now || (since(seen) <= stands && told.at.is_none_or(|at| since(at) >= millis(self.policy.interval)))
        })
    }

    fn seen(&self, at: Timestamp, seen: Seen) -> Observation {
        Observation { workload: self.id.clone(), at, seen }
    }
}

impl Gathered {
    fn take(&mut self, bound: &Bound, revision: Option<u32>, point: &Point) {
        if let Some(signal) = &bound.query {
            self.answers.push((signal.clone(), point.value));
        }
        if !bound.wants.is_empty() {
            let look = self.looks.entry((bound.target, revision)).or_default();
            look.real |= !point.value.is_nan();
            look.samples.extend(bound.wants.iter().map(|want| Sample {
                operand: want.operand,
                series: bound.series,
                bound: want.bound,
                value: point.value,
                timestamp: None,
            }));
        }
        let Some(tells) = bound.tells.filter(|_| point.value.is_finite()) else { return };
        let key = (bound.target, revision);
        let is_one = point.value > 0.5;
        match tells {
            Tells::Up => {
                let look = self.looks.entry(key).or_default();
                (look.up, look.real) = (Some(is_one), true);
            }
            Tells::ProcessStart => {
                let look = self.looks.entry(key).or_default();
                (look.process_start, look.real) = (Some(point.value), true);
            }
            Tells::Probe => self.looks.entry(key).or_default().probe = Some(is_one),
            Tells::OomKills | Tells::Restarts => self.count(bound, tells, point),
            Tells::Replicas => self.replicas.set(bound, revision, point, |numbers| &mut numbers.all),
            Tells::Available => self.replicas.set(bound, revision, point, |numbers| &mut numbers.available),
            Tells::Generation | Tells::Wanted => {}
        }
    }

    fn count(&mut self, bound: &Bound, tells: Tells, point: &Point) {
        let growth = self.events.growth(bound.counted, point);
        let counts = self.counts.entry(bound.spot).or_default();
        counts.told.seen = Some(point.at);
        let reading = &mut counts.reading;
        let count = if tells == Tells::OomKills { &mut reading.oom_kills } else { &mut reading.restarts };
        *count = Some(count.unwrap_or(0) + growth);
    }
}

/// Looks of an exporter without a word of a Deployment, while it speaks of others, after which that is gone.
const GONE_LOOKS: u64 = 5;

/// Replicas that are told apart.
const MAX_REPLICAS: f64 = 1_000.0;

impl Replicas {
    /// Stands for each replica of a Deployment of which only the number is recorded; each with the release that is told.
    fn count(&mut self, layout: &Layout) -> Vec<(InstanceId, Option<u32>)> {
        let mut replicas = Vec::new();
        // One that is silent while others speak is gone.
        let patience = layout.counting.map_or(Span::ZERO, |counting| counting.times(GONE_LOOKS));
        let edge = self.told.seen.map(Timestamp::from_millis).map(|seen| (seen - patience).as_millis());
        let is_there = |at: i64| edge.is_none_or(|edge| at >= edge);
        for (revision, numbers) in &mut self.of {
            numbers.all.retain(|_, (_, at)| is_there(*at));
            numbers.available.retain(|_, (_, at)| is_there(*at));
            let told = revision.and_then(|revision| layout.revisions.get(revision as usize)).map(|told| &told.id);
            let all = sum(&numbers.all).clamp(0.0, MAX_REPLICAS) as usize;
            numbers.names.truncate(all);
            for number in numbers.names.len()..all {
                numbers.names.push(InstanceId::new(qualified(&format!("replica {}", number + 1), told)));
            }
            replicas.extend(numbers.names.iter().map(|name| (name.clone(), *revision)));
        }
        replicas
    }

    fn set(
        &mut self,
        bound: &Bound,
        revision: Option<u32>,
        point: &Point,
        field: impl Fn(&mut Numbers) -> &mut Number,
    ) {
        if point.value.is_finite() {
            let key = (bound.counted, point.series);
            field(self.of.entry(revision).or_default()).insert(key, (point.value, point.at));
            self.told.seen = Some(point.at);
        }
    }

    fn forget(&mut self, series: u32) {
        for numbers in self.of.values_mut() {
            numbers.all.retain(|(_, other), _| *other != series);
            numbers.available.retain(|(_, other), _| *other != series);
        }
    }
}

/// Of all Deployments together; of each the most that any exporter tells.
fn sum(numbers: &Number) -> f64 {
    let mut most: BTreeMap<u32, f64> = BTreeMap::new();
    for ((counted, _), (value, _)) in numbers {
        let known = most.entry(*counted).or_insert(*value);
        *known = known.max(*value);
    }
    most.values().sum()
}

impl Events {
    /// What a counter of events grew by beyond what is known from other series of what it counts. One that is first seen
    /// grew by nothing, whatever it says.
    fn growth(&mut self, counted: u32, point: &Point) -> u64 {
        let growth = match self.before.insert(point.series, point.value) {
            None => 0.0,
            Some(before) if point.value >= before => point.value - before,
            Some(_) => point.value,
        };
        let most = self.most.entry(counted).or_default();
        let seen = self.seen.entry(point.series).or_insert(*most);
        *seen += growth.max(0.0).round() as u64;
        let more = seen.saturating_sub(*most);
        *most += more;
        more
    }

    fn forget(&mut self, series: u32) {
        self.before.remove(&series);
        self.seen.remove(&series);
    }
}

/// The target's name where it serves one release, and with the release where it serves several.
pub(super) fn qualified(name: &str, revision: Option<&RevisionId>) -> String {
    revision.map_or_else(|| name.to_owned(), |revision| format!("{name}@{revision}"))
}

/// A target's address.
pub(super) fn target_id(name: &str, revision: Option<&RevisionId>) -> TargetId {
    TargetId::new(qualified(name, revision))
}
