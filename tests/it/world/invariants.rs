//! What must hold after every event, checked outside the code under test: from the journal alone.

use std::collections::BTreeMap;

use rollbackd::domain::id::{IncidentId, RevisionId};
use rollbackd::domain::incident::alert::Alert;
use rollbackd::domain::incident::record::{Cause, Event, Record};
use rollbackd::domain::policy::Mode;
use rollbackd::domain::response::hold::Hold;
use rollbackd::domain::response::plan::{Outcome, Plan, Purpose, StepKind};
use rollbackd::domain::time::{Span, Timestamp};

/// No release is taken back twice within this time.
const DAY: Span = Span::from_secs(24 * 3600);

/// Of everything that is durable.
pub(crate) fn of_records(journal: &[Record], alerts: &[Alert]) {
    sequences_have_no_gap(journal);
    alerts_are_numbered(alerts);
    goals_are_known_good(journal);
    no_release_is_taken_back_twice(journal);
    nothing_is_written_while_paused(journal);
    attempts_are_bounded(journal);
    nothing_goes_where_nobody_approved(journal);
}

/// Of a symlink about to be switched: its step is on record, nothing was paused or closed since, the goal is there.
pub(crate) fn of_switch(journal: &[Record], on_disk: &[RevisionId], expect: &RevisionId, to: &RevisionId) {
    let (_, step) = last_step_started(journal).expect("a switch without a record");
    assert!(
        matches!(&step, StepKind::SwitchLink { expect: e, to: t, .. } if e == expect && t == to),
        "a switch from {expect} to {to} that is not the step on record: {step:?}"
    );
    assert!(on_disk.contains(to), "a switch to {to}, which is not there");
}

fn last_step_started(journal: &[Record]) -> Option<(&Record, StepKind)> {
    let mut plan: Option<&Plan> = None;
    let mut last = None;
    for record in journal {
        match &record.event {
            Event::Planned { plan: p, .. } => plan = Some(p),
            Event::StepStarted { step } => {
                let step = plan?.steps.get(usize::try_from(*step).ok()?)?;
                last = Some((record, step.kind.clone()));
            }
            _ => {}
        }
    }
    last
}

fn sequences_have_no_gap(journal: &[Record]) {
    for (i, record) in journal.iter().enumerate() {
        assert_eq!(record.sequence, i as u64 + 1);
    }
    assert!(journal.windows(2).all(|w| w[0].at <= w[1].at), "time runs backwards in the journal");
}

fn alerts_are_numbered(alerts: &[Alert]) {
    let mut last: BTreeMap<&IncidentId, u64> = BTreeMap::new();
    for alert in alerts {
        let previous = last.insert(&alert.incident, alert.sequence).unwrap_or(0);
        assert_eq!(alert.sequence, previous + 1, "{} after {previous}", alert.id);
    }
}

fn goals_are_known_good(journal: &[Record]) {
    for record in journal {
        if let Event::Planned { plan, goal, forced, .. } = &record.event {
            assert_ne!(plan.from, plan.to, "a plan from {} to itself", plan.from);
            assert!(goal.known_good_since.is_some() || !forced.is_empty(), "{} is not known good", plan.to);
            assert_eq!(goal.revision, plan.to);
        }
    }
}

/// Not within a day, however well it did in between.
fn no_release_is_taken_back_twice(journal: &[Record]) {
    let mut taken: Vec<(&RevisionId, Timestamp)> = Vec::new();
    for record in journal {
        match &record.event {
            Event::Planned { plan, forced, .. } if plan.purpose == Purpose::First && forced.is_empty() => {
                let before = taken.iter().rev().find(|(known, _)| **known == plan.from);
                let is_long_ago = before.is_none_or(|(_, at)| record.at.since(*at) >= DAY);
                assert!(is_long_ago, "{} is taken back twice", plan.from);
                taken.push((&plan.from, record.at));
            }
            _ => {}
        }
    }
}

fn nothing_is_written_while_paused(journal: &[Record]) {
    let mut paused = false;
    for record in journal {
        match &record.event {
            Event::Paused { .. } => paused = true,
            Event::Resumed { .. } => paused = false,
            Event::Planned { .. } | Event::StepStarted { .. } => {
                assert!(!paused, "{} while paused", record.event.name());
            }
            _ => {}
        }
    }
}

fn attempts_are_bounded(journal: &[Record]) {
    let mut attempts: BTreeMap<&IncidentId, u32> = BTreeMap::new();
    // What could not be begun is no attempt.
    let mut unspent: BTreeMap<&IncidentId, u32> = BTreeMap::new();
    for record in journal {
        if let (Event::StepFinished { outcome: Outcome::NotBegun(_), .. }, Some(incident)) =
            (&record.event, &record.incident)
        {
            *unspent.entry(incident).or_default() += 1;
        }
        if let (Event::Planned { plan, .. }, Some(incident)) = (&record.event, &record.incident) {
            let before = attempts.insert(incident, plan.attempt).unwrap_or(0);
            assert_eq!(plan.attempt, before + 1, "attempts of {incident}");
            assert!(plan.attempt - unspent.get(incident).unwrap_or(&0) <= 3, "a fourth attempt in {incident}");
        }
    }
}

/// Where the mode is `approve`, whatever is gone back to was approved by its name; a retry is of what was approved.
fn nothing_goes_where_nobody_approved(journal: &[Record]) {
    let (mut asked, mut approved, mut is_by_hand) = (None, None, false);
    for record in journal {
        match &record.event {
            Event::Detected { cause, .. } => {
                (asked, approved) = (None, None);
                is_by_hand = matches!(cause, Cause::Manual { .. });
            }
            Event::Held { hold: Hold::NeedsApproval { .. }, goal, .. } => {
                asked = goal.as_ref().map(|goal| &goal.revision)
            }
            Event::Approved { .. } => approved = asked,
            Event::Planned { plan, grounds: Some(grounds), .. } if grounds.mode() == Mode::Approve => {
                let is_asked = match plan.purpose {
                    Purpose::First => !is_by_hand,
                    Purpose::OlderKnownGood => true,
                    Purpose::Retry | Purpose::Whole => false,
                };
                assert!(!is_asked || approved == Some(&plan.to), "nobody approved {}", plan.to);
            }
            _ => {}
        }
    }
}
