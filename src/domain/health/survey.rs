//! Where signals get their values from: which of the ways to compute each is in use, as the daemon watches or on one page
//! at hand, and what else might have been meant.

use serde::{Deserialize, Serialize};

use super::{Health, candidate};
use crate::domain::id::SignalName;
use crate::domain::observation::Page;
use crate::domain::policy::{Candidate, Formula, OperandId, Operands, Signal};
use crate::domain::time::Timestamp;
use crate::domain::units::Unit;

/// Nearer than this, two quantiles are the same.
const SAME_QUANTILE: f64 = 1e-9;

/// What a signal's value is computed from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Source {
    /// The naming convention; none where the policy spells the series out.
    pub convention: Option<String>,
    /// The selectors that are read, as PromQL; of a ratio the bad before the total, of a histogram its family.
    pub series: Vec<String>,
    /// What the series are in, before they are brought to the signal's unit: `count`, `s`, `ms`, …
    pub unit: String,
}

/// A signal that is read from pages, and its source; none while no series matches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignalSource {
    /// Which signal.
    pub signal: SignalName,
    /// What it is computed from now.
    pub source: Option<Source>,
}

/// What one page offers to one signal.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Survey {
    /// Which signal.
    pub signal: SignalName,
    /// What its value is in.
    pub unit: Unit,
    /// What it would be computed from; none: it would be unknown.
    pub source: Option<Source>,
    /// Series that the source reads from the page.
    pub matches: usize,
    /// Further conventions that the page follows; the table's first is the source.
    pub others: Vec<Source>,
    /// Selectors of the policy that no series of the page matches.
    pub unmatched: Vec<Unmatched>,
    /// Where there is no source: families whose names look nearest, most alike first.
    pub nearest: Vec<String>,
}

/// A selector of the policy that matches nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Unmatched {
    /// As PromQL.
    pub selector: String,
    /// Families whose names look nearest, most alike first.
    pub nearest: Vec<String>,
}

impl Health {
    /// The source of each signal that is read from pages, for the release that is judged.
    #[must_use]
    pub fn sources(&self, now: Timestamp) -> Vec<SignalSource> {
        let revision = self.judged.as_ref().map(|(revision, _)| revision);
        let sight = self.sight(self.scope(revision, now, None));
        let read = self.policy.signals.values().filter(|signal| is_read(signal));
        read.map(|signal| {
            let used = candidate::in_use(&signal.candidates, |operand| sight.is_seen(operand));
            let source = used.map(|used| source(used, signal.unit, &self.policy.operands));
            SignalSource { signal: signal.name.clone(), source }
        })
        .collect()
    }
}

/// What a page offers to each of these signals that is read from pages. `page` holds what the operands match on it,
/// `families` the names of all its families.
pub fn survey<'a>(
    signals: impl IntoIterator<Item = &'a Signal>,
    operands: &Operands,
    page: &Page,
    families: &[String],
) -> Vec<Survey> {
    let reader = Reader { operands, page, families };
    signals.into_iter().filter(|signal| is_read(signal)).map(|signal| reader.survey(signal)).collect()
}

struct Reader<'a> {
    operands: &'a Operands,
    page: &'a Page,
    families: &'a [String],
}

impl Reader<'_> {
    fn survey(&self, signal: &Signal) -> Survey {
        let is_seen = |operand| self.count(operand) > 0;
        let seen = candidate::in_use(&signal.candidates, is_seen);
        let used = seen.filter(|candidate| self.offers_quantile(candidate.formula));
        let others = used.map(|used| candidate::others(&signal.candidates, used, is_seen)).unwrap_or_default();
        let spelt = signal.candidates.iter().filter(|candidate| candidate.convention.is_none());
        Survey {
            signal: signal.name.clone(),
            unit: signal.unit,
            source: used.map(|used| source(used, signal.unit, self.operands)),
            matches: used.map_or(0, |used| self.reads(used.formula)),
            others: others.into_iter().map(|other| source(other, signal.unit, self.operands)).collect(),
            unmatched: spelt.flat_map(|candidate| self.unmatched(candidate.formula)).collect(),
            nearest: match used {
                Some(_) => Vec::new(),
                None => candidate::nearest(&signal.candidates, self.operands, self.families),
            },
        }
    }

    fn count(&self, operand: OperandId) -> usize {
        self.page.samples.iter().filter(|sample| sample.operand == operand).count()
    }

    /// Series that a formula reads. The bad ones are among the total.
    fn reads(&self, formula: Formula) -> usize {
        operands_of(formula).last().map_or(0, |operand| self.count(*operand))
    }

    /// A summary says only the quantiles that its exporter has chosen.
    fn offers_quantile(&self, formula: Formula) -> bool {
        let Formula::Summary { quantiles, quantile } = formula else { return true };
        let mut offered = self.page.samples.iter().filter(|sample| sample.operand == quantiles);
        offered.any(|sample| (sample.bound - quantile).abs() < SAME_QUANTILE)
    }

    fn unmatched(&self, formula: Formula) -> Vec<Unmatched> {
        let is_unmatched = |operand: &OperandId| self.count(*operand) == 0 || !self.offers_quantile(formula);
        let unmatched = operands_of(formula).into_iter().filter(is_unmatched);
        unmatched
            .filter_map(|operand| {
                let selector = &self.operands.get(operand)?.selector;
                let wanted: Vec<&str> = selector.name().into_iter().collect();
                Some(Unmatched { selector: selector.to_string(), nearest: candidate::alike(&wanted, self.families) })
            })
            .collect()
    }
}

/// Whether a signal is read from pages, and neither seen by the daemon itself nor asked of a server.
fn is_read(signal: &Signal) -> bool {
    signal.candidates.iter().all(|candidate| !matches!(candidate.formula, Formula::Query | Formula::Builtin(_)))
}

/// What a formula reads; the one without which it says nothing comes last.
fn operands_of(formula: Formula) -> Vec<OperandId> {
    match formula {
        Formula::Ratio { bad, total } => vec![bad, total],
        Formula::Histogram { buckets, .. } => vec![buckets],
        Formula::Summary { quantiles, .. } => vec![quantiles],
        Formula::Gauge { gauge, .. } => vec![gauge],
        Formula::Rate { counter } => vec![counter],
        Formula::Query | Formula::Builtin(_) => Vec::new(),
    }
}

fn source(candidate: &Candidate, unit: Unit, operands: &Operands) -> Source {
    Source {
        convention: candidate.convention.map(str::to_owned),
        series: series(candidate, operands),
        unit: measured_in(candidate, unit),
    }
}

/// What a candidate reads, as PromQL.
pub(super) fn series(candidate: &Candidate, operands: &Operands) -> Vec<String> {
    let read = operands_of(candidate.formula).into_iter().filter_map(|operand| operands.get(operand));
    read.map(|operand| operand.selector.to_string()).collect()
}

/// What the series of a candidate are in, given the signal's unit.
fn measured_in(candidate: &Candidate, unit: Unit) -> String {
    let is_counted = matches!(candidate.formula, Formula::Ratio { .. } | Formula::Rate { .. });
    if is_counted {
        return "count".to_owned();
    }
    let (base, scaled): (&str, &[(f64, &str)]) = match unit {
        Unit::Seconds => ("s", &[(1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"), (60.0, "min"), (3600.0, "h")]),
        Unit::Ratio => ("ratio", &[(0.01, "%")]),
        Unit::Bytes => ("bytes", &[]),
        Unit::PerSecond => ("/s", &[]),
        Unit::Plain => ("number", &[]),
    };
    let known = scaled.iter().find(|(factor, _)| (candidate.scale / factor - 1.0).abs() < 1e-6);
    match known {
        Some((_, name)) => (*name).to_owned(),
        None if candidate.scale == 1.0 => base.to_owned(),
        None => format!("{} {base}", candidate.scale),
    }
}
