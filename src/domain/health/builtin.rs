//! Signals that need no metric: health, restarts, OOM kills, crash loops, share out of service.
//!
//! All are about instances; an address without an instance stands for one of its own. A signal that nothing here could
//! ever tell is not offered, which is no loss of sight.

use std::collections::BTreeMap;

use super::hosted::Hosted;
use super::looks::{Look, Outcome, Probed};
use super::reading::{Basis, Lack, Reading, Scope};
use super::target::Scraped;
use super::verdict::UnknownReason;
use crate::domain::id::{InstanceId, TargetId};
use crate::domain::policy::Builtin;
use crate::domain::time::{Span, Timestamp};

/// Restarts within the window that make a crash loop.
const CRASH_LOOP: u64 = 3;

/// Everything known of one instance.
#[derive(Debug, Default)]
pub(super) struct Instance<'a> {
    pub(super) hosted: Option<&'a Hosted>,
    pub(super) probed: Vec<&'a Probed>,
    pub(super) scraped: Vec<&'a Scraped>,
}

/// An instance by name, or an address that has none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Key<'a> {
    /// A named instance.
    Instance(&'a InstanceId),
    /// An address.
    Target(&'a TargetId),
}

/// All instances that serve the release in question.
pub(super) type Instances<'a> = BTreeMap<Key<'a>, Instance<'a>>;

/// Reads a built-in signal. `is_any` tells whether there are instances at all, of whatever release.
pub(super) fn read(
    builtin: Builtin,
    instances: &Instances<'_>,
    is_any: bool,
    scope: Scope<'_>,
    window: Span,
) -> Reading {
    let edge = scope.since.map_or(scope.now - window, |since| since.max(scope.now - window));
    if instances.is_empty() {
        return Reading::unknown(if is_any { UnknownReason::NoTarget } else { UnknownReason::NoReading });
    }
    match builtin {
        // Told of the whole workload, not of its instances.
        Builtin::ProgressDeadline => Reading::unknown(UnknownReason::NotOffered),
        Builtin::Health => health(instances, scope),
        Builtin::Unavailable => unavailable(instances, scope),
        Builtin::OomKills => {
            let kills = |instance: &Instance<'_>| {
                let hosted = instance.hosted.filter(|hosted| hosted.reading().oom_kills.is_some())?;
                Some((hosted.oom_kills.after(edge), hosted.at?))
            };
            counted(instances, scope, kills, |counts| counts.iter().sum())
        }
        Builtin::ImagePullFailures => {
            let missing = |instance: &Instance<'_>| {
                let hosted = instance.hosted?;
                let at = hosted.at.filter(|at| scope.is_fresh(*at))?;
                Some((u64::from(hosted.reading().image_missing?), at))
            };
            // What serves on one node is there to be had: that another can't have it is not the release's doing.
            let serves = |instance: &Instance<'_>| {
                let fresh = instance.hosted.filter(|hosted| hosted.at.is_some_and(|at| scope.is_fresh(at)));
                fresh.is_some_and(|hosted| hosted.reading().active == Some(true))
            };
            let is_had = instances.values().any(serves);
            counted(instances, scope, missing, |counts| if is_had { 0 } else { counts.iter().sum() })
        }
        Builtin::Restarts => counted(instances, scope, |i| restarts(i, edge), |counts| counts.iter().sum()),
        Builtin::CrashLoops => counted(
            instances,
            scope,
            |i| restarts(i, edge),
            |counts| counts.iter().filter(|count| **count >= CRASH_LOOP).count() as u64,
        ),
    }
}

/// Restarts of an instance after `edge`, and when it was last looked at: as the service manager counts them, else as
/// `process_start_time_seconds` tells.
fn restarts(instance: &Instance<'_>, edge: Timestamp) -> Option<(u64, Timestamp)> {
    let managed = instance.hosted.filter(|hosted| hosted.reading().restarts.is_some());
    if let Some(hosted) = managed {
        return Some((hosted.restarts.after(edge), hosted.at?));
    }
    // Several addresses of one instance see the same process.
    let seen = instance.scraped.iter().filter(|scraped| scraped.process_start.is_some());
    seen.filter_map(|scraped| Some((scraped.restarts.after(edge), scraped.page?))).max()
}

fn counted(
    instances: &Instances<'_>,
    scope: Scope<'_>,
    count: impl Fn(&Instance<'_>) -> Option<(u64, Timestamp)>,
    combine: impl Fn(&[u64]) -> u64,
) -> Reading {
    let counts: Vec<(u64, Timestamp)> = instances.values().filter_map(count).collect();
    let fault = || instances.values().find_map(|instance| instance.hosted?.fault.clone());
    let Some(newest) = counts.iter().map(|(_, at)| *at).max() else {
        return match fault() {
            Some(fault) => Reading::lack(Lack { reason: UnknownReason::Blind { fault }, is_own: true }),
            None => Reading::unknown(UnknownReason::NotOffered),
        };
    };
    let counts: Vec<u64> = counts.into_iter().map(|(count, _)| count).collect();
    let value = combine(&counts);
    // What was counted stays true when the last look is old; that nothing happened does not.
    if value == 0 && !scope.is_fresh(newest) {
        return match fault() {
            Some(fault) => Reading::lack(Lack { reason: UnknownReason::Blind { fault }, is_own: true }),
            None => Reading::unknown(UnknownReason::Stale { newest }),
        };
    }
    Reading::of(value as f64, counts.len() as u64, Some(newest), Basis::Plain)
}

/// Whether one instance is well; `None` where nobody can tell.
struct Wellness {
    is_well: bool,
    at: Timestamp,
}

fn health(instances: &Instances<'_>, scope: Scope<'_>) -> Reading {
    share(instances, scope, |instance| answers(instance, scope))
}

fn unavailable(instances: &Instances<'_>, scope: Scope<'_>) -> Reading {
    share(instances, scope, |instance| {
        let active = instance.hosted.and_then(|hosted| {
            let at = hosted.at.filter(|at| scope.is_fresh(*at))?;
            Some(Wellness { is_well: hosted.reading().active?, at })
        });
        match (active, answers(instance, scope)) {
            (Some(active), Some(answer)) => {
                Some(Wellness { is_well: active.is_well && answer.is_well, at: active.at.max(answer.at) })
            }
            (active, answer) => active.or(answer),
        }
    })
}

/// Whether the instance's endpoints all answered well the last time.
fn answers(instance: &Instance<'_>, scope: Scope<'_>) -> Option<Wellness> {
    let fresh = instance.probed.iter().filter_map(|probed| probed.last()).filter(|look| scope.is_fresh(look.at));
    let mut wellness: Option<Wellness> = None;
    for look in fresh {
        let is_well = match look.outcome {
            Outcome::Good => true,
            Outcome::Bad(_) => false,
            Outcome::Unseen(_) => continue,
        };
        let before = wellness.as_ref().is_none_or(|before| before.is_well);
        let at = wellness.as_ref().map_or(look.at, |before| before.at.max(look.at));
        wellness = Some(Wellness { is_well: before && is_well, at });
    }
    wellness
}

/// The share of instances that are not well, of those that can be told.
fn share(instances: &Instances<'_>, scope: Scope<'_>, wellness: impl Fn(&Instance<'_>) -> Option<Wellness>) -> Reading {
    let told: Vec<Wellness> = instances.values().filter_map(wellness).collect();
    let Some(newest) = told.iter().map(|wellness| wellness.at).max() else { return nobody_tells(instances, scope) };
    let failing = told.iter().filter(|wellness| !wellness.is_well).count();
    Reading::of(failing as f64 / told.len() as f64, told.len() as u64, Some(newest), Basis::Plain)
}

/// Only an orchestrator knows of images.
fn is_orchestrated(hosted: &Hosted) -> bool {
    hosted.reading().image_missing.is_some()
}

fn nobody_tells(instances: &Instances<'_>, scope: Scope<'_>) -> Reading {
    let looks = || instances.values().flat_map(|instance| &instance.probed).filter_map(|probed| probed.last());
    let newest: Option<&Look> = looks().max_by_key(|look| look.at);
    let is_looked_at = instances.values().any(|instance| !instance.probed.is_empty());
    let host_tells = instances.values().filter_map(|instance| instance.hosted).find(|h| h.reading().active.is_some());
    match newest {
        Some(Look { at, outcome: Outcome::Unseen(fault), .. }) if scope.is_fresh(*at) => {
            Reading::lack(Lack { reason: UnknownReason::Blind { fault: fault.clone() }, is_own: true })
        }
        Some(look) if scope.since.is_none_or(|since| look.at > since) => {
            Reading::unknown(UnknownReason::Stale { newest: look.at })
        }
        Some(_) => Reading::unknown(UnknownReason::NoReading),
        None if is_looked_at => Reading::unknown(UnknownReason::NoReading),
        None => match host_tells.and_then(|hosted| hosted.at) {
            Some(newest) => Reading::unknown(UnknownReason::Stale { newest }),
            // An orchestrator tells as soon as there is something to tell.
            None if instances.values().filter_map(|instance| instance.hosted).any(is_orchestrated) => {
                Reading::unknown(UnknownReason::NoReading)
            }
            None => Reading::unknown(UnknownReason::NotOffered),
        },
    }
}
