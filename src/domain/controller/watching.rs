//! Seeing without deciding: for the time in which nothing can be recorded, or another replica decides.

use super::Controller;
use crate::domain::health::verdict::Subject;
use crate::domain::observation::Observation;
use crate::domain::time::Timestamp;

impl Controller {
    /// Only remembers what was seen.
    pub fn observe_only(&mut self, observation: &Observation) {
        self.take_in(observation);
    }

    /// Remembers what was seen and judges it; decides nothing. For the time in which another replica does.
    pub fn stand_by(&mut self, observation: Option<&Observation>, now: Timestamp) {
        if self.is_due_after(observation, now) {
            self.assess(now);
        }
    }

    /// The same for the time in which no record can be written: what is in place is judged, though it is not on record.
    pub fn watch_only(&mut self, observation: Option<&Observation>, now: Timestamp) {
        if self.is_due_after(observation, now) {
            self.note_unrecorded(now);
            let previous = self.state.current.as_ref().map(|current| current.revision.clone());
            let unrecorded = self.unrecorded.as_ref().map(|unrecorded| Subject {
                revision: unrecorded.release.revision.clone(),
                since: unrecorded.release.since,
                baseline: previous,
            });
            self.assess_of(unrecorded.or_else(|| self.subject()).as_ref(), now);
        }
    }

    /// Remembers what was seen; whether it is time to judge.
    fn is_due_after(&mut self, observation: Option<&Observation>, now: Timestamp) -> bool {
        if let Some(observation) = observation {
            self.take_in(observation);
        }
        if self.is_leaving {
            self.assessment.at = now;
            return false;
        }
        observation.is_none() || now.since(self.assessment.at) >= self.fast_pace()
    }
}
