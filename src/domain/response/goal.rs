//! Where to go back to: the release that was current last among those known to be good.

use crate::domain::health::verdict::Aside;
use crate::domain::id::RevisionId;
use crate::domain::incident::ledger::{Ledger, OSCILLATION_GUARD, Standing};
use crate::domain::incident::record::Goal;
use crate::domain::policy::Release;
use crate::domain::time::Timestamp;

use super::hold::Hold;

/// Candidates named in a hold's explanation.
const NAMED_CANDIDATES: usize = 8;

/// The release to go back to from `current`, leaving out those `tried` in this incident, and those that are worse in something
/// `beside` it.
///
/// # Errors
/// [`Hold::NoKnownGood`] with each candidate and why it is none.
pub fn last_known_good(
    ledger: &Ledger,
    available: &[Release],
    current: &RevisionId,
    tried: &[RevisionId],
    beside: &[&Aside],
    now: Timestamp,
) -> Result<Goal, Hold> {
    let mut refused = Vec::new();
    let mut best: Option<(&Release, &Standing, Timestamp)> = None;
    for release in available.iter().filter(|release| release.revision != *current) {
        match eligibility(ledger.get(&release.revision), &release.revision, (tried, beside), now) {
            Err(why) => {
                if refused.len() < NAMED_CANDIDATES {
                    refused.push(format!("{}: {why}", release.revision));
                }
            }
            Ok((standing, since)) => {
                if best.is_none_or(|(_, other, _)| standing.last_current > other.last_current) {
                    best = Some((release, standing, since));
                }
            }
        }
    }
    match best {
        Some((release, _, since)) => {
            Ok(Goal { revision: release.revision.clone(), image: release.image.clone(), known_good_since: Some(since) })
        }
        None => Err(Hold::NoKnownGood { candidates: [gone(ledger, available, current, tried, now), refused].concat() }),
    }
}

/// What could have been gone back to if it still existed: whoever removed it wants to know.
fn gone(
    ledger: &Ledger,
    available: &[Release],
    current: &RevisionId,
    tried: &[RevisionId],
    now: Timestamp,
) -> Vec<String> {
    let is_there = |revision: &RevisionId| available.iter().any(|release| release.revision == *revision);
    let good = ledger.iter().filter(|(revision, standing)| {
        *revision != current && !is_there(revision) && eligibility(Some(standing), revision, (tried, &[]), now).is_ok()
    });
    let mut good: Vec<(&RevisionId, &Standing)> = good.collect();
    good.sort_by_key(|(_, standing)| std::cmp::Reverse(standing.last_current));
    good.into_iter()
        .take(NAMED_CANDIDATES)
        .map(|(revision, _)| format!("{revision}: known good, but not there to go back to"))
        .collect()
}

/// The release that an operator named. `forced` takes one that is not known good.
///
/// # Errors
/// [`Hold::GoalRefused`] where it is current, absent, or not known good.
pub fn named(
    ledger: &Ledger,
    available: &[Release],
    current: &RevisionId,
    wanted: &RevisionId,
    (beside, forced): (&[&Aside], bool),
    now: Timestamp,
) -> Result<Goal, Hold> {
    let refuse = |why: String| Hold::GoalRefused { revision: wanted.clone(), why };
    if wanted == current {
        return Err(refuse("it is the current release".to_owned()));
    }
    let release = available
        .iter()
        .find(|release| release.revision == *wanted)
        .ok_or_else(|| refuse("there is no such release".to_owned()))?;
    let known_good_since = match eligibility(ledger.get(wanted), wanted, (&[], beside), now) {
        Ok((_, since)) => Some(since),
        Err(_) if forced => None,
        Err(why) => return Err(refuse(why)),
    };
    Ok(Goal { revision: wanted.clone(), image: release.image.clone(), known_good_since })
}

fn eligibility<'a>(
    standing: Option<&'a Standing>,
    revision: &RevisionId,
    (tried, beside): (&[RevisionId], &[&Aside]),
    now: Timestamp,
) -> Result<(&'a Standing, Timestamp), String> {
    let standing = standing.ok_or("never seen healthy for long enough")?;
    // What does not answer may have been stopped: that says nothing of the release.
    let is_bad = |aside: &&&Aside| aside.release == *revision && !aside.trigger.evidence.unanswered;
    if let Some(bad) = beside.iter().find(is_bad) {
        return Err(format!("bad now where it serves: {}", bad.trigger.evidence.as_breach()));
    }
    if tried.contains(revision) {
        return Err("tried in this incident".to_owned());
    }
    if let Some(at) = standing.failed_as_goal
        && now.since(at) < OSCILLATION_GUARD
    {
        return Err(format!("gone back to in vain at {at}"));
    }
    let since = standing.known_good_since.ok_or_else(|| match (&standing.left_bad, &standing.taken_back) {
        (Some((at, incident)), _) => format!("bad when it was replaced at {at}, by {incident}"),
        (None, Some((at, incident))) => format!("taken back at {at} by {incident}"),
        (None, None) => "never seen healthy for long enough".to_owned(),
    })?;
    Ok((standing, since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::verdict::{Assessment, Evidence, TriggerState, TriggerStatus, UnknownReason, Verdict};
    use crate::domain::id::IncidentId;
    use crate::domain::policy::{Condition, Severity};
    use crate::domain::time::Span;
    use crate::domain::units::{Finite, Unit};

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn available(names: &[&str]) -> Vec<Release> {
        names.iter().map(|name| Release { revision: RevisionId::new(name), image: None }).collect()
    }

    /// v1 and v2 known good, v3 never, v4 current; v0 was good but taken back.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for (i, name) in ["v0", "v1", "v2", "v3", "v4"].iter().enumerate() {
            ledger.became_current(&RevisionId::new(name), None, at(i64::try_from(i).unwrap() * 100));
        }
        for name in ["v0", "v1", "v2"] {
            ledger.known_good(&RevisionId::new(name), at(5));
        }
        ledger.taken_back(&RevisionId::new("v0"), at(99), &IncidentId::new("i-1"));
        ledger
    }

    #[test]
    fn the_goal_is_the_last_known_good_never_the_previous_number() {
        let all = available(&["v4", "v3", "v2", "v1", "v0"]);
        let goal = last_known_good(&ledger(), &all, &"v4".into(), &[], &[], at(500)).unwrap();
        assert_eq!(goal.revision, "v2".into());
        let hop = last_known_good(&ledger(), &all, &"v4".into(), &["v2".into()], &[], at(500)).unwrap();
        assert_eq!(hop.revision, "v1".into());
    }

    #[test]
    fn without_a_known_good_every_candidate_is_named_with_its_reason() {
        let all = available(&["v3", "v0", "v9"]);
        let tried = ["v1".into(), "v2".into()];
        let hold = last_known_good(&ledger(), &all, &"v4".into(), &tried, &[], at(500)).unwrap_err();
        assert_eq!(
            hold.to_string(),
            "no other release is known to be good: v3: never seen healthy for long enough; \
             v0: taken back at 1970-01-01T00:01:39.000Z by i-1; v9: never seen healthy for long enough"
        );
    }

    #[test]
    fn a_known_good_release_that_was_removed_is_named_first() {
        let hold =
            last_known_good(&ledger(), &available(&["v3"]), &"v4".into(), &["v1".into()], &[], at(500)).unwrap_err();
        assert_eq!(
            hold.to_string(),
            "no other release is known to be good: v2: known good, but not there to go back to; \
             v3: never seen healthy for long enough"
        );
    }

    #[test]
    fn a_named_goal_must_be_known_good_unless_forced() {
        let all = available(&["v3", "v2"]);
        let ask = |name: &str, forced| named(&ledger(), &all, &"v4".into(), &name.into(), (&[], forced), at(500));
        assert!(ask("v2", false).is_ok());
        assert!(ask("v3", false).is_err());
        assert_eq!(ask("v3", true).unwrap().known_good_since, None);
        assert!(ask("v4", true).is_err(), "the current release is never a goal");
        assert!(ask("v7", true).is_err(), "an absent release is never a goal");
    }

    fn status(name: &str, value: f64) -> TriggerStatus {
        let evidence = Evidence {
            signal: name.into(),
            unit: Unit::Seconds,
            verdict: Verdict::Breach,
            value: Finite::new(value),
            interval: None,
            proof: None,
            condition: Some(Condition::Above(Finite::new(5.0).unwrap())),
            samples: 500,
            unanswered: false,
            window: Span::from_secs(60),
            newest: None,
            convention: None,
            compared: None,
            around: None,
        };
        TriggerStatus {
            name: name.into(),
            severity: Severity::Critical,
            hold_for: Span::ZERO,
            state: TriggerState::Firing { since: at(0), at: at(0) },
            evidence,
            combined: None,
            confirmation: None,
        }
    }

    /// A trigger fires on while nothing is known.
    #[test]
    fn a_breach_that_is_not_seen_any_more_is_told_as_such() {
        let mut trigger = status("slow", 9.0);
        let told = |trigger: &TriggerStatus| {
            let aside = Aside { release: "v2".into(), trigger: trigger.clone() };
            last_known_good(&ledger(), &available(&["v2"]), &"v4".into(), &[], &[&aside], at(500)).unwrap_err()
        };
        let said = |hold: Hold| hold.to_string().split_once("serves: ").unwrap().1.to_owned();
        assert_eq!(said(told(&trigger)), "slow breaches, 9 s above 5 s");
        trigger.evidence.value = None;
        trigger.evidence.verdict = Verdict::Unknown(UnknownReason::NoReading);
        let expected =
            "slow was above 5 s when it was last known; it is unknown now, nothing observed in the window yet";
        assert_eq!(said(told(&trigger)), expected);
    }

    /// The previous release is slow where it serves beside this one; only where this one is not as slow that speaks against it.
    #[test]
    fn what_is_bad_beside_is_no_goal_unless_the_current_one_is_as_bad() {
        for (name, own, expected) in
            [("slow", 8.0, "v2"), ("slow", 6.0, "v1"), ("slow", 1.0, "v1"), ("other", 8.0, "v1")]
        {
            let assessment = Assessment {
                at: at(500),
                revision: None,
                triggers: vec![status(name, own)],
                signals: Vec::new(),
                blind: None,
                healthy: false,
                asides: vec![Aside { release: "v2".into(), trigger: status("slow", 9.0) }],
            };
            let (all, beside) = (available(&["v2", "v1"]), assessment.worse_beside());
            let goal = last_known_good(&ledger(), &all, &"v4".into(), &[], &beside, at(500)).unwrap();
            assert_eq!(goal.revision, expected.into(), "{name} {own}");
        }
    }
}
