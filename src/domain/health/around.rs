//! What else was seen at the time of a fault, by which it is put down to the release or not.

use serde::{Deserialize, Serialize};

use super::builtin::{self, Instances};
use super::bursts::OwnBursts;
use super::follow::Followed;
use super::past::{Minute, Past, Stretch, Sum};
use super::quantile;
use super::reading::{Basis, Sight};
use super::rise::{Point, Rise, Trend};
use super::verdict::{Evidence, TriggerState, TriggerStatus};
use super::views::Views;
use super::{Health, is_of};
use crate::domain::id::{RevisionId, TargetId};
use crate::domain::policy::{Builtin, Candidate, Comparison, Condition, Signal};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::{Finite, Unit};

/// Targets of the release, and of both releases together, from which on one is told from the others: one of three is a
/// third of the service, and the only new one among many old ones is all that is known of the release.
const TARGETS: (usize, usize) = (2, 5);

/// How far back a fault is followed that hit both releases, here earlier and there later: what comes and goes is there again
/// within the time, and what it was like before says nothing of now.
const SINCE_ONSET: Span = Span::from_secs(300);

/// A fault that sets in later than this after a rollout is not one that was there before it.
const CARRIED_OVER: Span = Span::from_secs(600);

/// An outage that comes and goes is the same one while it is gone for no longer than this.
const LULL: Span = Span::from_secs(240);

/// A fault that goes on for so many times as long as the longest outage before is another one.
const OUTLASTS: f64 = 1.5;

/// How sure it is how long an outage was that is known by minutes.
const ABOUT: Span = Span::from_secs(30);

/// Requests of a minute that say whether it was bad.
const TELLING: f64 = 20.0;

/// The old release's last minutes in service that show whether the fault was there before: the last one is seldom whole.
const LAST_MINUTES: usize = 2;

/// Minutes of the new release that say whether a rise is over.
const OUT_MINUTES: usize = 3;

/// Minutes of a release's past that say what it is like.
const TYPICAL_MINUTES: usize = 10;

/// How long before a fault the traffic is looked at, and how long around its onset.
const TRAFFIC: (Span, Span) = (Span::from_secs(600), Span::from_secs(120));

/// How far back the old release's kills and restarts count as its own kind.
const EVENTS_BEFORE: Span = Span::from_secs(3600);

/// A value, and from how many requests, readings or instances.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Amount {
    /// In the signal's base unit.
    pub value: Finite,
    /// Behind it.
    pub samples: u64,
}

/// A stretch of time in which a release was beyond the bound.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Outage {
    /// When it set in, to the minute.
    pub from: Timestamp,
    /// How long it was.
    pub lasted: Span,
    /// What it was like.
    pub amount: Amount,
}

/// What else was seen at the time of a fault.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Around {
    /// The release before, beside this one over the same window.
    pub beside: Option<Amount>,
    /// Both since the fault set in: this release, and the one before beside it. Over the last five minutes at most where it
    /// still serves, else until it was gone.
    pub since_onset: Option<(Amount, Amount)>,
    /// The release before, in its last two minutes before the fault set in, where it no longer serves and that was soon after
    /// the rollout.
    pub before: Option<Amount>,
    /// The release before, where it no longer serves, from when the fault set in until it went, the worst of its minutes since
    /// then, or its last looks beside this one while that was in it: what hit both while both served goes on when only one
    /// is left.
    #[serde(default)]
    pub until_gone: Option<Amount>,
    /// The release before, where it no longer serves: the middle one of its minutes before the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<Amount>,
    /// The release before, where it no longer serves: its outages before the rollout that were not much shorter than this
    /// fault so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<Outage>,
    /// The release before, where it no longer serves: a rise that it was in as it went and that this release has been in ever
    /// since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rise: Option<Rise>,
    /// Which one of several targets is the worst, how many there are, and the value without it.
    pub worst: Option<(TargetId, u32, Amount)>,
    /// Where only one release serves: good requests a second around the onset, or of a latency against the past at most
    /// since then, and at most before.
    pub traffic: Option<(Finite, Finite)>,
    /// What each release that is remembered was like in its last minutes in service.
    pub typical: Vec<(RevisionId, Amount)>,
}

/// A fault, as its trigger knows it.
#[derive(Clone, Copy)]
struct Fault {
    onset: Timestamp,
    hold_for: Span,
}

impl Fault {
    /// Those of the outages before that were at least about half as long as this fault so far or as its hold; none where it
    /// has gone on for much longer than any of them.
    fn like(self, mut outages: Vec<Outage>, now: Timestamp) -> Vec<Outage> {
        let lasts = now.since(self.onset);
        let longest = outages.iter().map(|outage| outage.lasted.as_secs_f64()).fold(0.0, f64::max);
        if lasts.as_secs_f64() > OUTLASTS * longest + ABOUT.as_secs_f64() {
            return Vec::new();
        }
        outages.retain(|outage| (outage.lasted + ABOUT).times(2) >= lasts.max(self.hold_for));
        outages
    }
}

impl Around {
    fn amount(value: f64, samples: f64) -> Option<Amount> {
        Some(Amount { value: Finite::new(value)?, samples: samples as u64 })
    }
}

impl Health {
    /// Adds what else is seen at the time of the fault to each signal of a trigger that is not inactive.
    pub(super) fn look_around(&self, status: &mut TriggerStatus, views: &Views<'_>, instances: &Instances<'_>) {
        let onset = match status.state {
            TriggerState::Inactive => return,
            TriggerState::Pending { since, .. } | TriggerState::Firing { since, .. } => since,
        };
        let fault = Fault { onset, hold_for: status.hold_for };
        let around = |evidence: &Evidence| {
            let signal = self.policy.signals.get(&evidence.signal)?;
            self.around(evidence, fault, signal, views, instances).map(Box::new)
        };
        let TriggerStatus { combined: Some(combined), evidence: lead, .. } = status else {
            status.evidence.around = around(&status.evidence);
            return;
        };
        for term in &mut combined.terms {
            term.around = around(term);
            if (&term.signal, term.condition) == (&lead.signal, lead.condition) {
                lead.around.clone_from(&term.around);
            }
        }
    }

    /// What else is seen at the time of the fault.
    fn around(
        &self,
        evidence: &Evidence,
        fault: Fault,
        signal: &Signal,
        views: &Views<'_>,
        instances: &Instances<'_>,
    ) -> Option<Around> {
        let subject = views.subject?;
        if let Some(builtin) = super::assess::builtin_of(signal) {
            return Some(self.around_events(builtin, signal, views, instances));
        }
        let onset = fault.onset;
        // Where nothing is in service no one of them is worse than the others.
        let bound_of_targets = bound(evidence).filter(|_| !evidence.unanswered);
        let mut around = Around { worst: self.worst(bound_of_targets, signal, views), ..Around::default() };
        let (Some(followed), Some(baseline)) = (self.followed.get(&signal.name), subject.baseline.as_ref()) else {
            return Some(around);
        };
        let Some(candidate) = &followed.candidate else { return Some(around) };
        let sum = |sum: &Sum| Around::amount(sum.value(candidate)?, sum.all);
        let past = &followed.past;
        let compared = evidence.compared.as_deref();
        let without_pauses = compared.filter(|compared| compared.without_pauses);
        around.beside = match without_pauses {
            Some(compared) => compared.value.map(|value| Amount { value, samples: compared.samples }),
            None => views.old.as_ref().and_then(|old| beside(signal, old)),
        };
        if around.beside.is_some() {
            let since = onset.max(views.all.scope.now - SINCE_ONSET);
            // A burst of a single target of the old release makes a stretch alike, and is known not to be what this is.
            let own = compared.and_then(|compared| compared.bursts.as_ref());
            if without_pauses.is_none() && own.is_none_or(OwnBursts::explain) {
                around.since_onset = sum(&past.since(&subject.revision, since)).zip(sum(&past.since(baseline, since)));
            }
        } else {
            // Latency grows with the load, and with it the evidence: there all the time until now counts.
            let is_by_past = evidence.compared.as_ref().is_some_and(|compared| !compared.beside);
            let grows = is_by_past && evidence.unit == Unit::Seconds;
            let until = if grows { views.all.scope.now } else { views.all.scope.now.min(onset + TRAFFIC.1) };
            around.traffic = traffic(followed, &subject.revision, baseline, onset, until);
            let began = bound(evidence)
                .map_or(onset, |bound| began(past, [&subject.revision, baseline], candidate, bound, onset));
            let worst = past.worst_minute(baseline, candidate, began, TELLING);
            let whole = sum(&past.whole_since(baseline, onset));
            let worse = |a: Amount, b: Amount| if b.value > a.value { b } else { a };
            let overlap = bound(evidence).and_then(|bound| followed.departure.overlap(candidate, bound));
            let overlap = overlap.filter(|overlap| began.since(overlap.last) <= LULL);
            let by_looks = overlap.iter().flat_map(|overlap| [Some(&overlap.old), overlap.whole.as_ref()]).flatten();
            let shown = whole.into_iter().chain(worst.and_then(sum)).chain(by_looks.filter_map(sum));
            around.until_gone = shown.reduce(worse);
            around.since_onset =
                past.minutes(baseline).next_back().filter(|last| last.begin > began).and_then(|last| {
                    let until = last.begin;
                    sum(&past.between(&subject.revision, began, until)).zip(sum(&past.between(baseline, began, until)))
                });
            let by_looks = overlap.as_ref().and_then(|overlap| sum(&overlap.new).zip(sum(&overlap.old)));
            around.since_onset = around.since_onset.or(by_looks);
            let is_soon = onset.since(subject.since) <= CARRIED_OVER;
            let until = subject.since.max(onset);
            around.before = sum(&past.last(baseline, LAST_MINUTES, until)).filter(|_| is_soon);
            around.usual = past.usual_minute(baseline, candidate, subject.since, TELLING).and_then(sum);
            if let Some(bound) = bound(evidence) {
                let outages = past.outages(baseline, candidate, bound, subject.since, (TELLING, LULL));
                let outages = outages
                    .into_iter()
                    .filter_map(|Stretch { from, lasted, sum: of }| Some(Outage { from, lasted, amount: sum(&of)? }));
                around.outages = fault.like(outages.collect(), views.all.scope.now);
            }
            let margin = match evidence.condition {
                Some(Condition::Above(_)) => Some(Comparison::usual(evidence.unit)),
                Some(Condition::WorseThanBaseline(comparison)) => Some(comparison),
                Some(Condition::Below(_)) | None => None,
            };
            around.rise = margin.and_then(|margin| {
                // What goes on after a short lull is the same fault.
                rise(past, (&subject.revision, baseline), candidate, margin, (began, views.all.scope.now))
            });
        }
        around.typical = typical(followed, candidate, &subject.revision);
        Some(around)
    }

    /// The worst target, and the value without it.
    fn worst(&self, bound: Option<f64>, signal: &Signal, views: &Views<'_>) -> Option<(TargetId, u32, Amount)> {
        let bound = bound?;
        let sight = views.of(signal);
        let from = sight.scope.window(signal.window);
        let excess = |only: &Sight<'_>| match only.basis(signal, from) {
            Basis::Counts { bad, total } => bad - bound * total,
            Basis::Buckets { buckets, quantile, scale } => {
                let all = buckets.last().map_or(0.0, |last| last.count);
                let slow = quantile::above(bound / scale, &buckets);
                slow - (1.0 - quantile) * all
            }
            Basis::Plain => f64::NEG_INFINITY,
        };
        let serving: Vec<&TargetId> =
            self.scraped.iter().filter(|(_, target)| is_of(target, &sight.scope)).map(|(id, _)| id).collect();
        let beside = views.old.as_ref().map_or(0, |old| old.targets.len());
        let is_few = serving.len() < TARGETS.0 || serving.len() + beside < TARGETS.1;
        if is_few || serving.len() != sight.targets.len() {
            return None;
        }
        let excesses = sight.targets.iter().map(|target| excess(&Sight { targets: vec![target], ..sight.clone() }));
        let (index, worst) = excesses.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        if worst == f64::NEG_INFINITY {
            return None;
        }
        let mut rest = sight.clone();
        rest.targets.remove(index);
        let reading = rest.read(signal, from, 1);
        let amount = Amount { value: reading.value.ok()?, samples: reading.samples };
        Some(((*serving.get(index)?).clone(), u32::try_from(serving.len()).ok()?, amount))
    }

    /// Kills and restarts: of the old release beside this one, and of the old one in the hour before the rollout.
    pub(super) fn around_events(
        &self,
        builtin: Builtin,
        signal: &Signal,
        views: &Views<'_>,
        instances: &Instances<'_>,
    ) -> Around {
        let mut around = Around::default();
        let Some((subject, baseline)) = views.subject.and_then(|subject| Some((subject, subject.baseline.as_ref()?)))
        else {
            return around;
        };
        let counts = |event: &(Timestamp, u64, u64)| match builtin {
            Builtin::OomKills => event.1,
            Builtin::Restarts | Builtin::CrashLoops => event.2,
            Builtin::Health | Builtin::Unavailable | Builtin::ProgressDeadline | Builtin::ImagePullFailures => 0,
        };
        let is_before = |at: Timestamp| at <= subject.since && subject.since.since(at) <= EVENTS_BEFORE;
        let before: u64 = self.events.get(baseline).into_iter().flatten().filter(|e| is_before(e.0)).map(counts).sum();
        around.before = Around::amount(before as f64, 1.0).filter(|amount| amount.samples > 0 && before > 0);
        let old = self.instances(Some(baseline));
        if !old.is_empty() && !instances.is_empty() {
            let scope = views.all.scope;
            let reading = builtin::read(builtin, &old, true, scope, signal.window);
            let each = instances.len() as f64 / old.len() as f64;
            around.beside = reading.value.ok().and_then(|value| Around::amount(value.get() * each, old.len() as f64));
        }
        around
    }
}

/// The bound by which targets are told apart: fixed, or what the release before made of it.
fn bound(evidence: &Evidence) -> Option<f64> {
    match evidence.condition? {
        Condition::Above(bound) => Some(bound.get()),
        Condition::WorseThanBaseline(_) => evidence.compared.as_ref()?.bound.map(Finite::get),
        Condition::Below(_) => None,
    }
}

/// The rise that the old release was in as it went, where it is taken to go on at the onset of a fault, and the new one has
/// not been out of it in between.
fn rise(
    past: &Past,
    (new, old): (&RevisionId, &RevisionId),
    candidate: &Candidate,
    margin: Comparison,
    (onset, now): (Timestamp, Timestamp),
) -> Option<Rise> {
    let mut minutes: Vec<&Minute> = past.minutes(old).filter(|minute| minute.sum.all >= TELLING).collect();
    // The last one is seldom whole.
    let gone = minutes.pop()?.begin;
    let point = |minute: &&Minute| {
        Some(Point { begin: minute.begin, value: minute.sum.value(candidate)?, requests: minute.sum.all })
    };
    let points: Vec<Point> = minutes.iter().filter_map(point).collect();
    let trend = Trend::of(&points, margin).filter(|trend| trend.reaches(onset))?;
    let between: Vec<&Minute> =
        past.minutes(new).filter(|minute| minute.begin > gone && minute.begin < onset).collect();
    let is_out = |minutes: &[&Minute]| {
        let mut sum = Sum::default();
        minutes.iter().for_each(|minute| sum.add(&minute.sum));
        sum.all >= TELLING && sum.value(candidate).is_some_and(|value| value < trend.half())
    };
    if between.windows(OUT_MINUTES).any(is_out) {
        return None;
    }
    let seen = past.since(new, onset.max(now - SINCE_ONSET));
    trend.against(now, margin, Around::amount(seen.value(candidate)?, seen.all)?)
}

/// When the fault began that set in last with `onset`: as far back as no lull in it was longer than [`LULL`], in the minutes of
/// either release.
fn began(past: &Past, releases: [&RevisionId; 2], candidate: &Candidate, bound: f64, onset: Timestamp) -> Timestamp {
    let is_bad =
        |minute: &&Minute| minute.sum.all >= TELLING && minute.sum.value(candidate).is_some_and(|value| value > bound);
    let minutes = releases.into_iter().flat_map(|release| past.minutes(release));
    let mut bad: Vec<Timestamp> =
        minutes.filter(is_bad).map(|minute| minute.begin).filter(|begin| *begin < onset).collect();
    bad.sort_unstable_by_key(|begin| std::cmp::Reverse(*begin));
    bad.into_iter().fold(onset, |began, at| if began.since(at) <= LULL { at } else { began })
}

fn beside(signal: &Signal, old: &Sight<'_>) -> Option<Amount> {
    let reading = old.read(signal, old.scope.window(signal.window), 1);
    Some(Amount { value: reading.value.ok()?, samples: reading.samples })
}

/// Good requests a second around the onset, and the most that there were before: of the old release, and of this one
/// until a while before. What is retried because it failed is no good request, so that a bad release does not look like a
/// crowd.
fn traffic(
    followed: &Followed,
    release: &RevisionId,
    baseline: &RevisionId,
    onset: Timestamp,
    until: Timestamp,
) -> Option<(Finite, Finite)> {
    let (long, short) = TRAFFIC;
    let past = &followed.past;
    let around = past.load(release, onset - short, until)?;
    let begin = Timestamp::from_millis(i64::MIN);
    let old = past.load(baseline, begin, onset);
    // Where nothing is known of the old one, what it hands over is no crowd: of what came before the fault all counts.
    let own = past.load(release, begin, onset - if old.is_some() { long } else { short });
    let before = old.into_iter().chain(own).reduce(f64::max)?;
    Finite::new(around).zip(Finite::new(before))
}

fn typical(followed: &Followed, candidate: &Candidate, release: &RevisionId) -> Vec<(RevisionId, Amount)> {
    let past = &followed.past;
    let of = |known: &RevisionId| {
        let sum = past.last(known, TYPICAL_MINUTES, Timestamp::from_millis(i64::MAX));
        Some((known.clone(), Around::amount(sum.value(candidate)?, sum.all)?))
    };
    past.releases().filter(|known| *known != release).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::fixtures::finite;
    use crate::domain::policy::{Formula, OperandId};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    /// When a fault is said to have begun that set in last with minute 20, of minutes of 100 requests with so many bad.
    fn began_at(old: &[(i64, f64)], new: &[(i64, f64)]) -> Timestamp {
        let (formula, mut past) = (Formula::Ratio { bad: OperandId(0), total: OperandId(1) }, Past::default());
        let candidate = Candidate { convention: None, formula, scale: 1.0 };
        let releases = ["new", "old"].map(RevisionId::from);
        for (release, bad) in releases.iter().zip([new, old]) {
            for minute in 0..30 {
                let bad = bad.iter().find(|(known, _)| *known == minute).map_or(0.0, |(_, bad)| *bad);
                past.add(release, at(minute), &Sum { bad, all: 100.0, buckets: Vec::new() });
            }
        }
        began(&past, [&releases[0], &releases[1]], &candidate, 0.1, at(20))
    }

    /// What becomes of a rise of the old release, from 1 % to 6 % in its twenty minutes until it is gone, by what the new one is
    /// like in the minutes after that.
    fn rise_of(new: impl Fn(i64) -> f64, onset: i64, now: i64) -> Option<Rise> {
        let (formula, mut past) = (Formula::Ratio { bad: OperandId(0), total: OperandId(1) }, Past::default());
        let candidate = Candidate { convention: None, formula, scale: 1.0 };
        let (old_release, new_release) = (RevisionId::from("old"), RevisionId::from("new"));
        let mut add = |release: &RevisionId, minute: i64, share: f64| {
            past.add(release, at(minute), &Sum { bad: 1000.0 * share, all: 1000.0, buckets: Vec::new() });
        };
        (0..=20).for_each(|minute| add(&old_release, minute, 0.01 + 0.0025 * minute as f64));
        (21..now).for_each(|minute| add(&new_release, minute, new(minute)));
        let margin = Comparison::usual(Unit::Ratio);
        rise(&past, (&new_release, &old_release), &candidate, margin, (at(onset), at(now)))
    }

    #[test]
    fn a_rise_goes_on_unless_the_new_release_is_out_of_it_in_between() {
        let same_pace = |minute: i64| 0.01 + 0.0025 * minute as f64;
        let rise = rise_of(same_pace, 36, 42).unwrap();
        assert!(rise.explains() && rise.seen.value > finite(0.1) && rise.most < finite(0.15), "{rise:?}");
        assert!((rise.expected.get() - same_pace(42)).abs() < 1e-6, "{rise:?}");
        let on_top = rise_of(|minute| if minute < 36 { same_pace(minute) } else { 0.3 }, 36, 42).unwrap();
        assert!(!on_top.explains(), "{on_top:?}");
        let out = |minute: i64| if minute < 36 { 0.01 } else { 0.11 };
        assert_eq!(rise_of(out, 36, 42), None, "it was over");
        assert!(rise_of(out, 21, 42).is_some(), "the fault began at once");
        assert_eq!(rise_of(same_pace, 70, 72), None, "too long ago");
    }

    #[test]
    fn only_outages_that_were_about_as_long_are_like_a_fault() {
        let like = |seconds: i64, lasted: &[u64]| {
            let outages = lasted.iter().map(|lasted| Outage {
                from: at(0),
                lasted: Span::from_secs(*lasted),
                amount: Amount { value: Finite::ONE, samples: 100 },
            });
            let fault = Fault { onset: at(60), hold_for: Span::from_secs(300) };
            let now = at(60) + Span::from_secs(seconds.unsigned_abs());
            let like = fault.like(outages.collect(), now);
            like.iter().map(|outage| outage.lasted.as_secs_f64()).collect::<Vec<_>>()
        };
        assert_eq!(like(300, &[360, 60, 400]), [360.0, 400.0], "one was over at once");
        assert_eq!(like(10, &[360, 60, 120]), [360.0, 120.0], "half of the hold, to the minute");
        assert_eq!(like(570, &[360, 240]), [360.0]);
        assert_eq!(like(571, &[360, 240]), [0.0; 0], "much longer than any of them");
        assert_eq!(like(10, &[]), [0.0; 0]);
    }

    #[test]
    fn an_outage_that_comes_and_goes_began_when_it_first_came() {
        assert_eq!(began_at(&[], &[]), at(20), "it set in for the first time");
        assert_eq!(began_at(&[(10, 50.0), (13, 30.0)], &[(16, 60.0), (25, 90.0)]), at(10));
        assert_eq!(began_at(&[(3, 50.0), (13, 30.0)], &[(16, 60.0)]), at(13), "what was over for long was another one");
        assert_eq!(began_at(&[(16, 9.0)], &[(17, 10.0)]), at(20), "within the bound");
    }
}
