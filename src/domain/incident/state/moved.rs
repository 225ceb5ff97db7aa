//! Settings that were put back for a release which is not in place yet: they belong to it once it is, and are put forward
//! again where it never comes.

use serde::{Deserialize, Serialize};

use super::Incident;
use crate::domain::id::RevisionId;
use crate::domain::incident::record::{Event, Record};
use crate::domain::policy::ClusterObject;
use crate::domain::response::plan::{Outcome, Purpose, Step, StepKind};
use crate::domain::settings::{ContentId, Setting};
use crate::domain::time::Span;

/// How long putting one forward may take.
const TIMEOUT: Span = Span::from_secs(30);

/// A setting that was put back ahead of its release, or may have been. What was made anew is none: nothing was there that it
/// could be put forward to, and nobody misses that it is not there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MovedSetting {
    /// The workload whose release names it.
    pub object: ClusterObject,
    /// Which.
    pub setting: Setting,
    /// What it said before.
    pub was: ContentId,
    /// The release with which it said so.
    pub with: RevisionId,
    /// What was written.
    pub is: ContentId,
    /// The release that it was written for.
    pub to: RevisionId,
    /// Whether that one's template, once the workload has it, makes it whole.
    pub is_by_template: bool,
    /// The attempt that wrote it.
    pub attempt: u32,
}

impl MovedSetting {
    fn forward(&self) -> Step {
        let kind = StepKind::RestoreSetting {
            object: self.object.clone(),
            setting: self.setting.clone(),
            expect: Some(self.is.clone()),
            content: self.was.clone(),
            release: self.with.clone(),
            unless_at: self.is_by_template.then(|| self.to.clone()),
        };
        Step { kind, timeout: TIMEOUT }
    }
}

/// The steps that put them forward again, the last that was written first: each does nothing where its own write never came.
#[must_use]
pub fn forward(moved: &[MovedSetting]) -> Vec<Step> {
    moved.iter().rev().map(MovedSetting::forward).collect()
}

/// What differs from before, in words; nothing where nothing does.
#[must_use]
pub fn difference(moved: &[MovedSetting]) -> Option<String> {
    let told = |moved: &MovedSetting| {
        let MovedSetting { object, setting, to, with, .. } = moved;
        format!("{setting} in {} may say what it said with {to}, not what it said with {with}", object.namespace)
    };
    let told: Vec<String> = moved.iter().map(told).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Takes in what a record says of a step that moves a setting. From the intent on it may be moved, whatever comes of it.
pub(super) fn note(incident: &mut Incident, record: &Record) {
    let (step, outcome) = match &record.event {
        Event::Detected { .. } => return incident.moved.clear(),
        Event::StepStarted { step } => (*step, None),
        Event::StepFinished { step, outcome } => (*step, Some(outcome)),
        _ => return,
    };
    let (Some(plan), Ok(index)) = (&incident.plan, usize::try_from(step)) else { return };
    if plan.turns_at() == Some(index) && outcome.is_some_and(Outcome::is_done) {
        return incident.moved.clear();
    }
    let Some(StepKind::RestoreSetting { object, setting, expect: Some(expect), content, .. }) =
        plan.steps.get(index).map(|step| &step.kind)
    else {
        return;
    };
    let moved = &mut incident.moved;
    if plan.purpose == Purpose::Whole {
        // What somebody else wrote is no difference of ours.
        if outcome.is_some_and(|outcome| outcome.is_done() || matches!(outcome, Outcome::Conflict(_))) {
            moved.retain(|moved| moved.setting != *setting || moved.is != *expect || moved.was != *content);
        }
        return;
    }
    let is_it = |moved: &MovedSetting| moved.setting == *setting && moved.was == *expect && moved.is == *content;
    match outcome {
        None if moved.iter().any(is_it) => {}
        None => moved.push(MovedSetting {
            object: object.clone(),
            setting: setting.clone(),
            was: expect.clone(),
            with: plan.from.clone(),
            is: content.clone(),
            to: plan.to.clone(),
            is_by_template: plan.turns_by_template(),
            attempt: plan.attempt,
        }),
        // What an earlier attempt may have written is not undone by this one's refusal.
        Some(Outcome::Conflict(_) | Outcome::Denied(_)) => {
            moved.retain(|moved| moved.attempt != plan.attempt || !is_it(moved));
        }
        Some(Outcome::Applied | Outcome::AlreadyInEffect | Outcome::Transient(_) | Outcome::TimedOut(_)) => {}
    }
}
