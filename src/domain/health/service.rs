//! Whether anything of a release is in service, where its pages can't tell: they refuse, or answer though no traffic goes
//! there.

use super::builtin::{Instance, Instances};
use super::looks::Outcome;
use super::reading::{Basis, Reading, Scope, Sight};
use super::verdict::UnknownReason;
use super::{Health, is_of};
use crate::domain::id::RevisionId;
use crate::domain::observation::Teller;
use crate::domain::policy::Signal;
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Finite;

/// Looks in a row that must find nobody before nobody is there: one alone may have met a restart.
const LOOKS_OUT: usize = 2;

/// The part of its usual requests with which a release is in service, whatever else is said of it.
const ASKED: f64 = 0.2;

/// How long none of a new release may be in service while another one serves.
const COMING_UP: Span = Span::from_secs(300);

impl Health {
    /// An error ratio of a release of which nothing is in service: everything that is asked of it fails. By the word of two:
    /// its addresses refuse, while others answer or its own health endpoint or service manager says so too, and nobody says
    /// that it is in service. Where no address is known to be its own, the service manager must say so of every instance.
    /// Where its pages answer, the number of those in service is nought, and hardly anything is asked of them.
    pub(super) fn out_of_service(&self, signal: &Signal, reading: &Reading, sight: &Sight<'_>) -> Option<Reading> {
        let lack = match &reading.value {
            Ok(_) => None,
            Err(lack) if lack.is_own => return None,
            Err(lack) => Some(&lack.reason),
        };
        if lack.is_none() && !self.hosted.values().any(|hosted| hosted.reading().teller == Teller::Number) {
            return None;
        }
        let scope = sight.scope;
        let instances = self.instances(scope.revision);
        let unwell = self.unavailable(&instances, scope);
        let is_told = unwell.value.is_ok_and(|share| share >= Finite::ONE);
        let (is_out, newest, samples) = match lack {
            Some(UnknownReason::Blind { .. }) => {
                let others = self.scraped.values().filter(|target| !is_of(target, &scope));
                let mut others = others.filter_map(|target| target.looks.last());
                let answers = others.any(|look| scope.is_fresh(look.at) && look.outcome == Outcome::Good);
                let newest = sight.targets.iter().filter_map(|target| target.looks.last()).map(|look| look.at).max();
                let stays_out = sight.targets.iter().any(|target| target.looks.are_bad(LOOKS_OUT));
                let is_out = stays_out && (answers || is_told) && !is_vouched_for(&instances, scope);
                (is_out, newest, sight.targets.len() as u64)
            }
            Some(UnknownReason::NoTarget) => (is_told, unwell.newest, unwell.samples),
            None
            | Some(
                UnknownReason::NoReading
                | UnknownReason::NoSuchSeries { .. }
                | UnknownReason::Stale { .. }
                | UnknownReason::OffTheScale { .. }
                | UnknownReason::NoHistogram
                | UnknownReason::NotFinite
                | UnknownReason::NothingCounted
                | UnknownReason::Partial { .. }
                | UnknownReason::TooFewRequests { .. }
                | UnknownReason::NotProven
                | UnknownReason::WarmingUp
                | UnknownReason::NoBaseline
                | UnknownReason::CoarseBucket { .. }
                | UnknownReason::OwnBurst { .. }
                | UnknownReason::NotOffered,
            ) => {
                let is_nought = is_told && Numbers::of(&instances, scope).there > 0;
                (is_nought && !self.is_asked(signal, sight), unwell.newest, unwell.samples)
            }
        };
        let newest = newest.filter(|newest| is_out && scope.is_fresh(*newest))?;
        Some(Reading { is_unanswered: true, ..Reading::of(1.0, samples, Some(newest), Basis::Plain) })
    }

    /// Whether none of a release is in service because it is only coming up: no request of it was counted since its rollout,
    /// which is younger than a fault would be by the end of its hold. Readiness comes late in a healthy rollout too, and while
    /// others serve nobody misses it; where nobody does, it has the time that any process has.
    pub(super) fn is_coming_up(&self, signal: &Signal, reading: &Reading, sight: &Sight<'_>, hold_for: Span) -> bool {
        let is_asked_about = |judged: &&(RevisionId, Timestamp)| sight.scope.revision == Some(&judged.0);
        let Some((release, since)) = self.judged.as_ref().filter(is_asked_about) else { return false };
        let followed = self.followed.get(&signal.name);
        let last = followed.and_then(|followed| followed.past.minutes(release).next_back());
        let has_served = last.is_some_and(|minute| minute.begin >= *since);
        let is_nowhere = reading.is_unanswered && sight.targets.is_empty() && !has_served;
        let is_active =
            |instance| self.hosted.get(instance).is_some_and(|hosted| hosted.reading().active == Some(true));
        let others_serve = self.attribution.configured().any(|(instance, at)| at != release && is_active(instance));
        let allowed = if others_serve { COMING_UP } else { self.policy.warmup };
        is_nowhere && sight.scope.now.since(*since) + hold_for < allowed
    }

    /// Whether a release has requests as one in service has: of the number of those in service a release may be left out that
    /// has not been ready for long enough.
    fn is_asked(&self, signal: &Signal, sight: &Sight<'_>) -> bool {
        let scope = sight.scope;
        let Basis::Counts { total, .. } = sight.basis(signal, scope.window(scope.fresh)) else { return false };
        let followed = self.followed.get(&signal.name);
        let usual = followed.and_then(|followed| followed.past.usual_rate(scope.revision)).unwrap_or(0.0);
        total >= 1.0 && total / scope.fresh.as_secs_f64() >= ASKED * usual
    }
}

/// Whether somebody says that a release whose addresses refuse is in service: a health endpoint of it that answers well, an
/// orchestrator, or the number of those in service, where fewer are out than refuse. That a process runs says nothing.
fn is_vouched_for(instances: &Instances<'_>, scope: Scope<'_>) -> bool {
    let is_well = |instance: &Instance<'_>| {
        let mut looks = instance.probed.iter().filter_map(|probed| probed.last());
        let answers = looks.any(|look| scope.is_fresh(look.at) && look.outcome == Outcome::Good);
        answers || is_active(instance, scope, Teller::Orchestrator) == Some(true)
    };
    let refuses = |instance: &&Instance<'_>| {
        let mut looks = instance.scraped.iter().filter_map(|scraped| scraped.looks.last());
        looks.any(|look| scope.is_fresh(look.at) && matches!(look.outcome, Outcome::Bad(_)))
    };
    let Numbers { there, out } = Numbers::of(instances, scope);
    let fewer_are_out = || there > 0 && out < instances.values().filter(refuses).count();
    instances.values().any(is_well) || fewer_are_out()
}

/// Whether an instance is in service by this one's word.
fn is_active(instance: &Instance<'_>, scope: Scope<'_>, by: Teller) -> Option<bool> {
    let is_fresh = |at: &Timestamp| scope.is_fresh(*at);
    let hosted =
        instance.hosted.filter(|hosted| hosted.reading().teller == by && hosted.at.as_ref().is_some_and(is_fresh));
    hosted?.reading().active
}

/// How many instances there are to be, and how many of them are out of service, where only the numbers are known.
struct Numbers {
    there: usize,
    out: usize,
}

impl Numbers {
    fn of(instances: &Instances<'_>, scope: Scope<'_>) -> Self {
        let active = instances.values().filter_map(|instance| is_active(instance, scope, Teller::Number));
        active.fold(Self { there: 0, out: 0 }, |numbers, active| Self {
            there: numbers.there + 1,
            out: numbers.out + usize::from(!active),
        })
    }
}
