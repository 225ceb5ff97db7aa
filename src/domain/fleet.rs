//! Many workloads, and the brakes that span them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::controller::{Controller, Explanation, Input, Output, Preview, Refusal, Reply, WorkloadView};
use super::health::memory::Memory;
use super::id::WorkloadId;
use super::incident::alert::Phase;
use super::incident::record::Event;
use super::incident::state::WorkloadState;
use super::observation::Observation;
use super::policy::WorkloadPolicy;
use super::response::guard::FleetView;
use super::response::plan::Purpose;
use super::time::{Span, Timestamp};

/// How far the hourly brake looks back.
const HOUR: Span = Span::from_secs(3600);

/// Workloads that turn bad within this time are taken to have one cause.
const STORM_WINDOW: Span = Span::from_secs(300);

/// A rollout that is longer ago than this is hardly what turned a workload bad at the same time as another one.
const OWN_ROLLOUT: Span = Span::from_secs(3600);

/// All workloads, and what the brakes remember.
#[derive(Debug, Default)]
pub struct Fleet {
    controllers: BTreeMap<WorkloadId, Controller>,
    /// When rollbacks began, also of workloads that have left since.
    starts: VecDeque<(Timestamp, WorkloadId)>,
    turned_bad: BTreeMap<WorkloadId, Timestamp>,
    /// Those whose trigger is pending or fires, and since when: a storm is one before its first trigger fires.
    suspected: BTreeMap<WorkloadId, Timestamp>,
    /// Those that are in breach with no rollout of their own to blame, and since when.
    breached: BTreeMap<WorkloadId, Timestamp>,
    acting: BTreeMap<WorkloadId, String>,
    /// What is seen is judged too late to be fresh.
    is_late: bool,
}

impl Fleet {
    /// Puts a workload under watch, from what the journal says of it.
    pub fn add(&mut self, policy: Arc<WorkloadPolicy>, state: WorkloadState) {
        let id = policy.id.clone();
        self.count(&id, &state);
        let controller = Controller::new(policy, state);
        if let Some(detected) = detected_by_trigger(&controller) {
            self.turned_bad.insert(id.clone(), detected);
        }
        self.note_acting(&controller);
        self.controllers.insert(id, controller);
    }

    /// Counts what was done for a workload, whether it is watched or has left the policy.
    pub fn count(&mut self, id: &WorkloadId, state: &WorkloadState) {
        for start in state.rollbacks.iter().map(|start| (*start, id.clone())) {
            // It may have been here before.
            if let Err(position) = self.starts.make_contiguous().binary_search(&start) {
                self.starts.insert(position, start);
            }
        }
    }

    /// Puts another policy in force for a workload that is watched already; `false` where it is not.
    pub fn adopt(&mut self, policy: Arc<WorkloadPolicy>) -> bool {
        match self.controllers.get_mut(&policy.id) {
            Some(controller) => {
                controller.adopt(policy);
                true
            }
            None => false,
        }
    }

    /// From here on only ends what was begun for a workload, because it is no longer in the policy. Once that is done it
    /// [`has_left`](Controller::has_left), and is to be removed.
    pub fn leave(&mut self, id: &WorkloadId) {
        if let Some(controller) = self.controllers.get_mut(id) {
            controller.leave();
        }
    }

    /// A workload is still in the policy.
    pub fn stay(&mut self, id: &WorkloadId) {
        if let Some(controller) = self.controllers.get_mut(id) {
            controller.stay();
        }
    }

    /// Stops watching a workload. Its records stay in the journal.
    pub fn remove(&mut self, id: &WorkloadId) -> Option<Controller> {
        self.discount(id);
        self.controllers.remove(id)
    }

    /// Whatever is wrong with a workload now, and whatever is under way for it, speaks against acting on no other.
    pub fn discount(&mut self, id: &WorkloadId) {
        self.acting.remove(id);
        self.turned_bad.remove(id);
        self.suspected.remove(id);
        self.breached.remove(id);
    }

    /// Hands a workload what was kept of its windows before the start.
    pub fn recall(&mut self, id: &WorkloadId, memory: Memory) {
        if let Some(controller) = self.controllers.get_mut(id) {
            controller.recall(memory);
        }
    }

    /// One workload.
    #[must_use]
    pub fn get(&self, id: &WorkloadId) -> Option<&Controller> {
        self.controllers.get(id)
    }

    /// All workloads, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&WorkloadId, &Controller)> {
        self.controllers.iter()
    }

    /// Hands one input to its workload.
    pub fn handle(&mut self, id: &WorkloadId, input: Input, now: Timestamp, out: &mut Output) -> Option<Reply> {
        let fleet = self.view_for(id, now);
        let Some(controller) = self.controllers.get_mut(id) else {
            let asked = matches!(input, Input::Asked(_));
            return asked.then(|| Err(Refusal::NotFound(format!("no workload {id}"))));
        };
        let already = out.records.len();
        let reply = controller.handle(input, now, &fleet, out);
        let suspected = controller.breached_since();
        let breached = suspected.filter(|_| !has_rolled_out(controller, now));
        for record in out.records.iter().skip(already) {
            match &record.event {
                Event::Planned { plan, .. } if plan.purpose == Purpose::First => {
                    self.starts.push_back((now, id.clone()));
                }
                Event::Detected { cause, .. } if controller.is_witness(cause) => {
                    self.turned_bad.insert(id.clone(), now);
                }
                Event::ReleaseObserved { .. }
                | Event::KnownGood { .. }
                | Event::SettingsKept { .. }
                | Event::Paused { .. }
                | Event::Resumed { .. }
                | Event::OwnerPutBack { .. }
                | Event::Suspected { .. }
                | Event::StillPending { .. }
                | Event::FoundBeside { .. }
                | Event::Detected { .. }
                | Event::Refused { .. }
                | Event::Held { .. }
                | Event::Approved { .. }
                | Event::Rejected { .. }
                | Event::Planned { .. }
                | Event::Continued { .. }
                | Event::StepStarted { .. }
                | Event::StepFinished { .. }
                | Event::Verifying
                | Event::Recorded { .. }
                | Event::SmokeStarted
                | Event::SmokeFinished { .. }
                | Event::Restored { .. }
                | Event::Failed { .. }
                | Event::Escalated { .. }
                | Event::Closed { .. } => {}
            }
        }
        note_since(&mut self.suspected, id, suspected);
        note_since(&mut self.breached, id, breached);
        if out.records.len() > already {
            let acting = self.controllers.get(id).filter(|controller| controller.is_under_way());
            match acting.map(|controller| controller.policy().namespace.clone()) {
                Some(namespace) => self.acting.insert(id.clone(), namespace),
                None => self.acting.remove(id),
            };
        }
        reply
    }

    /// Takes the rollback of a workload's open incident for begun and over, though nothing was done: what comes after it in a
    /// replay is held as it would have been.
    pub fn suppose_begun(&mut self, id: &WorkloadId, now: Timestamp) {
        if self.controllers.get_mut(id).is_some_and(|controller| controller.suppose_begun(now)) {
            self.starts.push_back((now, id.clone()));
        }
    }

    /// Only remembers what was seen.
    pub fn observe_only(&mut self, observation: &Observation) {
        if let Some(controller) = self.controllers.get_mut(&observation.workload) {
            controller.observe_only(observation);
        }
    }

    /// Remembers what was seen of a workload, or that time has passed, and judges it; decides nothing. For the time in
    /// which another replica does.
    pub fn stand_by(&mut self, id: &WorkloadId, observation: Option<&Observation>, now: Timestamp) {
        let Some(controller) = self.controllers.get_mut(id) else { return };
        controller.stand_by(observation, now);
        let since = controller.breached_since().filter(|_| !has_rolled_out(controller, now));
        note_since(&mut self.breached, id, since);
    }

    /// The same for the time in which no record can be written.
    pub fn watch_only(&mut self, id: &WorkloadId, observation: Option<&Observation>, now: Timestamp) {
        let Some(controller) = self.controllers.get_mut(id) else { return };
        controller.watch_only(observation, now);
    }

    /// Goes on from what another replica recorded; workloads that it names and that are not watched are left out.
    pub fn continue_from(&mut self, states: Vec<(WorkloadId, WorkloadState)>) {
        for (id, state) in states {
            if let Some(controller) = self.controllers.get_mut(&id) {
                controller.continue_from(state);
            }
        }
        let states = self.controllers.iter().map(|(id, controller)| (id, controller.state()));
        let of = |(id, state): (&WorkloadId, &WorkloadState)| -> Vec<(Timestamp, WorkloadId)> {
            state.rollbacks.iter().map(|start| (*start, id.clone())).collect()
        };
        let departed = self.starts.iter().filter(|(_, id)| !self.controllers.contains_key(id)).cloned();
        let mut starts: Vec<(Timestamp, WorkloadId)> = states.flat_map(of).chain(departed).collect();
        starts.sort_unstable();
        self.starts = starts.into();
        let detected = self.controllers.iter();
        self.turned_bad = detected.filter_map(|(id, it)| Some((id.clone(), detected_by_trigger(it)?))).collect();
        let acting = self.controllers.values().filter(|controller| controller.is_under_way());
        self.acting = acting.map(|it| (it.policy().id.clone(), it.policy().namespace.clone())).collect();
    }

    /// The brakes, as one workload sees them.
    pub fn view_for(&mut self, id: &WorkloadId, now: Timestamp) -> FleetView {
        while self.starts.front().is_some_and(|(start, _)| now.since(*start) >= HOUR) {
            self.starts.pop_front();
        }
        self.turned_bad.retain(|_, at| now.since(*at) < STORM_WINDOW);
        self.snapshot_for(id, now)
    }

    fn snapshot_for(&self, id: &WorkloadId, now: Timestamp) -> FleetView {
        let namespace = self.controllers.get(id).map(|controller| controller.policy().namespace.as_str());
        let others = self.acting.iter().filter(|(other, _)| *other != id);
        let in_flight = others.filter(|(_, theirs)| namespace == Some(theirs.as_str())).map(|(other, _)| other.clone());
        let is_new = |(id, since): &(&WorkloadId, &Timestamp)| {
            now.since(**since) < STORM_WINDOW && !self.turned_bad.contains_key(*id)
        };
        let pending = self.suspected.iter().filter(is_new);
        FleetView {
            workloads: count(self.controllers.len()),
            started_last_hour: count(self.starts.len()),
            turned_bad: count(self.turned_bad.len() + pending.count()),
            bad_without_rollout: self
                .breached
                .iter()
                .filter(|(other, _)| *other != id)
                .map(|(other, since)| (other.clone(), *since))
                .collect(),
            in_flight: in_flight.min(),
            is_late: self.is_late,
        }
    }

    /// The daemon does not keep up with what it sees, or does again: that of all workloads nothing fresh is known is then no
    /// news of any of them.
    pub fn note_late(&mut self, is_late: bool) {
        self.is_late = is_late;
    }

    /// One workload, now.
    #[must_use]
    pub fn view_of(&self, id: &WorkloadId, now: Timestamp) -> Option<WorkloadView> {
        self.controllers.get(id).map(|controller| controller.view_of(now))
    }

    /// Why one workload is as it is.
    pub fn explain(&mut self, id: &WorkloadId, now: Timestamp) -> Option<Explanation> {
        let fleet = self.view_for(id, now);
        self.controllers.get(id).map(|controller| controller.explain(now, &fleet))
    }

    /// What a rollback by hand of one workload would do now; nothing for one that is not in the policy any more.
    pub fn preview(&mut self, id: &WorkloadId, now: Timestamp) -> Option<Preview> {
        let fleet = self.view_for(id, now);
        let controller = self.controllers.get(id).filter(|controller| !controller.is_leaving())?;
        Some(controller.preview(now, &fleet))
    }

    /// The earliest time at which a workload wants a tick, and all that are due by `now`.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> (Option<Timestamp>, Vec<WorkloadId>) {
        let ticks = self.controllers.iter().map(|(id, controller)| (controller.next_tick(), id));
        let mut next = None;
        let mut due = Vec::new();
        for (tick, id) in ticks {
            if tick <= now {
                due.push(id.clone());
            } else if next.is_none_or(|earliest| tick < earliest) {
                next = Some(tick);
            }
        }
        (next, due)
    }

    fn note_acting(&mut self, controller: &Controller) {
        if controller.is_under_way() {
            let policy = controller.policy();
            self.acting.insert(policy.id.clone(), policy.namespace.clone());
        }
    }
}

fn detected_by_trigger(controller: &Controller) -> Option<Timestamp> {
    let incident = controller.state().incident.as_ref()?;
    let by_trigger = controller.is_witness(&incident.cause) && incident.phase != Phase::Suspected;
    incident.times.detected.filter(|_| by_trigger)
}

fn note_since(of: &mut BTreeMap<WorkloadId, Timestamp>, id: &WorkloadId, since: Option<Timestamp>) {
    match since {
        Some(since) => of.insert(id.clone(), since),
        None => of.remove(id),
    };
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whether a release of its own came lately. One that was there at first sight came with no rollout that anyone saw.
fn has_rolled_out(controller: &Controller, now: Timestamp) -> bool {
    let state = controller.state();
    let since = state.current.as_ref().filter(|_| state.previous.is_some());
    since.is_some_and(|current| now.since(current.since) <= OWN_ROLLOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{Habitat, ReleaseDir, Strategy};
    use crate::domain::testing;

    fn place() -> Habitat {
        Habitat::ReleaseDir(ReleaseDir { root: "/srv".into(), releases: "releases".into(), instances: Vec::new() })
    }

    #[test]
    fn what_is_discounted_of_one_workload_holds_no_other() {
        let mut other = testing::policy(Strategy::Direct, place());
        other.id = "other".into();
        let mut policy = testing::policy(Strategy::Direct, place());
        policy.namespace.clone_from(&other.namespace);
        let (at, id) = (Timestamp::from_millis(1_800_000_000_000), policy.id.clone());
        let mut fleet = Fleet::default();
        let seen_by_other = |fleet: &mut Fleet| {
            let view = fleet.view_for(&"other".into(), at);
            (view.turned_bad, view.bad_without_rollout.len(), view.in_flight)
        };
        fleet.acting.insert(id.clone(), policy.namespace.clone());
        fleet.breached.insert(id.clone(), at);
        fleet.suspected.insert(id.clone(), at);
        fleet.add(Arc::new(policy), WorkloadState::default());
        fleet.add(Arc::new(other), WorkloadState::default());
        assert_eq!(seen_by_other(&mut fleet), (1, 1, Some(id.clone())));
        fleet.discount(&id);
        assert_eq!(seen_by_other(&mut fleet), (0, 0, None));
        assert!(fleet.get(&id).is_some());
    }

    #[test]
    fn a_rollback_is_counted_once_however_often_its_workload_leaves_and_comes() {
        let policy = Arc::new(testing::policy(Strategy::Direct, place()));
        let at = Timestamp::from_millis(1_800_000_000_000);
        let state = WorkloadState { rollbacks: vec![at], ..WorkloadState::default() };
        let mut fleet = Fleet::default();
        for _ in 0..3 {
            fleet.add(Arc::clone(&policy), state.clone());
            assert_eq!(fleet.view_for(&policy.id, at).started_last_hour, 1);
            fleet.remove(&policy.id);
            assert_eq!(fleet.view_for(&policy.id, at).started_last_hour, 1, "it was begun all the same");
        }
    }
}
