//! Sample → counter increase → window → signal → verdict → trigger lifecycle → assessment.
//!
//! [`Health`] holds one workload's windows and trigger states. Observations go in as they come; an assessment is asked
//! for at any time and is a function of what went in and of the time given. Each target keeps its own increases under
//! the release that it serves, so that releases side by side never mix.

use std::collections::BTreeMap;
use std::sync::Arc;

use attribution::Attribution;
use builtin::{Instances, Key};
use history::History;
use reading::{Scope, Sight};
use ring::Keep;
use series::{Delta, Role};
use target::{Hosted, Probed, Rules, Scraped};
use trigger::MAX_UNKNOWN_INTERVALS;
use verdict::TriggerState;

use super::id::{InstanceId, RevisionId, SignalName, TargetId, TriggerName};
use super::observation::{Fault, Observation, Page, Seen};
use super::policy::{Formula, Habitat, OperandId, Strategy, WorkloadPolicy};
use super::time::{Span, Timestamp};
use super::units::Finite;

mod assess;
mod attribution;
mod builtin;
mod candidate;
#[cfg(test)]
mod fixtures;
mod history;
mod interval;
mod judge;
mod quantile;
mod reading;
mod ring;
pub mod selector;
mod series;
mod target;
#[cfg(test)]
mod tests;
mod trigger;
pub mod verdict;
mod verify;

/// A newest sample older than this many intervals is stale.
const FRESH_INTERVALS: u64 = 2;

/// Beyond its longest window a ring keeps this many intervals, so that a late assessment still finds its edge.
const SLACK_INTERVALS: u64 = 5;

/// One workload's windows and trigger states.
#[derive(Debug)]
pub struct Health {
    policy: Arc<WorkloadPolicy>,
    rules: Rules,
    scraped: BTreeMap<TargetId, Scraped>,
    probed: BTreeMap<TargetId, Probed>,
    hosted: BTreeMap<InstanceId, Hosted>,
    attribution: Attribution,
    /// Families of the newest page on which an operand matched nothing.
    families: Arc<[String]>,
    watches: Vec<assess::Watch>,
    history: BTreeMap<SignalName, History>,
    /// Room for one page's increases, used again for each.
    deltas: Vec<Delta>,
    /// The release judged last, and when its rollout was noticed.
    judged: Option<(RevisionId, Timestamp)>,
    /// Since when the release in question has been judged.
    judging_since: Option<Timestamp>,
    pruned: Option<Timestamp>,
}

impl Health {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(policy: Arc<WorkloadPolicy>) -> Self {
        let operands = policy.operands.as_slice().len();
        Self {
            rules: rules(&policy),
            scraped: BTreeMap::new(),
            probed: BTreeMap::new(),
            hosted: BTreeMap::new(),
            attribution: Attribution::default(),
            families: Arc::from([]),
            watches: policy.triggers.iter().map(|_| assess::Watch::new()).collect(),
            history: BTreeMap::new(),
            deltas: vec![Delta::default(); operands],
            judged: None,
            judging_since: None,
            pruned: None,
            policy,
        }
    }

    /// Takes in one observation. Those of one target must come in the order of their time; an older one is left out.
    pub fn observe(&mut self, observation: &Observation) {
        let at = observation.at;
        match &observation.seen {
            Seen::Scrape { target, instance, result } => self.scrape(target, instance.as_ref(), result, at),
            Seen::Probe { target, instance, result } => {
                let probed = self.probed.entry(target.clone()).or_default();
                probed.instance.clone_from(instance);
                probed.take_in(result, at);
                self.attribute(at);
            }
            Seen::Releases(Ok(view)) => {
                self.attribution.take_in(view, at);
                self.attribute(at);
            }
            // What was configured when it could last be read stays the best that is known.
            Seen::Releases(Err(_)) => {}
            Seen::Host { instance, result } => {
                let hosted = self.hosted.entry(instance.clone()).or_default();
                hosted.turn(self.attribution.of_instance(instance));
                hosted.take_in(result, at, self.rules.keep_events);
            }
        }
    }

    /// Takes up a pending or firing trigger after a restart, as Prometheus restores the `for` state: the time that nobody
    /// looked does not count, and past five intervals of it the trigger starts anew.
    pub fn restore(&mut self, trigger: &TriggerName, state: TriggerState, last_seen: Timestamp) {
        let position = self.policy.triggers.iter().position(|known| known.name == *trigger);
        if let Some(watch) = position.and_then(|position| self.watches.get_mut(position)) {
            watch.lifecycle.restore(state, last_seen);
        }
    }

    /// A signal's value over the last 720 intervals, oldest first; nothing for one that never had a value.
    #[must_use]
    pub fn history(&self, signal: &SignalName) -> Vec<(Timestamp, Option<Finite>)> {
        self.history.get(signal).map(History::points).unwrap_or_default()
    }

    /// Forgets everything about targets that are gone.
    pub fn retain_targets(&mut self, keep: &dyn Fn(&TargetId) -> bool) {
        self.scraped.retain(|target, _| keep(target));
        self.probed.retain(|target, _| keep(target));
    }

    fn scrape(&mut self, id: &TargetId, instance: Option<&InstanceId>, result: &Result<Page, Fault>, at: Timestamp) {
        let target = self.scraped.entry(id.clone()).or_default();
        if target.looks.last().is_some_and(|look| look.at >= at) {
            return;
        }
        target.instance = instance.cloned();
        let page = match result {
            Ok(page) => page,
            Err(fault) => return target.fail(fault, at),
        };
        if let Some(families) = &page.families {
            self.families = Arc::clone(families);
        }
        let rollout = self.judged.as_ref().map(|(_, since)| *since);
        let is_new = target.meet_process(page, at, &self.rules, rollout);
        let probed = probe_of(&self.probed, id, instance);
        let told = probed.and_then(|probed| probed.told.as_ref());
        target.turn(self.attribution.serves(instance, told, target.process_since), at, &self.rules);
        target.take_in(page, at, is_new, &self.rules, &mut self.deltas);
    }

    /// Works out anew which release each target serves.
    fn attribute(&mut self, at: Timestamp) {
        for (id, target) in &mut self.scraped {
            let probed = probe_of(&self.probed, id, target.instance.as_ref());
            let told = probed.and_then(|probed| probed.told.as_ref());
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

    fn scope<'a>(&self, revision: Option<&'a RevisionId>, now: Timestamp, since: Option<Timestamp>) -> Scope<'a> {
        Scope { revision, now, fresh: self.policy.interval.times(FRESH_INTERVALS), since }
    }

    fn sight<'a>(&'a self, scope: Scope<'a>) -> Sight<'a> {
        Sight {
            targets: self.scraped.values().filter(|target| target.era.is_of(scope.revision)).collect(),
            any: !self.scraped.is_empty(),
            scope,
            operands: &self.policy.operands,
            families: &self.families,
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

    fn has_instances(&self) -> bool {
        !(self.hosted.is_empty() && self.probed.is_empty() && self.scraped.is_empty())
    }
}

/// The health endpoint that speaks for a scraped address: the same address, else one of the same instance.
fn probe_of<'a>(
    probed: &'a BTreeMap<TargetId, Probed>,
    target: &TargetId,
    instance: Option<&InstanceId>,
) -> Option<&'a Probed> {
    let same_instance = || {
        let instance = instance?;
        probed.values().find(|probed| probed.instance.as_ref() == Some(instance))
    };
    probed.get(target).or_else(same_instance)
}

fn rules(policy: &WorkloadPolicy) -> Rules {
    let slack = policy.interval.times(SLACK_INTERVALS);
    let mut windows = vec![Span::ZERO; policy.operands.as_slice().len()];
    let mut roles: Vec<Role> = policy
        .operands
        .as_slice()
        .iter()
        .map(|operand| Role { kind: operand.kind, counter: false, level: false })
        .collect();
    let mut longest = Span::ZERO;
    for signal in policy.signals.values() {
        let is_checked = policy.verify.checks.iter().any(|check| check.signal == signal.name);
        let window = if is_checked { signal.window.max(policy.verify.stable_for) } else { signal.window };
        longest = longest.max(window);
        for formula in signal.candidates.iter().map(|candidate| candidate.formula) {
            let (counters, level): (&[OperandId], Option<OperandId>) = match &formula {
                Formula::Ratio { bad, total } => (&[*bad, *total], None),
                Formula::Histogram { buckets, .. } => (&[*buckets], None),
                Formula::Rate { counter } => (&[*counter], None),
                Formula::Summary { quantiles, .. } => (&[], Some(*quantiles)),
                Formula::Gauge { gauge, .. } => (&[], Some(*gauge)),
                Formula::Builtin(_) => (&[], None),
            };
            for index in counters.iter().map(|operand| usize::from(operand.0)) {
                if let (Some(role), Some(longest)) = (roles.get_mut(index), windows.get_mut(index)) {
                    role.counter = true;
                    *longest = (*longest).max(window);
                }
            }
            if let Some(role) = level.and_then(|level| roles.get_mut(usize::from(level.0))) {
                role.level = true;
            }
        }
    }
    Rules {
        roles,
        keep: windows.into_iter().map(|window| Keep::new(window + slack)).collect(),
        keep_events: Keep::new(longest + slack),
        gap: policy.interval.times(MAX_UNKNOWN_INTERVALS),
        slack: policy.interval.times(FRESH_INTERVALS) + Span::from_secs(1),
        replaces_processes: replaces_processes(policy),
    }
}

/// Release directories run what the symlink names only once restarted; with commands that switch traffic the other
/// release's processes may be there long before.
fn replaces_processes(policy: &WorkloadPolicy) -> bool {
    match (&policy.habitat, policy.strategy) {
        (Habitat::ReleaseDir(_), _) | (Habitat::Command(_), Strategy::Direct | Strategy::Rolling) => true,
        (Habitat::Command(_), Strategy::BlueGreen | Strategy::Canary) => false,
    }
}
