//! What each series of a recording is to one workload: an operand of its policy, or what an exporter tells of one of its
//! instances.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;

use super::exporters::Tells;
use super::late::Late;
use super::part::{Counted, Known, Part};
use super::recording::Recording;
use super::rollouts::{Schedule, by_generations, by_starts, template_hash};
use crate::domain::id::{RevisionId, SignalName, WorkloadId};
use crate::domain::observation::SeriesId;
use crate::domain::policy::WorkloadPolicy;
use crate::domain::time::Span;
use crate::observe::exposition::{Want, Wanted};

/// The label that tells a series' release, where the command line names none.
pub const REVISION_LABEL: &str = "revision";

/// How a recording is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The label that tells the release that a series is about.
    pub revision_label: String,
    /// The label that tells the workload that a series is about; none: all are about one.
    pub workload_label: Option<String>,
    /// What is known of the rollouts besides.
    pub schedule: Schedule,
    /// Whether the release that the recording begins with counts as known good without being seen so.
    pub first_is_good: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            revision_label: REVISION_LABEL.to_owned(),
            workload_label: None,
            schedule: Schedule::default(),
            first_is_good: true,
        }
    }
}

/// How the releases of a recording are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToldBy {
    Label(String),
    Schedule,
    PodNames,
    Generations,
    Starts,
    Nothing,
}

impl ToldBy {
    /// Whether each series tells its release, rather than the time.
    pub(super) const fn is_by_series(&self) -> bool {
        match self {
            ToldBy::Label(_) | ToldBy::PodNames => true,
            ToldBy::Schedule | ToldBy::Generations | ToldBy::Starts | ToldBy::Nothing => false,
        }
    }
}

impl fmt::Display for ToldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToldBy::Label(label) => write!(f, "the label `{label}`"),
            ToldBy::Schedule => f.write_str("the times given"),
            ToldBy::PodNames => f.write_str("the template hashes in the names of the pods"),
            ToldBy::Generations => {
                f.write_str("changes of the Deployment's generation that change no number of replicas")
            }
            ToldBy::Starts => f.write_str("new processes in all instances at about one time"),
            ToldBy::Nothing => f.write_str("nothing: there is no rollout in it"),
        }
    }
}

/// What one series is to the workload.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) spot: u32,
    pub(super) target: u32,
    /// The release that the series itself tells.
    pub(super) revision: Option<u32>,
    pub(super) series: SeriesId,
    pub(super) wants: Box<[Want]>,
    pub(super) tells: Option<Tells>,
    /// What an exporter counts by it, by number: series of one are the same thing, counted by several exporters.
    pub(super) counted: u32,
    /// The signal of which it is the value.
    pub(super) query: Option<SignalName>,
}

impl Bound {
    /// Whether it is about the workload as a whole.
    pub(super) fn is_of_whole(&self) -> bool {
        self.wants.is_empty() && (self.query.is_some() || self.tells.is_some_and(Tells::is_of_whole))
    }
}

/// An address.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) spot: u32,
}

/// A place where a release runs: a pod, or an instance by its address.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) name: String,
    pub(super) first: i64,
    pub(super) last: i64,
    /// It stands for the workload as a whole: a probe of the service, a proxy before it.
    pub(super) is_service: bool,
    /// Pages were looked for here, rather than that exporters tell of it.
    pub(super) is_target: bool,
    /// Releases that its series tell.
    pub(super) told: BTreeSet<u32>,
    /// Starts of its process: when each was first seen, and the start in milliseconds since the Unix epoch.
    pub(super) starts: Vec<(i64, i64)>,
    /// Releases of the schedule, by the time from which they are here.
    pub(super) switches: Vec<(i64, u32)>,
}

impl Spot {
    /// When within `stretch` it appeared or its process was started, if it did; what was there at the `begin` did not.
    pub(super) fn came_within(&self, stretch: Range<i64>, begin: i64) -> Option<i64> {
        let starts = self.starts.iter().map(|(_, start)| *start);
        starts.chain([self.first]).filter(|came| *came > begin && stretch.contains(came)).min()
    }
}

/// A release of the recording.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    pub(super) id: RevisionId,
    /// First point that tells it.
    pub(super) first: i64,
}

/// What everything is to the workload.
#[derive(Debug)]
pub(super) struct Layout {
    /// By series.
    pub(super) bounds: Vec<Option<Bound>>,
    pub(super) targets: Vec<Target>,
    pub(super) spots: Vec<Spot>,
    pub(super) revisions: Vec<Revision>,
    /// Releases that are in place from a time on though no series tells it, by time: those of the schedule, or, where no
    /// series tells what is in place, all of them.
    pub(super) schedule: Vec<(i64, u32)>,
    /// The release before the first rollout, where it is known besides. Nothing of it may be recorded.
    pub(super) before: Option<u32>,
    pub(super) told_by: ToldBy,
    /// Rollouts that were most likely given too late.
    pub(super) late: Vec<Late>,
    pub(super) cadence: Option<Span>,
    /// How often events of pods, or the pods themselves, were counted.
    pub(super) counting: Option<Span>,
    /// First point of all.
    pub(super) begin: i64,
}

impl Layout {
    pub(super) fn of(id: &WorkloadId, policy: &WorkloadPolicy, recording: &Recording, options: &Options) -> Self {
        let mut wanted = Wanted::new(&policy.operands);
        let label = revision_label(recording, options);
        let parts: Vec<Part<'_>> = (0..)
            .zip(&recording.series)
            .filter_map(|(slot, info)| Part::of(slot, info, &mut wanted, id, options, label))
            .collect();
        let mut known = Known::of(&parts);
        known.name(policy);
        let parts = known.ours(parts);
        let mut builder = Builder::new(recording.series.len(), options, label);
        builder.tell_releases(&parts);
        for part in &parts {
            builder.add(part, &known, id);
        }
        builder.finish(&parts, options)
    }

    pub(super) fn bound(&self, series: u32) -> Option<&Bound> {
        self.bounds.get(series as usize)?.as_ref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bounds.iter().all(Option::is_none)
    }
}

/// What a label's name has in it that tells a release under whatever further name.
const TELLING: [&str; 3] = ["revision", "version", "release"];

/// The label that tells releases: the one that is named, or, where no series has it, one whose values are the names of the
/// releases that are known besides; both of them, or one of them where the label is called so.
fn revision_label<'r>(recording: &'r Recording, options: &'r Options) -> &'r str {
    let labels = || recording.series.iter().flat_map(|series| series.labels.iter());
    let named = &*options.revision_label;
    if labels().any(|(label, _)| **label == *named) {
        return named;
    }
    let Schedule { rollouts, before } = &options.schedule;
    let releases: Vec<&str> =
        before.iter().chain(rollouts.iter().map(|(_, new)| new)).map(RevisionId::as_str).collect();
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (label, value) in labels().filter(|(_, value)| releases.contains(&&**value)) {
        values.entry(label).or_default().insert(value);
    }
    let fits = |(label, values): &(&&str, &BTreeSet<&str>)| {
        values.len() > 1 || TELLING.iter().any(|telling| label.contains(telling))
    };
    let best = values.iter().filter(fits).max_by_key(|(_, values)| values.len());
    best.map_or(named, |(label, _)| label)
}

struct Builder<'o> {
    options: &'o Options,
    revision_label: &'o str,
    layout: Layout,
    spots: HashMap<String, u32>,
    targets: HashMap<(String, u32), u32>,
    revisions: HashMap<String, u32>,
    counted: HashMap<Counted, u32>,
}

impl<'o> Builder<'o> {
    fn new(series: usize, options: &'o Options, revision_label: &'o str) -> Self {
        let layout = Layout {
            bounds: vec![None; series],
            targets: Vec::new(),
            spots: Vec::new(),
            revisions: Vec::new(),
            schedule: Vec::new(),
            before: None,
            told_by: ToldBy::Nothing,
            late: Vec::new(),
            cadence: None,
            counting: None,
            begin: 0,
        };
        let (spots, targets, revisions) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { options, revision_label, layout, spots, targets, revisions, counted: HashMap::new() }
    }

    /// Settles by what releases are told: by the label, else by the schedule, else by the pods' names.
    fn tell_releases(&mut self, parts: &[Part<'_>]) {
        let schedule = &self.options.schedule;
        let pods = || parts.iter().filter_map(Part::pod);
        self.layout.told_by = if parts.iter().any(|part| part.revision.is_some()) {
            ToldBy::Label(self.revision_label.to_owned())
        } else if !schedule.rollouts.is_empty() {
            ToldBy::Schedule
        } else if pods().next().is_some() && pods().all(|pod| template_hash(pod).is_some()) {
            ToldBy::PodNames
        } else if !by_generations(parts).is_empty() {
            ToldBy::Generations
        } else if !by_starts(parts).is_empty() {
            ToldBy::Starts
        } else {
            ToldBy::Nothing
        };
    }

    fn revision(&mut self, name: &str, first: i64) -> u32 {
        if let Some(known) = self.revisions.get(name) {
            if let Some(revision) = self.layout.revisions.get_mut(*known as usize) {
                revision.first = revision.first.min(first);
            }
            return *known;
        }
        let index = next(self.layout.revisions.len());
        self.layout.revisions.push(Revision { id: RevisionId::new(name), first });
        self.revisions.insert(name.to_owned(), index);
        index
    }

    fn add(&mut self, part: &Part<'_>, known: &Known<'_>, id: &WorkloadId) {
        let instance = part.instance().and_then(|instance| known.address_in(instance)).or(part.instance());
        let behind = instance.and_then(|instance| known.instances.get(instance).copied().flatten());
        let pod = part.pod().or(behind.filter(|_| !part.is_about_pods()));
        let name = pod.or(instance).unwrap_or(id.as_str());
        let told = match (&self.layout.told_by, part.revision, pod) {
            (ToldBy::Label(_), Some(revision), _) => Some(revision),
            (ToldBy::PodNames, _, Some(pod)) => template_hash(pod),
            (ToldBy::Label(_) | ToldBy::PodNames, _, _)
            | (ToldBy::Schedule | ToldBy::Generations | ToldBy::Starts | ToldBy::Nothing, _, _) => None,
        };
        let (first, last) = (part.info.first, part.info.last);
        let revision = told.map(|revision| self.revision(revision, first));
        let spot = self.spot(name, (first, last));
        if let Some(at) = self.layout.spots.get_mut(spot as usize) {
            at.told.extend(revision);
            if part.tells == Some(Tells::ProcessStart) {
                at.starts.extend(part.info.steps.iter().map(|(seen, start)| (*seen, (start * 1000.0) as i64)));
            }
            at.is_service &= revision.is_none() && pod.is_none() && !known.is_silent(part);
            at.is_target |= part.is_own() || matches!(part.tells, Some(Tells::Up | Tells::ProcessStart));
        }
        let target = self.target(instance.or(pod).unwrap_or(id.as_str()), spot);
        let number = next(self.counted.len());
        let counted = *self.counted.entry(Counted::of(part, spot)).or_insert(number);
        let bound = Bound {
            counted,
            spot,
            target,
            revision,
            series: SeriesId(part.slot),
            wants: part.wants.clone(),
            tells: part.tells,
            query: part.query.clone(),
        };
        if let Some(place) = self.layout.bounds.get_mut(part.slot as usize) {
            *place = Some(bound);
        }
    }

    fn spot(&mut self, name: &str, (first, last): (i64, i64)) -> u32 {
        if let Some(known) = self.spots.get(name) {
            if let Some(spot) = self.layout.spots.get_mut(*known as usize) {
                (spot.first, spot.last) = (spot.first.min(first), spot.last.max(last));
            }
            return *known;
        }
        let index = next(self.layout.spots.len());
        let spot = Spot {
            name: name.to_owned(),
            first,
            last,
            is_service: true,
            is_target: false,
            told: BTreeSet::new(),
            starts: Vec::new(),
            switches: Vec::new(),
        };
        self.layout.spots.push(spot);
        self.spots.insert(name.to_owned(), index);
        index
    }

    fn target(&mut self, name: &str, spot: u32) -> u32 {
        let key = (name.to_owned(), spot);
        if let Some(known) = self.targets.get(&key) {
            return *known;
        }
        let index = next(self.layout.targets.len());
        self.layout.targets.push(Target { name: name.to_owned(), spot });
        self.targets.insert(key, index);
        index
    }

    fn finish(mut self, parts: &[Part<'_>], options: &Options) -> Layout {
        let begin = parts.iter().map(|part| part.info.first).min().unwrap_or_default();
        let known = if self.layout.told_by.is_by_series() {
            self.announce(&options.schedule, begin);
            self.by_first_words()
        } else {
            self.schedule(parts, &options.schedule, begin)
        };
        if !self.is_any_in_place() {
            self.layout.schedule = known;
        }
        self.tell_targets_apart();
        let looked = cadence(parts, |part| part.is_own()).or_else(|| cadence(parts, |_| true));
        // What is asked for less often than pages are read sets the pace: in between it would be stale.
        self.layout.cadence = looked.max(cadence(parts, |part| part.query.is_some()));
        self.layout.counting = cadence(parts, |part| part.is_about_pods() || part.is_about_replicas());
        self.layout.begin = begin;
        self.layout
    }

    /// Whether any series tells that a release is in place: that of an instance, or of a release's own Deployment.
    fn is_any_in_place(&self) -> bool {
        self.layout.bounds.iter().flatten().any(|bound| match bound.revision {
            Some(_) => !bound.is_of_whole() || bound.tells.is_some_and(Tells::is_about_replicas),
            None => {
                let is_service = self.layout.spots.get(bound.spot as usize).is_some_and(|spot| spot.is_service);
                !bound.is_of_whole() && !is_service
            }
        })
    }

    /// The releases by the time at which a series first tells them, after the one that is known to have been before.
    fn by_first_words(&self) -> Vec<(i64, u32)> {
        let firsts = self.layout.revisions.iter().map(|revision| revision.first).zip(0..);
        let mut known: Vec<(i64, u32)> = firsts.collect();
        known.sort_by_key(|(first, revision)| (*first, Some(*revision) != self.layout.before));
        known
    }

    /// Several pods may have had one address, one after another.
    fn tell_targets_apart(&mut self) {
        let mut shared: HashMap<String, usize> = HashMap::new();
        for target in &self.layout.targets {
            *shared.entry(target.name.clone()).or_default() += 1;
        }
        for target in &mut self.layout.targets {
            let spot = self.layout.spots.get(target.spot as usize);
            if let (Some(2..), Some(spot)) = (shared.get(&target.name), spot) {
                target.name = format!("{} ({})", target.name, spot.name);
            }
        }
    }

    /// A release that is deployed and never tells of itself is in place all the same.
    fn announce(&mut self, schedule: &Schedule, begin: i64) {
        self.layout.before = schedule.before.as_ref().and_then(|name| self.revisions.get(name.as_str()).copied());
        if self.layout.before.is_none() && self.is_before_unseen(schedule) {
            self.layout.before = Some(self.revision(schedule.first().as_str(), begin));
        }
        for (at, name) in &schedule.rollouts {
            let at = at.as_millis();
            let comes = self.layout.revisions.iter().any(|revision| revision.first > begin && revision.first >= at);
            if self.revisions.contains_key(name.as_str()) || !comes {
                let revision = self.revision(name.as_str(), at);
                self.layout.schedule.push((at, revision));
            }
        }
    }

    /// Whether nothing is recorded of the release before the first rollout: all that is, is of the one that came with it,
    /// by its name, or by its time where releases are recorded under other names.
    fn is_before_unseen(&self, schedule: &Schedule) -> bool {
        let Some((at, new)) = schedule.rollouts.first() else { return false };
        let first = self.layout.revisions.iter().min_by_key(|revision| revision.first);
        first.is_some_and(|first| {
            let is_alone = self.layout.revisions.len() == 1;
            first.id == *new || (is_alone && first.first >= at.as_millis() - TOLD_LATE)
        })
    }

    /// Works out from when on each place is at which release. Gives the releases by the time of their rollout.
    fn schedule(&mut self, parts: &[Part<'_>], given: &Schedule, begin: i64) -> Vec<(i64, u32)> {
        let found = match self.layout.told_by {
            ToldBy::Generations => by_generations(parts),
            ToldBy::Starts => by_starts(parts),
            ToldBy::Label(_) | ToldBy::PodNames | ToldBy::Schedule | ToldBy::Nothing => given.rollouts.clone(),
        };
        let first = self.revision(given.first().as_str(), begin);
        self.layout.before = Some(first);
        let mut schedule = vec![(i64::MIN, first)];
        for (at, name) in &found {
            schedule.push((at.as_millis(), self.revision(name.as_str(), at.as_millis())));
        }
        let until = |index: usize| schedule.get(index + 1).map_or(i64::MAX, |(next, _)| *next);
        let mut switches: Vec<Vec<(i64, u32)>> = vec![Vec::new(); self.layout.spots.len()];
        for (index, (time, revision)) in schedule.iter().enumerate() {
            let early = time.saturating_sub(TOLD_LATE);
            // What was there when the recording began did not come.
            let comes = |spot: &Spot| spot.first >= *time || (spot.first > begin && spot.first >= early);
            let is_new = |spot: &Spot| comes(spot) && spot.first < until(index);
            let is_anew = |(_, start): &&(i64, i64)| *start >= early && *start < until(index);
            // Where nothing came and nothing was started anew, everything changed in place, unseen. What exporters tell of
            // pods says nothing of a page that all of them have in common.
            let is_seen = |spot: &Spot| is_new(spot) || spot.starts.iter().any(|start| is_anew(&start));
            let seen = [false, true]
                .map(|target| self.layout.spots.iter().any(|spot| (spot.is_target || !target) && is_seen(spot)));
            if index > 0 && self.layout.told_by == ToldBy::Schedule {
                let unseen = self.layout.spots.iter().filter(|spot| !seen[usize::from(spot.is_target)]);
                let given = self.layout.revisions.get(*revision as usize);
                let late = given.and_then(|given| Late::of(*time, given, (early, begin), unseen));
                self.layout.late.extend(late);
            }
            for (spot, switches) in self.layout.spots.iter().zip(&mut switches) {
                let anew = spot.starts.iter().find(|(_, start)| *start >= early).map(|(seen, _)| *seen);
                let from = if index == 0 || !seen[usize::from(spot.is_target)] {
                    Some(*time)
                } else if comes(spot) {
                    Some(spot.first.min(*time))
                } else {
                    anew
                };
                switches.extend(from.map(|from| (from, *revision)));
            }
        }
        for (spot, mut switches) in self.layout.spots.iter_mut().zip(switches) {
            switches.sort_by_key(|(from, _)| *from);
            spot.switches = switches;
            // A series that stands for the whole follows the schedule like any other.
            spot.is_service = false;
        }
        schedule
    }
}

fn next(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// How often these series were looked at: the middle of what they say.
fn cadence(parts: &[Part<'_>], of: impl Fn(&Part<'_>) -> bool) -> Option<Span> {
    let mut all: Vec<Span> = parts.iter().filter(|part| of(part)).filter_map(|part| part.info.cadence()).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

/// How long after its first pod a rollout may be told to have begun.
const TOLD_LATE: i64 = 60_000;
