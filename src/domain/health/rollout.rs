//! How far a rollout is, by the word of the orchestrator that carries it out: whether it makes no more progress, and which of
//! its instances never came to be.

use super::reading::{Basis, Reading, Scope};
use super::verdict::UnknownReason;
use crate::domain::id::RevisionId;
use crate::domain::observation::{Orchestrated, ReleaseView, Rollout};
use crate::domain::time::Timestamp;

/// What was last seen of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) at: Timestamp,
    pub(super) desired: RevisionId,
    pub(super) is_stalled: bool,
    /// Whether all that keeps it is that there is no room.
    pub(super) lacks_room: bool,
    /// Whether it was over before: what is missing since then was asked for later.
    pub(super) has_arrived: bool,
    /// Instances that there should be and that are not there.
    pub(super) absent: u64,
    /// Whether there are to be none, and are none.
    pub(super) rests: bool,
    /// The release that serves beside a canary, and whether its own rollout is stalled.
    pub(super) beside: Option<(RevisionId, bool)>,
}

impl Seen {
    pub(super) fn of(view: &ReleaseView, orchestrated: &Orchestrated, at: Timestamp, before: Option<&Self>) -> Self {
        let (is_stalled, is_complete) = match orchestrated.rollout {
            Rollout::Stalled { .. } => (true, false),
            Rollout::Complete => (false, true),
            Rollout::UnderWay { .. } => (false, false),
        };
        let desired = orchestrated.desired.clone();
        let had_arrived = before.is_some_and(|before| before.desired == desired && before.has_arrived);
        // Where none is to be at it nothing was brought about yet.
        let serves = view.instances.iter().any(|(id, at)| *at == desired && orchestrated.serving.contains(id));
        Self {
            at,
            desired,
            is_stalled,
            lacks_room: view.want_of_room(&orchestrated.desired, None).is_some(),
            // Its controller says so of what was asked for without an instance as well: what was seen to come is known better.
            has_arrived: had_arrived
                || (is_complete && serves)
                || (before.is_none() && orchestrated.has_arrived && serves),
            absent: orchestrated.absent.into(),
            beside: orchestrated
                .canary
                .as_ref()
                .map(|canary| (canary.stable.clone(), matches!(canary.stable_rollout, Rollout::Stalled { .. }))),
            rests: orchestrated.can_be_scaled() && orchestrated.replicas == 0 && view.instances.is_empty(),
        }
    }
}

/// 1 where the rollout of a release is past its progress deadline, 0 where it is not.
pub(super) fn read(seen: Option<&Seen>, scope: Scope<'_>) -> Reading {
    let Some(seen) = seen else { return Reading::unknown(UnknownReason::NotOffered) };
    let beside =
        seen.beside.as_ref().filter(|(release, _)| scope.revision == Some(release) && *release != seen.desired);
    let is_stalled = match beside {
        Some((_, is_stalled)) => *is_stalled,
        None if scope.revision.is_some_and(|revision| *revision != seen.desired) => {
            return Reading::unknown(UnknownReason::NoTarget);
        }
        // It came to be before: what was asked for since finds no room.
        None => seen.is_stalled && !(seen.lacks_room && seen.has_arrived),
    };
    if !scope.is_fresh(seen.at) {
        return Reading::unknown(UnknownReason::Stale { newest: seen.at });
    }
    Reading::of(f64::from(u8::from(is_stalled)), 1, Some(seen.at), Basis::Plain)
}

/// The share of a release's instances that are not well, with those that its rollout could not bring about: a quota or an
/// admission policy refuses them, and nobody is there who could say so.
pub(super) fn with_absent(told: Reading, seen: Option<&Seen>, scope: Scope<'_>) -> Reading {
    let is_its = |seen: &&Seen| scope.revision.is_some_and(|revision| *revision == seen.desired);
    let Some(seen) = seen.filter(is_its).filter(|seen| seen.absent > 0 && !seen.has_arrived && scope.is_fresh(seen.at))
    else {
        return told;
    };
    let (failing, there) = match &told.value {
        Ok(share) => (share.get() * told.samples as f64, told.samples),
        // Nobody is there who could say.
        Err(lack) if is_nobody(&lack.reason) => (0.0, 0),
        Err(_) => return told,
    };
    let all = there + seen.absent;
    Reading::of((failing + seen.absent as f64) / all as f64, all, told.newest.max(Some(seen.at)), Basis::Plain)
}

fn is_nobody(reason: &UnknownReason) -> bool {
    matches!(reason, UnknownReason::NoTarget | UnknownReason::NoReading | UnknownReason::NotOffered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::InstanceId;
    use crate::domain::testing;
    use crate::domain::time::Span;
    use crate::domain::units::Finite;

    const AT: Timestamp = Timestamp::from_millis(1_000_000);

    fn seen(absent: u64) -> Seen {
        Seen {
            at: AT,
            desired: "v2".into(),
            is_stalled: false,
            lacks_room: false,
            has_arrived: false,
            absent,
            rests: false,
            beside: None,
        }
    }

    fn scope(revision: &RevisionId) -> Scope<'_> {
        Scope { revision: Some(revision), since: None, now: AT, fresh: Span::from_secs(15) }
    }

    fn share(told: Reading, seen: Option<&Seen>, of: &str) -> Option<(f64, u64)> {
        let revision = RevisionId::from(of);
        let reading = with_absent(told, seen, scope(&revision));
        reading.value.ok().map(|value| (Finite::get(value), reading.samples))
    }

    fn told() -> Reading {
        Reading::of(0.5, 2, Some(AT), Basis::Plain)
    }

    #[test]
    fn what_a_rollout_could_not_bring_about_is_not_well() {
        let nobody = || Reading::unknown(UnknownReason::NoTarget);
        assert_eq!(share(nobody(), Some(&seen(1)), "v2"), Some((1.0, 1)));
        assert_eq!(share(told(), Some(&seen(2)), "v2"), Some((0.75, 4)));
        assert_eq!(share(told(), Some(&seen(0)), "v2"), Some((0.5, 2)));
        assert_eq!(share(told(), None, "v2"), Some((0.5, 2)));
    }

    #[test]
    fn what_finds_no_room_stalls_no_release_that_had_arrived() {
        let view = |refused: Option<&str>| ReleaseView {
            orchestrated: Some(Box::new(Orchestrated {
                absent: 2,
                refused: refused.map(str::to_owned),
                rollout: Rollout::Stalled { why: "no progress".to_owned() },
                serving: vec!["a".into()],
                ..testing::orchestrated("v2", 3)
            })),
            instances: vec![("a".into(), "v2".into()), ("b".into(), "v1".into())],
            ..ReleaseView::default()
        };
        let is_stalled = |refused: Option<&str>, has_arrived: bool| {
            let view = view(refused);
            let seen = Seen::of(&view, view.orchestrated.as_deref().unwrap(), AT, None);
            let revision = RevisionId::from("v2");
            read(Some(&Seen { has_arrived, ..seen }), scope(&revision)).value.unwrap().get() > 0.0
        };
        assert_eq!([is_stalled(Some("quota"), true), is_stalled(Some("quota"), false)], [false, true]);
        assert!(is_stalled(None, true), "it is not refused");
    }

    #[test]
    fn what_is_missing_is_put_down_to_the_release_that_is_on_its_way_and_only_until_it_arrived() {
        assert_eq!(share(told(), Some(&seen(2)), "v1"), Some((0.5, 2)));
        assert_eq!(share(told(), Some(&Seen { has_arrived: true, ..seen(2) }), "v2"), Some((0.5, 2)));
        let long_ago = Seen { at: AT - Span::from_secs(60), ..seen(2) };
        assert_eq!(share(told(), Some(&long_ago), "v2"), Some((0.5, 2)));
        let lost = UnknownReason::Stale { newest: AT - Span::from_secs(60) };
        assert_eq!(share(Reading::unknown(lost), Some(&seen(2)), "v2"), None);
    }

    fn view(replicas: u32, at: &[&str], rollout: Rollout) -> ReleaseView {
        let instances: Vec<(InstanceId, RevisionId)> =
            at.iter().enumerate().map(|(number, at)| (format!("p-{number}").as_str().into(), (*at).into())).collect();
        let mut orchestrated = crate::domain::testing::orchestrated("v2", replicas);
        orchestrated.serving = instances.iter().map(|(instance, _)| instance.clone()).collect();
        orchestrated.rollout = rollout;
        ReleaseView { instances, orchestrated: Some(Box::new(orchestrated)), ..ReleaseView::default() }
    }

    #[test]
    fn what_was_asked_for_after_a_release_arrived_is_not_its_own() {
        let seen = |view: &ReleaseView, before: Option<&Seen>| {
            Seen::of(view, view.orchestrated.as_deref().unwrap(), AT, before)
        };
        let under_way = || Rollout::UnderWay { left: "some".to_owned() };
        let begun = seen(&view(3, &["v1", "v1", "v2"], under_way()), None);
        assert!(!begun.has_arrived && !seen(&view(3, &["v2", "v2"], under_way()), Some(&begun)).has_arrived);
        let whole = seen(&view(3, &["v2", "v2", "v2"], Rollout::Complete), Some(&begun));
        assert!(whole.has_arrived && seen(&view(9, &["v2", "v2", "v2"], under_way()), Some(&whole)).has_arrived);
        assert!(!seen(&view(9, &["v2", "v2", "v2"], under_way()), None).has_arrived, "a start does not know");
        let other = Seen { desired: "v1".into(), ..whole.clone() };
        let mut told = view(9, &["v2", "v2"], under_way());
        told.orchestrated.as_mut().unwrap().has_arrived = true;
        assert!(seen(&told, None).has_arrived, "unless its controller does");
        assert!(!seen(&told, Some(&other)).has_arrived, "what comes is seen to come");
        told.instances.clear();
        assert!(!seen(&told, None).has_arrived, "nobody serves");
        assert!(!seen(&view(0, &[], Rollout::Complete), None).has_arrived, "nobody of it was ever seen");
        assert!(!seen(&view(3, &["v1", "v1", "v1"], Rollout::Complete), None).has_arrived, "all are held back");
        assert!(!seen(&view(3, &["v1", "v1"], under_way()), Some(&other)).has_arrived, "another release");
        assert!(seen(&view(0, &[], Rollout::Complete), None).rests);
        assert!(!seen(&view(0, &["v2"], under_way()), None).rests);
    }
}
