//! What each judged signal was over a replay, for plots.

use std::collections::BTreeMap;

use super::drive::Watcher;
use crate::domain::controller::Controller;
use crate::domain::health::verdict::{TriggerState, Verdict};
use crate::domain::id::{SignalName, TriggerName, WorkloadId};
use crate::domain::policy::Condition;
use crate::domain::time::Timestamp;
use crate::domain::units::Unit;

/// One trigger's signal over a replay.
#[derive(Debug)]
pub struct Curve {
    /// Which signal.
    pub signal: SignalName,
    /// What it is measured in.
    pub unit: Unit,
    /// When it is bad.
    pub condition: Option<Condition>,
    /// Values by time; none where it was unknown.
    pub points: Vec<(Timestamp, Option<f64>)>,
    /// Stretches in breach.
    pub breaches: Vec<(Timestamp, Timestamp)>,
    /// When it began to fire.
    pub firings: Vec<Timestamp>,
    is_in_breach: bool,
}

/// Keeps the curves of a replay, a point each interval.
#[derive(Debug, Default)]
pub struct Curves(BTreeMap<(WorkloadId, TriggerName), Curve>);

impl Curves {
    /// All of them, by workload and trigger.
    pub fn iter(&self) -> impl Iterator<Item = (&WorkloadId, &TriggerName, &Curve)> {
        self.0.iter().map(|((workload, trigger), curve)| (workload, trigger, curve))
    }
}

impl Watcher for Curves {
    fn judged(&mut self, controller: &Controller, now: Timestamp) {
        let policy = controller.policy();
        for trigger in &controller.assessment().triggers {
            let evidence = trigger.first_term();
            let key = (policy.id.clone(), trigger.name.clone());
            let curve = self.0.entry(key).or_insert_with(|| Curve {
                signal: evidence.signal.clone(),
                unit: evidence.unit,
                condition: evidence.condition,
                points: Vec::new(),
                breaches: Vec::new(),
                firings: Vec::new(),
                is_in_breach: false,
            });
            if let TriggerState::Firing { at, .. } = trigger.state
                && curve.firings.last() != Some(&at)
            {
                curve.firings.push(at);
            }
            curve.note_breach(evidence.verdict == Verdict::Breach, now);
            let is_due = curve.points.last().is_none_or(|(last, _)| now.since(*last) >= policy.interval);
            if is_due {
                curve.points.push((now, evidence.value.map(crate::domain::units::Finite::get)));
            }
        }
    }
}

impl Curve {
    fn note_breach(&mut self, is_breach: bool, now: Timestamp) {
        match self.breaches.last_mut().filter(|_| self.is_in_breach) {
            Some((_, end)) => *end = now,
            None if is_breach => self.breaches.push((now, now)),
            None => {}
        }
        self.is_in_breach = is_breach;
    }
}
