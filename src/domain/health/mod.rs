//! Sample → counter increase → window → signal → verdict → trigger lifecycle → assessment.
//!
//! [`Health`] holds one workload's windows and trigger states. Observations go in as they come; an assessment is asked
//! for at any time and is a function of what went in and of the time given. Each target keeps its own increases under
//! the release that it serves, so that releases side by side never mix.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use attribution::{Attribution, Told};
use builtin::{Instances, Key};
use follow::Followed;
use history::History;
use hosted::Hosted;
use looks::Probed;
use offered::Offered;
use queried::Queried;
use reading::{Reading, Scope, Sight};
use rules::Rules;
use series::Delta;
use target::Scraped;
use verdict::TriggerState;

use super::id::{InstanceId, RevisionId, SignalName, TargetId, TriggerName};
use super::observation::{Answer, Fault, Observation, Page, ReleaseView, Seen};
use super::policy::{Builtin, WorkloadPolicy};
use super::time::{Span, Timestamp};
use super::units::Finite;

pub mod around;
pub mod asides;
mod assess;
mod attribution;
mod builtin;
pub mod bursts;
mod candidate;
mod compare;
mod departure;
mod dispersion;
#[cfg(test)]
mod fixtures;
mod follow;
mod gate;
mod history;
mod hosted;
mod interval;
mod judge;
pub mod lasting;
mod looks;
pub mod memory;
mod offered;
mod own;
mod past;
mod process;
mod quantile;
mod queried;
mod reading;
mod ring;
pub mod rise;
mod rollout;
mod rules;
pub mod selector;
mod series;
mod service;
mod single;
pub mod survey;
mod target;
mod terms;
#[cfg(test)]
mod tests;
mod trigger;
mod usual;
pub mod verdict;
mod verify;
mod views;
mod watch;

/// A newest sample older than this many intervals is stale.
const FRESH_INTERVALS: u64 = 2;

/// Releases whose kills and restarts are remembered, and how many of them.
const MAX_RELEASES: usize = 4;
const MAX_EVENTS: usize = 256;

/// One workload's windows and trigger states.
#[derive(Debug)]
pub struct Health {
    policy: Arc<WorkloadPolicy>,
    rules: Rules,
    scraped: BTreeMap<TargetId, Scraped>,
    probed: BTreeMap<TargetId, Probed>,
    hosted: BTreeMap<InstanceId, Hosted>,
    queried: BTreeMap<SignalName, Queried>,
    /// Whether it was noted which addresses answered well before a rollback.
    is_well_noted: bool,
    /// The endpoint that speaks for an instance's other addresses.
    endpoints: BTreeMap<InstanceId, TargetId>,
    attribution: Attribution,
    /// When each instance that is there was first looked at, whether it has been in service since or not.
    met: BTreeMap<InstanceId, Timestamp>,
    /// What an orchestrator said last of the way to the desired release.
    rollout: Option<rollout::Seen>,
    /// Families of the newest page that told them.
    families: Arc<[String]>,
    offered: Offered,
    watches: Vec<watch::Watch>,
    /// Those of releases that serve beside the one in question.
    asides: BTreeMap<RevisionId, Vec<watch::Watch>>,
    /// The signals that triggers judge by counting requests.
    followed: BTreeMap<SignalName, Followed>,
    /// Kills and restarts of each release: when, how many kills, how many restarts.
    events: BTreeMap<RevisionId, VecDeque<(Timestamp, u64, u64)>>,
    history: BTreeMap<SignalName, History>,
    /// Room for one page's increases, used again for each.
    deltas: Vec<Delta>,
    /// The release judged last, and when its rollout was noticed.
    judged: Option<(RevisionId, Timestamp)>,
    /// Since when the release in question has been judged.
    judging_since: Option<Timestamp>,
    /// Whether all that may act could be seen at the last judgement.
    has_sight: bool,
    pruned: Option<Timestamp>,
}

impl Health {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(policy: Arc<WorkloadPolicy>) -> Self {
        let operands = policy.operands.as_slice().len();
        Self {
            rules: Rules::new(&policy),
            scraped: BTreeMap::new(),
            probed: BTreeMap::new(),
            hosted: BTreeMap::new(),
            queried: BTreeMap::new(),
            is_well_noted: false,
            endpoints: BTreeMap::new(),
            attribution: Attribution::default(),
            met: BTreeMap::new(),
            rollout: None,
            families: Arc::from([]),
            offered: Offered::default(),
            watches: policy.triggers.iter().map(watch::Watch::new).collect(),
            asides: BTreeMap::new(),
            followed: BTreeMap::new(),
            events: BTreeMap::new(),
            history: BTreeMap::new(),
            deltas: vec![Delta::default(); operands],
            judged: None,
            judging_since: None,
            has_sight: false,
            pruned: None,
            policy,
        }
    }

    /// Goes on under another policy. Windows and triggers start anew, less what memory keeps. Where things stand, which process
    /// answers at an address and since when, is no matter of the policy: a process that was never restarted must not pass for
    /// the release that its instance is configured to run only because somebody changed a bound.
    pub fn adopt(&mut self, policy: Arc<WorkloadPolicy>) {
        let memory = self.memory();
        let before = std::mem::replace(self, Self::new(policy));
        self.recall(memory);
        if before.policy.habitat != self.policy.habitat {
            return;
        }
        self.scraped = before.scraped;
        self.scraped.values_mut().for_each(Scraped::forget_series);
        self.probed = before.probed;
        // Whoever reads a host may be another by now, whose counts begin elsewhere.
        self.hosted = before.hosted;
        self.hosted.values_mut().for_each(Hosted::count_anew);
        self.is_well_noted = before.is_well_noted;
        self.endpoints = before.endpoints;
        self.attribution = before.attribution;
        self.rollout = before.rollout;
        self.met = before.met;
    }

    /// Takes in one observation. Those of one target must come in the order of their time; an older one is left out.
    pub fn observe(&mut self, observation: &Observation) {
        let at = observation.at;
        match &observation.seen {
            Seen::Scrape { target, instance, result } => self.scrape(target, instance.as_ref(), result, at),
            Seen::Probe { target, instance, result } => self.probe(target, instance.as_ref(), result, at),
            Seen::PageGone { target } => drop(self.scraped.remove(target)),
            Seen::EndpointGone { target } => {
                self.probed.remove(target);
                self.endpoints.retain(|_, known| known != target);
            }
            Seen::Query { signal, result } => self.queried.entry(signal.clone()).or_default().take_in(result, at),
            Seen::Releases(Ok(view)) => {
                self.attribution.take_in(view, at);
                self.met.retain(|instance, _| self.attribution.of_instance(instance).is_some());
                self.orchestrated(view, at);
                self.attribute(at);
            }
            // What was configured when it could last be read stays the best that is known.
            Seen::Releases(Err(_)) => {}
            Seen::Host { instance, result } => {
                let hosted = self.hosted.entry(instance.clone()).or_default();
                hosted.turn(self.attribution.of_instance(instance));
                let (kills, restarts) = hosted.take_in(result, at, self.rules.keep_events);
                if kills + restarts > 0 {
                    self.met.remove(instance);
                }
                if kills + restarts > 0
                    && let Some(release) = self.attribution.of_instance(instance).cloned()
                {
                    self.note_event(release, (at, kills, restarts));
                }
            }
        }
    }

    /// What goes out of service goes out of sight at once: what it said last is not how its release is now.
    fn orchestrated(&mut self, view: &ReleaseView, at: Timestamp) {
        let Some(orchestrated) = &view.orchestrated else { return };
        let serves = |instance: &Option<InstanceId>| {
            instance.as_ref().is_none_or(|instance| orchestrated.serving.contains(instance))
        };
        self.scraped.retain(|_, scraped| serves(&scraped.instance));
        self.probed.retain(|_, probed| serves(&probed.instance));
        self.endpoints.retain(|_, target| self.probed.contains_key(target));
        self.hosted.retain(|instance, _| view.instances.iter().any(|(known, _)| known == instance));
        self.rollout = Some(rollout::Seen::of(view, orchestrated, at, self.rollout.as_ref()));
    }

    /// Takes up a pending or firing trigger after a restart, as Prometheus restores the `for` state: the time that nobody
    /// looked does not count, and past five intervals of it a pending trigger starts anew. A firing one goes on until a
    /// good look ends it.
    pub fn restore(&mut self, trigger: &TriggerName, state: TriggerState, last_seen: Timestamp) {
        let position = self.policy.triggers.iter().position(|known| known.name == *trigger);
        if let Some(watch) = position.and_then(|position| self.watches.get_mut(position)) {
            watch.restore(state, last_seen);
        }
    }

    /// A signal's value over the last 720 intervals, oldest first; nothing for one that never had a value.
    #[must_use]
    pub fn history(&self, signal: &SignalName) -> Vec<(Timestamp, Option<Finite>)> {
        self.history.get(signal).map(History::points).unwrap_or_default()
    }

    /// Whether the rollout of a release was seen to be over, or its orchestrator says that it was.
    #[must_use]
    pub fn has_arrived(&self, release: &RevisionId) -> bool {
        self.rollout.as_ref().is_some_and(|seen| seen.desired == *release && seen.has_arrived)
    }

    fn scrape(&mut self, id: &TargetId, instance: Option<&InstanceId>, result: &Result<Page, Fault>, at: Timestamp) {
        let target = self.scraped.entry(id.clone()).or_default();
        if target.looks.last().is_some_and(|look| look.at >= at) {
            return;
        }
        target.instance = instance.cloned();
        if let Some(instance) = instance {
            // One that was out of service for a while is no younger for that.
            let met = self.met.get(instance).copied();
            let first = target.first_seen_by(met.unwrap_or(at));
            if met.is_none() && self.attribution.of_instance(instance).is_some() {
                self.met.insert(instance.clone(), first);
            }
        }
        let page = match result {
            Ok(page) => page,
            Err(fault) => {
                target.fail(fault, at);
                // One that has refused from its first look on is of its instance's release as well.
                let told = told(&self.probed, &self.endpoints, id, instance);
                target.turn(self.attribution.serves(instance, told, target.process_since), at, &self.rules);
                return;
            }
        };
        if let Some(families) = &page.families {
            self.families = Arc::clone(families);
        }
        let rollout = self.judged.as_ref().map(|(_, since)| *since);
        let is_new = target.meet_process(page, at, &self.rules, rollout);
        let told = told(&self.probed, &self.endpoints, id, instance);
        target.turn(self.attribution.serves(instance, told, target.process_since), at, &self.rules);
        target.take_in(page, at, is_new, &self.rules, &mut self.deltas);
        if let Some(release) = target.era.release().filter(|_| !target.era.waiting) {
            self.offered.note(release, &self.deltas, page.families.as_ref(), at);
        }
    }

    fn probe(&mut self, id: &TargetId, instance: Option<&InstanceId>, result: &Result<Answer, Fault>, at: Timestamp) {
        let probed = self.probed.entry(id.clone()).or_default();
        if probed.looks.last().is_some_and(|look| look.at >= at) {
            return;
        }
        probed.instance = instance.cloned();
        probed.take_in(result, at);
        if let Some(instance) = instance
            && !self.endpoints.contains_key(instance)
        {
            self.endpoints.insert(instance.clone(), id.clone());
        }
        // Other addresses of the instance follow with their own next page.
        let scraped = self.scraped.get_mut(id);
        let process_since = scraped.as_ref().and_then(|target| target.process_since);
        let serves = self.attribution.serves(instance, probed.told.as_ref(), process_since);
        if let Some(target) = scraped {
            target.turn(serves.clone(), at, &self.rules);
        }
        probed.turn(serves, at);
    }

    /// Works out anew which release each target serves.
    fn attribute(&mut self, at: Timestamp) {
        for (id, target) in &mut self.scraped {
            let told = told(&self.probed, &self.endpoints, id, target.instance.as_ref());
            let serves = self.attribution.serves(target.instance.as_ref(), told, target.process_since);
            target.turn(serves, at, &self.rules);
        }
        for (id, probed) in &mut self.probed {
            let process_since = self.scraped.get(id).and_then(|target| target.process_since);
            let serves = self.attribution.serves(probed.instance.as_ref(), probed.told.as_ref(), process_since);
            probed.turn(serves, at);
        }
        for (instance, hosted) in &mut self.hosted {
            hosted.turn(self.attribution.of_instance(instance));
        }
    }

    fn note_event(&mut self, release: RevisionId, event: (Timestamp, u64, u64)) {
        if !self.events.contains_key(&release) && self.events.len() >= MAX_RELEASES {
            let quiet = self.events.iter().min_by_key(|(_, events)| events.back().map(|event| event.0));
            if let Some(quiet) = quiet.map(|(release, _)| release.clone()) {
                self.events.remove(&quiet);
            }
        }
        let events = self.events.entry(release).or_default();
        if events.len() == MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }

    fn scope<'a>(&self, revision: Option<&'a RevisionId>, now: Timestamp, since: Option<Timestamp>) -> Scope<'a> {
        Scope { revision, now, fresh: self.policy.interval.times(FRESH_INTERVALS), since }
    }

    fn sight<'a>(&'a self, scope: Scope<'a>) -> Sight<'a> {
        let targets: Vec<&Scraped> = self.scraped.values().filter(|target| target.era.is_of(scope.revision)).collect();
        let mut seen = vec![false; self.policy.operands.as_slice().len()];
        for operand in targets.iter().flat_map(|target| target.operands()) {
            if let Some(seen) = seen.get_mut(usize::from(operand.0)) {
                *seen = true;
            }
        }
        Sight {
            targets,
            seen,
            any: !self.scraped.is_empty(),
            scope,
            operands: &self.policy.operands,
            settling: None,
            families: &self.families,
            offered: &self.offered,
        }
    }

    /// The instances that serve the release in question.
    fn instances(&self, revision: Option<&RevisionId>) -> Instances<'_> {
        let mut instances = Instances::new();
        for (id, hosted) in &self.hosted {
            let configured = self.attribution.of_instance(id);
            if revision.is_none() || configured == revision {
                instances.entry(Key::Instance(id)).or_default().hosted = Some(hosted);
            }
        }
        for (id, probed) in self.probed.iter().filter(|(_, probed)| probed.era.is_of(revision)) {
            let key = probed.instance.as_ref().map_or(Key::Target(id), Key::Instance);
            instances.entry(key).or_default().probed.push(probed);
        }
        for (id, scraped) in self.scraped.iter().filter(|(_, scraped)| scraped.era.is_of(revision)) {
            let key = scraped.instance.as_ref().map_or(Key::Target(id), Key::Instance);
            instances.entry(key).or_default().scraped.push(scraped);
        }
        instances
    }

    /// The share of a release's instances that are not well.
    fn unavailable(&self, instances: &Instances<'_>, scope: Scope<'_>) -> Reading {
        let told = builtin::read(Builtin::Unavailable, instances, self.has_instances(), scope, Span::ZERO);
        rollout::with_absent(told, self.rollout.as_ref(), scope)
    }

    fn has_instances(&self) -> bool {
        !(self.hosted.is_empty() && self.probed.is_empty() && self.scraped.is_empty())
    }
}

/// Whether a scraped address serves what is asked about.
fn is_of(target: &Scraped, scope: &Scope<'_>) -> bool {
    target.era.is_of(scope.revision)
}

/// What was last said of the release behind a scraped address: by the same address, else by one of the same instance.
fn told<'a>(
    probed: &'a BTreeMap<TargetId, Probed>,
    endpoints: &BTreeMap<InstanceId, TargetId>,
    target: &TargetId,
    instance: Option<&InstanceId>,
) -> Option<&'a Told> {
    let same_instance = || probed.get(endpoints.get(instance?)?);
    probed.get(target).or_else(same_instance)?.told.as_ref()
}
