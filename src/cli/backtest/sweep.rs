//! What would change with other settings: the same points, judged again with each.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::domain::policy::{Condition, Trigger, WorkloadPolicy};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::{Finite, Unit};
use crate::replay::{Kind, Outcome, Subject};

/// Settings that a sweep tries, its two ends included.
const STEPS: u64 = 10;

/// `for=1m..10m` or `threshold=5%..20%`, for every trigger that it fits.
#[derive(Debug, Clone)]
pub(super) struct Sweep {
    settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Setting {
    /// How long a breach must hold, for triggers that ask for any time.
    For(Span),
    /// Where bad begins, for triggers whose signal is measured so.
    Threshold(Finite, Unit),
}

/// What came of one setting, over all recordings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Swept {
    pub(super) setting: String,
    /// Recordings by the gravest decision in each.
    pub(super) rollback: u32,
    pub(super) hold: u32,
    pub(super) alert: u32,
    pub(super) none: u32,
    /// The first rollback.
    pub(super) first_rollback: Option<Timestamp>,
    /// Each trigger that the setting fits, by name: what it does by itself, whichever trigger decides.
    pub(super) triggers: Vec<SweptTrigger>,
}

/// What came of one setting for one trigger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct SweptTrigger {
    pub(super) trigger: String,
    /// Recordings in which it fires.
    pub(super) fired: u32,
    /// When it fires first.
    pub(super) first_fired: Option<Timestamp>,
}

/// The subjects of a replay under one setting.
pub(super) struct Tried {
    pub(super) subjects: Vec<Subject>,
    /// Names of the triggers that the setting fits.
    triggers: BTreeSet<String>,
}

impl Sweep {
    /// What came of nothing yet, a line each setting.
    pub(super) fn lines(&self) -> Vec<Swept> {
        let line = |setting: &Setting| Swept {
            setting: setting.to_string(),
            rollback: 0,
            hold: 0,
            alert: 0,
            none: 0,
            first_rollback: None,
            triggers: Vec::new(),
        };
        self.settings.iter().map(line).collect()
    }

    /// The subjects under each setting.
    pub(super) fn tried<'s>(&'s self, subjects: &'s [Subject]) -> impl Iterator<Item = Tried> + 's {
        self.settings.iter().map(|setting| Tried {
            subjects: subjects.iter().map(|subject| setting.of(subject)).collect(),
            triggers: subjects.iter().flat_map(|subject| setting.fitting(&subject.policy)).collect(),
        })
    }
}

impl Swept {
    /// Adds one recording's outcome.
    pub(super) fn add(&mut self, tried: &Tried, outcome: &Outcome) {
        let worst = outcome.decisions.iter().map(|decision| decision.decision).max().unwrap_or(Kind::None);
        let count = match worst {
            Kind::Rollback => &mut self.rollback,
            Kind::Hold => &mut self.hold,
            Kind::Alert => &mut self.alert,
            Kind::None => &mut self.none,
        };
        *count += 1;
        let first = outcome.decisions.iter().find(|decision| decision.decision == Kind::Rollback);
        self.first_rollback = earlier(self.first_rollback, first.map(|decision| decision.fired_at));
        for trigger in &tried.triggers {
            let first = outcome.decisions.iter().find(|decision| decision.trigger == *trigger);
            let first_fired = first.map(|decision| decision.fired_at);
            self.note(&SweptTrigger { trigger: trigger.clone(), fired: u32::from(first.is_some()), first_fired });
        }
    }

    /// Adds what came of the same setting elsewhere.
    pub(super) fn join(&mut self, other: &Swept) {
        self.rollback += other.rollback;
        self.hold += other.hold;
        self.alert += other.alert;
        self.none += other.none;
        self.first_rollback = earlier(self.first_rollback, other.first_rollback);
        other.triggers.iter().for_each(|trigger| self.note(trigger));
    }

    fn note(&mut self, one: &SweptTrigger) {
        match self.triggers.iter_mut().find(|known| known.trigger == one.trigger) {
            Some(known) => {
                known.fired += one.fired;
                known.first_fired = earlier(known.first_fired, one.first_fired);
            }
            None => self.triggers.push(one.clone()),
        }
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Setting {
    fn of(self, subject: &Subject) -> Subject {
        let mut policy = WorkloadPolicy::clone(&subject.policy);
        let WorkloadPolicy { triggers, signals, .. } = &mut policy;
        for trigger in triggers {
            match self {
                Setting::For(span) if trigger.hold_for > Span::ZERO => trigger.hold_for = span,
                Setting::For(_) => {}
                Setting::Threshold(bound, unit) => {
                    let is_so = |name| signals.get(name).is_some_and(|signal| signal.unit == unit);
                    trigger.bounds_mut().filter(|(signal, _)| is_so(*signal)).for_each(|(_, old)| match old {
                        Condition::Above(old) | Condition::Below(old) => *old = bound,
                        Condition::WorseThanBaseline(_) => {}
                    });
                }
            }
        }
        Subject { id: subject.id.clone(), policy: Arc::new(policy) }
    }

    /// The names of the policy's triggers that this setting changes.
    fn fitting(self, policy: &WorkloadPolicy) -> impl Iterator<Item = String> + '_ {
        let fits = move |trigger: &Trigger| match self {
            Setting::For(_) => trigger.hold_for > Span::ZERO,
            Setting::Threshold(_, unit) => trigger.terms().any(|(signal, condition)| {
                condition.threshold().is_some() && policy.signals.get(signal).is_some_and(|signal| signal.unit == unit)
            }),
        };
        policy.triggers.iter().filter(move |trigger| fits(trigger)).map(|trigger| trigger.name.to_string())
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Setting::For(span) => write!(f, "for = {span}"),
            Setting::Threshold(bound, unit) => write!(f, "threshold = {}", unit.format(bound.get())),
        }
    }
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no sweep: write for=1m..10m or threshold=5%..20%");
        let (key, range) = text.split_once('=').ok_or_else(wrong)?;
        let (from, to) = range.split_once("..").ok_or_else(wrong)?;
        let even = |from: f64, to: f64| (0..STEPS).map(move |n| from + (to - from) * n as f64 / (STEPS - 1) as f64);
        let settings = match key {
            "for" => {
                let millis = |text: &str| Some(Span::from(duration(text)?).as_millis() as f64);
                let (from, to) = millis(from).zip(millis(to)).ok_or_else(wrong)?;
                even(from, to).map(|millis| Setting::For(Span::from_millis(millis.round() as u64))).collect()
            }
            "threshold" => {
                let ((from, unit), (to, other)) = quantity(from).zip(quantity(to)).ok_or_else(wrong)?;
                if unit != other {
                    return Err(format!("{text:?}: both ends need the same unit"));
                }
                let settings = even(from, to).map(|value| Some(Setting::Threshold(Finite::new(value)?, unit)));
                let settings: Option<_> = settings.collect();
                settings.ok_or_else(|| format!("{text:?}: both ends, and what lies between them, must be finite"))?
            }
            _ => return Err(wrong()),
        };
        Ok(Self { settings })
    }
}

fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// A number in its base unit: a share with `%`, a time, or a plain number.
fn quantity(text: &str) -> Option<(f64, Unit)> {
    if let Some(share) = text.strip_suffix('%') {
        return Some((share.trim().parse::<f64>().ok()? / 100.0, Unit::Ratio));
    }
    match text.parse::<f64>() {
        Ok(number) => Some((number, Unit::Plain)),
        Err(_) => Some((duration(text)?.as_secs_f64(), Unit::Seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        text.parse::<Sweep>().map(|sweep| sweep.settings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_sweep_goes_from_end_to_end() {
        let spans = shown("for=1m..10m").unwrap();
        assert_eq!(spans.len(), 10);
        assert_eq!((spans[0].as_str(), spans[1].as_str(), spans[9].as_str()), ("for = 1m", "for = 2m", "for = 10m"));
        assert_eq!(shown("threshold=1%..10%").unwrap()[4], "threshold = 5 %");
        assert_eq!(shown("threshold=100ms..1s").unwrap()[9], "threshold = 1 s");
        assert_eq!(shown("threshold=0..9").unwrap()[3], "threshold = 3");
    }

    #[test]
    fn what_is_no_sweep_is_refused() {
        for text in ["for", "for=1m", "for=a..b", "threshold=1%..2", "window=1m..2m", "for=1..2"] {
            assert!(shown(text).is_err(), "{text}");
        }
        for text in ["threshold=NaN..1", "threshold=1..inf", "threshold=NaN%..5%", "threshold=-1e308..1e308"] {
            let expected = format!("{text:?}: both ends, and what lies between them, must be finite");
            assert_eq!(shown(text), Err(expected));
        }
    }
}
