//! A scraped address: its series' last values, and what they add up to under the release that it serves.

use std::sync::Arc;

use super::attribution::{Era, Serves};
use super::follow::YOUNG;
use super::hosted::Events;
use super::looks::{Look, Looks, Outcome};
use super::ring::{Keep, Ring};
use super::rules::Rules;
use super::series::{Delta, Level, Origin, SeriesTable};
use crate::domain::id::InstanceId;
use crate::domain::observation::{Fault, Page};
use crate::domain::policy::OperandId;
use crate::domain::time::{Span, Timestamp};

/// Process start times that differ by less are the same start, read from a clock that was adjusted in between. Seconds.
const SAME_START: f64 = 1.0;

/// How long after a change of release the restart that belongs to it may come.
const ROLLOUT_RESTART: Span = Span::from_secs(60);

/// The latest values of gauges and summaries, of one operand.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    pub(super) levels: Vec<Level>,
    pub(super) at: Option<Timestamp>,
    stamp: Option<Timestamp>,
}

/// A scraped address.
#[derive(Clone, Debug, Default)]
pub(super) struct Scraped {
    pub(super) instance: Option<InstanceId>,
    pub(super) era: Era,
    pub(super) looks: Looks,
    /// The first look of all at it or at its instance, whatever came of it.
    first_seen: Option<Timestamp>,
    /// The newest good page of the release that is served now.
    pub(super) page: Option<Timestamp>,
    /// The newest good page at all, which last values are from.
    previous: Option<Timestamp>,
    /// When the process was last seen to be a new one.
    pub(super) process_since: Option<Timestamp>,
    pub(super) process_start: Option<f64>,
    /// When the process began, on the timeline: as the clocks stood to one another when it was first seen.
    pub(super) began: Option<Timestamp>,
    /// The latest start seen of any process here. Several may answer in turn at one address, and that an older one answers
    /// again is no restart.
    youngest: Option<f64>,
    /// Restarts seen by `process_start_time_seconds`.
    pub(super) restarts: Events,
    /// The one restart that belongs to the rollout of the present release was seen.
    rolled_out: bool,
    table: SeriesTable,
    rings: Vec<(OperandId, Ring)>,
    latest: Vec<(OperandId, Latest)>,
}

impl Scraped {
    /// Operands of which series were seen under the release that is served now.
    pub(super) fn operands(&self) -> impl Iterator<Item = OperandId> {
        self.rings.iter().map(|(operand, _)| *operand).chain(self.latest.iter().map(|(operand, _)| *operand))
    }

    /// The increases of an operand, where its series were seen under the release that is served now.
    pub(super) fn ring(&self, operand: OperandId) -> Option<&Ring> {
        self.rings.iter().find(|(known, _)| *known == operand).map(|(_, ring)| ring)
    }

    /// The latest values of an operand, likewise.
    pub(super) fn latest(&self, operand: OperandId) -> Option<&Latest> {
        self.latest.iter().find(|(known, _)| *known == operand).map(|(_, latest)| latest)
    }

    /// Notes which release is served; its windows start anew when that changes.
    pub(super) fn turn(&mut self, serves: Serves, at: Timestamp, rules: &Rules) {
        if self.era.turn(serves, at) {
            self.restarts = Events::default();
            self.rolled_out = false;
            self.start_anew();
        }
        self.era.waiting = self.is_old_process(rules);
    }

    /// The first look of all, where it was not before `at`.
    pub(super) fn first_seen_by(&mut self, at: Timestamp) -> Timestamp {
        *self.first_seen.get_or_insert(at)
    }

    /// A fault instead of a page.
    pub(super) fn fail(&mut self, fault: &Fault, at: Timestamp) {
        self.first_seen.get_or_insert(at);
        self.looks.push(Look { at, outcome: Outcome::of_fault(fault), revision: None });
    }

    /// Notes a page's process. `true` where it is another than that of the page before, to be called before the release
    /// is attributed, since a new process ends what the old one said of itself.
    pub(super) fn meet_process(
        &mut self,
        page: &Page,
        at: Timestamp,
        rules: &Rules,
        rollout: Option<Timestamp>,
    ) -> bool {
        let Some(start) = page.process_start.filter(|start| start.is_finite()) else { return false };
        let before = self.process_start.replace(start);
        let began_before = self.began;
        let is_same = before.is_some_and(|before| (before - start).abs() <= SAME_START);
        if !is_same {
            self.began = Some(millis(start).moved(-page.wall_ahead));
        }
        let is_younger = self.youngest.is_some_and(|youngest| start > youngest + SAME_START);
        self.youngest = Some(self.youngest.map_or(start, |youngest| youngest.max(start)));
        if is_same || before.is_none() {
            return false;
        }
        self.process_since = Some(at);
        if is_younger && self.is_rollout_restart(at) {
            self.rolled_out = true;
        } else if is_younger {
            self.restarts.push(at, 1, rules.keep_events);
        }
        // The release was in place at first sight, but its process only now: what the one before said is not about it.
        let straddles = |since: Timestamp| {
            let edge = since - rules.slack;
            began_before.is_some_and(|before| before < edge) && self.began.is_some_and(|began| began >= edge)
        };
        if self.era.changed.is_none() && rules.replaces_processes && rollout.is_some_and(straddles) {
            self.restarts = Events::default();
            self.start_anew();
        }
        true
    }

    /// Takes in a page of which process and release are known.
    pub(super) fn take_in(&mut self, page: &Page, at: Timestamp, is_new: bool, rules: &Rules, deltas: &mut [Delta]) {
        self.first_seen.get_or_insert(at);
        self.looks.push(Look { at, outcome: Outcome::Good, revision: None });
        let origin = self.origin(at, is_new, rules);
        let base = match (origin, self.previous) {
            (Origin::Zero, Some(previous)) => previous.max(self.began.unwrap_or(previous)),
            (Origin::Previous, Some(previous)) => previous,
            (Origin::Zero, None) => self.began.map_or(at, |began| began.min(at)),
            (Origin::Baseline, _) | (Origin::Previous, None) => at,
        };
        self.table.take_in(&page.samples, origin, &rules.roles, deltas);
        self.previous = Some(at);
        if self.era.waiting {
            return;
        }
        // The first page after a change of release straddles it: with the old process its increases are the old release's.
        let straddles = self.page.is_none() && origin == Origin::Previous;
        let base = if straddles { at } else { base };
        self.page = Some(at);
        for (index, delta) in deltas.iter().enumerate().filter(|(_, delta)| delta.samples > 0) {
            let (Ok(index), Some(keep)) = (u16::try_from(index), rules.keep.get(index)) else { continue };
            let operand = OperandId(index);
            if !delta.increases.is_empty() || delta.odd > 0 {
                self.add_increases(operand, delta, origin, (base, at), *keep);
            }
            if !delta.levels.is_empty() {
                self.set_latest(operand, delta, at);
            }
        }
    }

    /// Lets go of increases that no window reaches any more.
    pub(super) fn prune(&mut self, now: Timestamp, rules: &Rules) {
        for (operand, ring) in &mut self.rings {
            if let Some(keep) = rules.keep.get(usize::from(operand.0)) {
                ring.prune(now, *keep);
            }
        }
    }

    /// When the process began that serves the present release, where that was with the `rollout` or after it: by its own word,
    /// else when the address changed to the release or was first seen.
    pub(super) fn born(&self, rollout: Option<Timestamp>, rules: &Rules) -> Option<Timestamp> {
        let began = self.began.or(self.era.changed).or(self.first_seen)?;
        // It may have taken a while from its start to its first answer, by which the rollout was noticed.
        rollout.is_some_and(|rollout| began >= rollout - rules.slack.max(YOUNG)).then_some(began)
    }

    /// Whether it was born less than `span` ago.
    pub(super) fn is_young(&self, rollout: Option<Timestamp>, rules: &Rules, span: Span, now: Timestamp) -> bool {
        self.born(rollout, rules).is_some_and(|born| now.since(born) < span)
    }

    /// Lets go of all that was read from pages, and of what series they had.
    pub(super) fn forget_series(&mut self) {
        self.start_anew();
        self.table = SeriesTable::default();
        self.previous = None;
    }

    fn start_anew(&mut self) {
        self.page = None;
        self.rings.clear();
        self.latest.clear();
    }

    fn is_old_process(&self, rules: &Rules) -> bool {
        let edge = self.era.changed.map(|changed| changed - rules.slack);
        rules.replaces_processes
            && !self.era.serves.told
            && self.began.zip(edge).is_some_and(|(began, edge)| began < edge)
    }

    fn is_rollout_restart(&self, at: Timestamp) -> bool {
        self.era.changed.is_some_and(|changed| at.since(changed) <= ROLLOUT_RESTART) && !self.rolled_out
    }

    fn origin(&self, at: Timestamp, is_new: bool, rules: &Rules) -> Origin {
        let began = self.began;
        let Some(previous) = self.previous else {
            // Its counters began with it, and all that they say is as new as the window.
            let is_fresh = |began: Timestamp| began <= at && at.since(began) <= rules.gap;
            return if began.is_some_and(is_fresh) { Origin::Zero } else { Origin::Baseline };
        };
        if is_new {
            // Older than a gap, its values may lie further back than the window that they would be counted in.
            let is_fresh = began.is_some_and(|began| began > previous && at.since(began) <= rules.gap);
            if is_fresh { Origin::Zero } else { Origin::Baseline }
        } else if at.since(previous) > rules.gap {
            Origin::Baseline
        } else {
            Origin::Previous
        }
    }

    /// A window of buckets goes on where the process does and has all of the bounds still. Otherwise it begins anew: a
    /// bound that counted for a part of the window only would say something of the whole.
    fn add_increases(
        &mut self,
        operand: OperandId,
        delta: &Delta,
        origin: Origin,
        (base, at): (Timestamp, Timestamp),
        keep: Keep,
    ) {
        let place = match self.rings.binary_search_by_key(&operand, |(known, _)| *known) {
            Ok(place) => place,
            Err(place) => {
                let bounds = delta.bounds.clone().unwrap_or_else(|| Arc::from([0.0]));
                self.rings.insert(place, (operand, Ring::new(bounds, base)));
                place
            }
        };
        let ring = &mut self.rings[place].1;
        if let Some(bounds) = &delta.bounds {
            let goes_on = if origin == Origin::Previous { ring.is_within(bounds) } else { ring.bounds() == bounds };
            if goes_on {
                ring.widen(bounds);
            } else {
                *ring = Ring::new(Arc::clone(bounds), base);
            }
        }
        if delta.odd > 0 {
            ring.odd = Some(at);
        }
        // An exporter whose own time stamps stand still says nothing new, whatever the values.
        let is_frozen = delta.stamp.is_some() && delta.stamp <= ring.stamp;
        if delta.valid == 0 || is_frozen {
            return;
        }
        ring.stamp = delta.stamp;
        ring.valid = Some(at);
        if at > base {
            ring.push(at, &delta.increases, keep);
        } else {
            ring.skip(at, keep);
        }
    }

    fn set_latest(&mut self, operand: OperandId, delta: &Delta, at: Timestamp) {
        let place = match self.latest.binary_search_by_key(&operand, |(known, _)| *known) {
            Ok(place) => place,
            Err(place) => {
                self.latest.insert(place, (operand, Latest::default()));
                place
            }
        };
        let latest = &mut self.latest[place].1;
        if delta.stamp.is_some() && delta.stamp <= latest.stamp {
            return;
        }
        latest.stamp = delta.stamp;
        latest.at = Some(at);
        latest.levels.clear();
        latest.levels.extend_from_slice(&delta.levels);
    }
}

fn millis(seconds: f64) -> Timestamp {
    // Saturates, which is right for a time stamp of the far past or future.
    Timestamp::from_millis((seconds * 1000.0).round() as i64)
}
