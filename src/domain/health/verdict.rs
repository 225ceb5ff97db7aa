//! The words of a judgement: verdict, evidence, trigger status, assessment.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::around::Around;
use super::bursts::OwnBursts;
use super::judge::Tally;
use super::lasting::Differing;
use crate::domain::id::{RevisionId, SignalName, TargetId, TriggerName};
use crate::domain::policy::{Combine, Comparison, Condition, Severity};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::{Finite, Unit};

/// What is known of a signal against its bound.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "because")]
pub enum Verdict {
    /// Proven or plainly on the good side.
    Ok,
    /// Proven to be on the bad side.
    Breach,
    /// Neither; counts for nothing.
    Unknown(UnknownReason),
}

/// Why nothing can be said.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum UnknownReason {
    /// No target serves the revision in question.
    NoTarget,
    /// Nothing was observed in the window yet.
    NoReading,
    /// No series matches; `nearest` are families of the page that look like it.
    NoSuchSeries {
        /// Most alike first, at most three.
        nearest: Vec<String>,
        /// That it was there before, and what came in its place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gone: Option<Box<Gone>>,
    },
    /// Too few requests in the window.
    TooFewRequests {
        /// In the window.
        have: u64,
        /// Asked for by `min_requests`.
        need: u64,
    },
    /// Beyond the bound by its value, but the requests are too few to prove it.
    NotProven,
    /// The newest sample is older than two intervals.
    Stale {
        /// When it was taken.
        newest: Timestamp,
    },
    /// All processes have begun a short while ago: what they measure now is their start.
    WarmingUp,
    /// There is no release before this one, or nothing is known of what it was like.
    NoBaseline,
    /// The value lies in a histogram bucket that reaches from below the threshold to above it, so that nobody can tell.
    CoarseBucket {
        /// Lower edge, in the signal's base unit.
        from: Finite,
        /// Upper edge; none: there is no higher bucket.
        to: Option<Finite>,
    },
    /// Worse than the release beside it, but no more than single targets of that one are by themselves for a while.
    OwnBurst {
        /// The target whose burst it is.
        target: TargetId,
        /// How long it has to last to be proof.
        needed: Span,
    },
    /// The quantile lies above every finite bucket, and the threshold higher still.
    OffTheScale {
        /// Highest finite bound, in the signal's base unit.
        highest: Finite,
    },
    /// The buckets are no histogram: fewer than two, or none with the bound `+Inf`.
    NoHistogram,
    /// The value is NaN or infinite.
    NotFinite,
    /// A Prometheus server's answer is NaN, as that of a division by a count of 0 is: nothing happened in its range. No loss
    /// of sight.
    NothingCounted,
    /// Nothing here can tell: a host without a readable cgroup has no count of OOM kills. No loss of sight, since there
    /// was none to lose.
    NotOffered,
    /// A Prometheus server warned that its answer leaves something out.
    Partial {
        /// The warning.
        warning: String,
    },
    /// Every look failed; the last fault.
    Blind {
        /// The fault, in one line.
        fault: String,
    },
}

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnknownReason::NoTarget => f.write_str("no target that answers serves this revision"),
            UnknownReason::NoReading => f.write_str("nothing observed in the window yet"),
            UnknownReason::NoSuchSeries { nearest, gone } => {
                match gone {
                    Some(gone) => write!(f, "{gone}")?,
                    None => f.write_str("no series matches")?,
                }
                let is_told = gone.as_ref().is_some_and(|gone| gone.appeared.is_some());
                if nearest.is_empty() || is_told {
                    return Ok(());
                }
                write!(f, "; nearest families: {}", nearest.join(", "))
            }
            UnknownReason::TooFewRequests { have, need } => {
                write!(f, "{have} requests in the window, {need} needed")
            }
            UnknownReason::NotProven => f.write_str("beyond the threshold, but too few requests to prove it"),
            UnknownReason::Stale { newest } => write!(f, "the newest sample is from {newest}"),
            UnknownReason::WarmingUp => f.write_str("all processes have only just begun"),
            UnknownReason::NoBaseline => f.write_str("there is nothing to compare with"),
            UnknownReason::CoarseBucket { from, to } => {
                let to = to.map_or_else(|| "+Inf".to_owned(), |to| to.get().to_string());
                write!(f, "the bucket from {} to {to} is too coarse to tell", from.get())
            }
            UnknownReason::OwnBurst { target, needed } => {
                write!(
                    f,
                    "{target} has a burst as single targets of the release before had by themselves: proof from {needed} of it on"
                )
            }
            UnknownReason::OffTheScale { highest } => {
                write!(f, "it lies above the highest bucket, {}, and the threshold is higher still", highest.get())
            }
            UnknownReason::NoHistogram => f.write_str("the buckets are no histogram: two at least, one of them +Inf"),
            UnknownReason::NotFinite => f.write_str("the value is not a finite number"),
            UnknownReason::NothingCounted => f.write_str("the answer is NaN, as 0 of 0 is: nothing was counted"),
            UnknownReason::NotOffered => f.write_str("this is not offered here"),
            UnknownReason::Partial { warning } => write!(f, "the answer is not whole: {warning}"),
            UnknownReason::Blind { fault } => write!(f, "nothing can be observed: {fault}"),
        }
    }
}

/// Series that were there and are not any more: most likely renamed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gone {
    /// The names that were asked for and found; at most three.
    pub families: Vec<String>,
    /// Since when they are gone.
    pub since: Since,
    /// How many families are there that were not before; none where that is not known.
    pub appeared: Option<u32>,
    /// The first of them by name; at most five.
    pub names: Vec<String>,
}

/// Since when something is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Since {
    /// Since this release came.
    Release(RevisionId),
    /// It was last seen then, on the pages of the same release.
    Time(Timestamp),
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.families.iter().map(|family| format!("`{family}`")).collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        write!(f, "{} {verb} gone since ", names.join(", "))?;
        match &self.since {
            Since::Release(release) => write!(f, "{release}")?,
            Since::Time(at) => write!(f, "{at}")?,
        }
        let more = |count: u32| usize::try_from(count).is_ok_and(|count| count > self.names.len());
        match self.appeared {
            None => Ok(()),
            Some(0) => f.write_str("; no family appeared"),
            Some(count) => {
                let noun = if count == 1 { "family" } else { "families" };
                let rest = if more(count) { ", …" } else { "" };
                write!(f, "; {count} {noun} appeared: {}{rest}", self.names.join(", "))
            }
        }
    }
}

/// The numbers behind a verdict.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// Which signal.
    pub signal: SignalName,
    /// What it is measured in.
    pub unit: Unit,
    /// What was judged.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The signal's value, where there is one.
    pub value: Option<Finite>,
    /// Two-sided interval of a ratio at the signal's confidence.
    pub interval: Option<(Finite, Finite)>,
    /// The requests that prove it or not, where it takes a proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The bound that it is judged against; none for a signal that no trigger names.
    pub condition: Option<Condition>,
    /// Requests (ratio, histogram) or readings (others) in the window.
    pub samples: u64,
    /// Nobody was there to answer, so that nothing was counted: all that is asked fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unanswered: bool,
    /// The window's length.
    pub window: Span,
    /// The newest sample that counts.
    pub newest: Option<Timestamp>,
    /// Convention that the formula comes from, where it is not spelt out.
    pub convention: Option<String>,
    /// What it was compared with, where the trigger compares.
    #[serde(default)]
    pub compared: Option<Box<Compared>>,
    /// What else was seen at the time, while the trigger is not inactive.
    #[serde(default)]
    pub around: Option<Box<Around>>,
}

/// A share of requests that must be proven to lie beyond a bound.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Proof {
    /// Those that count: that failed, or took longer than the bound.
    pub part: Finite,
    /// All of them; since the onset where those of one window would prove too little.
    pub all: Finite,
    /// The share that must be exceeded, or fallen short of.
    pub bound: Finite,
    /// Whether it must be exceeded.
    pub above: bool,
    /// One-sided confidence.
    pub confidence: Finite,
}

impl Proof {
    /// Whether it is proven.
    #[must_use]
    pub fn holds(&self) -> bool {
        Tally::kept(self).is_proven(self.confidence.get())
    }
}

impl Evidence {
    /// Whether this value is beyond the threshold of another one that is exceeded, and that one not materially worse.
    fn is_as_bad_as(&self, other: &Evidence) -> bool {
        let (Some(own), Some(theirs), Some(condition)) = (self.value, other.value, other.condition) else {
            return false;
        };
        let is_no_worse = match condition {
            Condition::Above(_) => theirs.get() <= Comparison::usual(self.unit).bound(own.get()),
            Condition::Below(_) => theirs >= own,
            Condition::WorseThanBaseline(_) => false,
        };
        is_no_worse && condition.is_breached_by(own)
    }

    /// What in these numbers speaks against the verdict that they are said to have led to; none where nothing does.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let (condition, value) = (self.condition?, self.value?);
        let is = || format!("{} is not {}", self.value_in_words(), self.bound_in_words());
        let is_proven = self.proof.as_ref().map(Proof::holds);
        match (condition, &self.verdict) {
            (Condition::WorseThanBaseline(comparison), Verdict::Breach) => self.unproven_comparison(comparison, value),
            // A quantile above the highest bucket reads as that bucket's bound; its counts say more.
            (Condition::Above(_) | Condition::Below(_), Verdict::Breach) => match is_proven {
                Some(true) => (self.unit == Unit::Ratio && !condition.is_breached_by(value)).then(is),
                Some(false) => Some("its requests don't prove it".to_owned()),
                None => (!condition.is_breached_by(value)).then(is),
            },
            (Condition::Above(_) | Condition::Below(_), Verdict::Ok) => condition
                .is_breached_by(value)
                .then(|| format!("{} is {}", self.value_in_words(), self.bound_in_words())),
            (
                Condition::Above(_) | Condition::Below(_),
                Verdict::Unknown(UnknownReason::NotProven | UnknownReason::CoarseBucket { .. }),
            ) => (is_proven == Some(true)).then(|| "its requests prove it".to_owned()),
            (
                Condition::Above(_) | Condition::Below(_) | Condition::WorseThanBaseline(_),
                Verdict::Ok | Verdict::Unknown(_),
            ) => None,
        }
    }

    /// Why a comparison that is said to be decided is not.
    fn unproven_comparison(&self, comparison: Comparison, value: Finite) -> Option<String> {
        let compared = self.compared.as_ref()?;
        if let Some(own) = compared.bursts.as_ref().filter(|own| own.explain()) {
            return Some(own.in_words(self.unit));
        }
        match (compared.evidence, compared.bound) {
            (Some(evidence), _) => {
                let needed = comparison.evidence_needed();
                // The one was a logarithm, the other its power.
                (evidence.get() < needed * (1.0 - 1e-9))
                    .then(|| format!("the evidence is {:.3e} of {needed:.3e} needed", evidence.get()))
            }
            (None, Some(bound)) => (value <= bound).then(|| {
                let [value, bound] = [value, bound].map(|one| self.unit.format(one.get()));
                format!("{value} is not above {bound}")
            }),
            (None, None) => None,
        }
    }

    /// The value in words; `unknown` where there is none.
    #[must_use]
    pub fn value_in_words(&self) -> String {
        let Some(value) = self.value else { return "unknown".to_owned() };
        let value = self.unit.format(value.get());
        // By its name alone, 100 % of it would read as all well.
        if self.signal.as_str() == "health" { format!("{value} failing") } else { value }
    }

    /// The bound in words: fixed, or what the release before made of it. Empty where it is judged by none.
    #[must_use]
    pub fn bound_in_words(&self) -> String {
        let Some(condition) = self.condition else { return String::new() };
        let compared = match (&self.compared, condition) {
            (Some(compared), Condition::WorseThanBaseline(_)) => compared,
            (None, Condition::WorseThanBaseline(_)) | (_, Condition::Above(_) | Condition::Below(_)) => {
                return condition.describe(self.unit);
            }
        };
        let value = compared.value.map_or_else(|| "unknown".to_owned(), |value| self.unit.format(value.get()));
        let place = match (compared.beside, compared.without_pauses) {
            (true, true) => "beside it outside of pauses",
            (true, false) => "beside it",
            (false, _) => "at most before",
        };
        format!("worse than {} with {value} {place}", compared.baseline)
    }

    /// What a comparison rests on, in words; none where nothing is compared.
    #[must_use]
    pub fn comparison_in_words(&self) -> Option<String> {
        let compared = self.compared.as_ref()?;
        let bound = compared.bound.map_or_else(|| "unknown".to_owned(), |bound| self.unit.format(bound.get()));
        let evidence = match (compared.evidence, self.condition) {
            (Some(evidence), Some(Condition::WorseThanBaseline(comparison))) => {
                let evidence = evidence.get();
                // It grows without an end.
                let evidence = if evidence < 1e6 { format!("{evidence:.3}") } else { format!("{evidence:.3e}") };
                format!(", evidence {evidence} of {:.0} needed", comparison.evidence_needed())
            }
            (Some(_) | None, _) => String::new(),
        };
        let bursts = compared.bursts.as_ref().map(|own| format!("; {}", own.in_words(self.unit))).unwrap_or_default();
        let differing = compared.differing.as_ref().map(|own| format!("; {}", own.in_words())).unwrap_or_default();
        Some(format!(
            "materially worse from {bound} on, by {} requests of {}{evidence}{differing}{bursts}",
            compared.samples, compared.baseline
        ))
    }

    /// The breach in words.
    #[must_use]
    pub fn as_breach(&self) -> String {
        let (signal, bound) = (&self.signal, self.bound_in_words());
        match &self.verdict {
            Verdict::Unknown(reason) => {
                format!("{signal} was {bound} when it was last known; it is unknown now, {reason}")
            }
            Verdict::Ok | Verdict::Breach => format!("{signal} breaches, {} {bound}", self.value_in_words()),
        }
    }

    /// Why this, as a second signal, does not confirm a fault; none where it does.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<String> {
        match &self.verdict {
            Verdict::Breach => None,
            Verdict::Ok if self.value.is_none() => Some("it is unknown, which counts as good".to_owned()),
            Verdict::Ok => Some(format!("it is {}, not {}", self.value_in_words(), self.bound_in_words())),
            Verdict::Unknown(reason) => Some(format!("it is unknown, {reason}")),
        }
    }
}

/// What a comparison saw of the release before.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Compared {
    /// The release before.
    pub baseline: RevisionId,
    /// Whether it served beside the new one; else this is its past.
    pub beside: bool,
    /// Its value: over the same window, or the highest of its last half hour.
    pub value: Option<Finite>,
    /// Its requests behind that value.
    pub samples: u64,
    /// The value from which on the new release is materially worse.
    pub bound: Option<Finite>,
    /// The evidence that it is: an e-value, which reaches 1 / (1 - confidence) in a release that is not materially worse
    /// with a chance of at most 1 - confidence, however often one looks. Side by side only; capped at 1e300.
    pub evidence: Option<Finite>,
    /// How far the targets of the release before differ for good, where that holds the comparison back. Side by side only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differing: Option<Differing>,
    /// What single targets do, where those of the release before are known to have bursts by themselves. Side by
    /// side only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bursts: Option<OwnBursts>,
    /// Whether the value of the release before is that of its targets outside of pauses, since a target of this one is slow for
    /// longer than any of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_pauses: bool,
}

/// Where a trigger is in its life, in Prometheus' words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum TriggerState {
    /// Not breached.
    Inactive,
    /// Breached, but not for long enough.
    Pending {
        /// First breach of this run: the onset.
        since: Timestamp,
        /// How long it has been breached, unknown time left out.
        held: Span,
    },
    /// Breached for long enough.
    Firing {
        /// First breach of this run: the onset.
        since: Timestamp,
        /// When it began to fire.
        at: Timestamp,
    },
}

/// One trigger, now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TriggerStatus {
    /// Its name.
    pub name: TriggerName,
    /// What firing leads to.
    pub severity: Severity,
    /// How long a breach must hold.
    pub hold_for: Span,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: TriggerState,
    /// The numbers; of several terms those of the one that decides: what is good while not all are bad, what is bad while any
    /// is.
    pub evidence: Evidence,
    /// Every term, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combined: Option<Box<Combined>>,
    /// The second signal that must be bad as well before anything is rolled back, where the trigger asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Box<Evidence>>,
}

impl TriggerStatus {
    /// The numbers of the first term, which is the same from one judgement to the next.
    #[must_use]
    pub fn first_term(&self) -> &Evidence {
        self.combined.as_ref().and_then(|combined| combined.terms.first()).unwrap_or(&self.evidence)
    }

    /// The numbers of every term.
    #[must_use]
    pub fn terms(&self) -> &[Evidence] {
        self.combined.as_ref().map_or(std::slice::from_ref(&self.evidence), |combined| &combined.terms)
    }
}

/// Several terms of one trigger, and the numbers of each.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Combined {
    /// How they come to one.
    pub how: Combine,
    /// In the order of the policy.
    pub terms: Vec<Evidence>,
}

/// Which release is judged, and since when it serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The release.
    pub revision: RevisionId,
    /// When its rollout was noticed.
    pub since: Timestamp,
    /// The release before it, to compare with; none where no rollout was seen.
    pub baseline: Option<RevisionId>,
    /// Whether it is known to be good: it has served.
    pub known_good: bool,
}

/// Everything that is known of a workload's health, now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Assessment {
    /// When it was made.
    pub at: Timestamp,
    /// The release that it is about; none while that is not known.
    pub revision: Option<RevisionId>,
    /// Every trigger, in the order of the policy.
    pub triggers: Vec<TriggerStatus>,
    /// Every signal with its value, judged by no bound.
    pub signals: Vec<Evidence>,
    /// Why a critical trigger can't be judged, and since when; none while all can.
    pub blind: Option<Blindness>,
    /// Every critical trigger inactive on real data, and traffic seen where a signal counts requests.
    pub healthy: bool,
    /// What is exceeded on releases that serve beside this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asides: Vec<Aside>,
}

impl Assessment {
    /// Nothing is known yet.
    #[must_use]
    pub const fn nothing(at: Timestamp) -> Self {
        Self {
            at,
            revision: None,
            triggers: Vec::new(),
            signals: Vec::new(),
            blind: None,
            healthy: false,
            asides: Vec::new(),
        }
    }

    /// Every trigger for people to read: those of the release in question by their names, then what is exceeded beside it.
    pub fn told(&self) -> impl Iterator<Item = (String, &TriggerStatus)> {
        let beside =
            self.asides.iter().map(|aside| (format!("{} at {}", aside.trigger.name, aside.release), &aside.trigger));
        self.triggers.iter().map(|trigger| (trigger.name.to_string(), trigger)).chain(beside)
    }

    /// What releases beside this one are worse in. Where this one is as bad, going back to one of them loses nothing.
    pub(in crate::domain) fn worse_beside(&self) -> Vec<&Aside> {
        let is_as_bad = |beside: &TriggerStatus| {
            self.triggers.iter().any(|own| own.name == beside.name && own.evidence.is_as_bad_as(&beside.evidence))
        };
        self.asides.iter().filter(|aside| aside.trigger.combined.is_some() || !is_as_bad(&aside.trigger)).collect()
    }
}

/// A critical threshold that is exceeded on a release which serves beside the one in question.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Aside {
    /// The release.
    pub release: RevisionId,
    /// The trigger, pending or firing, as judged on that release.
    #[serde(flatten)]
    pub trigger: TriggerStatus,
}

/// What is not seen where own sight is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unseen {
    /// The signal of a critical trigger.
    #[default]
    Signals,
    /// Which releases there are, and which one is in place: no fault can be put down to one, and none taken back.
    Releases,
}

/// Own sight is lost.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Blindness {
    /// Since when nothing could be judged.
    pub since: Timestamp,
    /// What can't be seen.
    #[serde(default)]
    pub unseen: Unseen,
    /// The triggers that can't be judged; none where it is the releases that can't be seen.
    pub triggers: Vec<TriggerName>,
    /// Why, in one line.
    pub reason: String,
}

/// One verification check, now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Signal name, `health` or `release`.
    pub name: String,
    /// Ok: passed on fresh data. Breach: failed. Unknown: not proven.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was seen against what is asked, in one line.
    pub detail: String,
}
