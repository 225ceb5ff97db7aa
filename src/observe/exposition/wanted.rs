//! Which metric names any operand asks for, decided once for each name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::policy::{Operand, OperandId, OperandKind, Operands};

use super::fingerprint::fingerprint;
use super::number;
use super::sample::Series;

/// The series that tells when the process behind a page started; always read.
pub(crate) const PROCESS_START: &str = "process_start_time_seconds";
/// What a classic histogram's bucket series are called, after the family.
const BUCKET_SUFFIX: &str = "_bucket";
/// The label that bounds a bucket.
const BUCKET_LABEL: &str = "le";
/// The label that says which quantile of a summary a series is.
const QUANTILE_LABEL: &str = "quantile";
/// Names whose verdict is remembered where an operand has no exact name; above it, names are judged anew.
const REMEMBERED_NAMES: usize = 8_192;

/// What a metric name means to the operands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Class {
    /// None asks for it.
    Skip,
    /// These may, depending on the labels.
    Take(Arc<[OperandId]>),
}

/// What one operand reads from a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Want {
    /// Which operand.
    pub operand: OperandId,
    /// Bucket bound or quantile; 0 for a plain value.
    pub bound: f64,
}

/// A bit for each name that is asked for, so that most others are told without a look at the table of names.
#[derive(Debug, Default)]
struct Sieve([u64; 16]);

impl Sieve {
    fn with(mut self, name: &str) -> Self {
        let (word, bit) = Self::place(name);
        self.0[word] |= bit;
        self
    }

    fn may_hold(&self, name: &str) -> bool {
        let (word, bit) = Self::place(name);
        self.0[word] & bit != 0
    }

    fn place(name: &str) -> (usize, u64) {
        let print = fingerprint(name.as_bytes());
        ((print >> 6) as usize % 16, 1 << (print % 64))
    }
}

/// The operands by the names that they ask for.
#[derive(Debug)]
pub(crate) struct Wanted {
    operands: Vec<Operand>,
    exact: HashMap<Box<str>, Arc<[OperandId]>>,
    sieve: Sieve,
    patterns: Vec<OperandId>,
    remembered: HashMap<Box<str>, Class>,
}

impl Wanted {
    pub(crate) fn new(operands: &Operands) -> Self {
        let operands = operands.as_slice().to_vec();
        let mut by_name: HashMap<Box<str>, Vec<OperandId>> = HashMap::new();
        let mut patterns = Vec::new();
        by_name.entry(PROCESS_START.into()).or_default();
        for (operand, id) in operands.iter().zip((0..=u16::MAX).map(OperandId)) {
            match (operand.selector.name(), operand.kind) {
                (Some(name), OperandKind::Value | OperandKind::Quantiles) => {
                    by_name.entry(name.into()).or_default().push(id);
                }
                (Some(name), OperandKind::Buckets) => {
                    by_name.entry(format!("{name}{BUCKET_SUFFIX}").into()).or_default().push(id);
                }
                (None, OperandKind::Value | OperandKind::Quantiles | OperandKind::Buckets) => patterns.push(id),
            }
        }
        let sieve = by_name.keys().fold(Sieve::default(), |sieve, name| sieve.with(name));
        let exact = by_name.into_iter().map(|(name, ids)| (name, ids.into())).collect();
        Self { operands, exact, sieve, patterns, remembered: HashMap::new() }
    }

    /// How many operands there are.
    pub(crate) fn len(&self) -> usize {
        self.operands.len()
    }

    /// What a metric name means to the operands.
    pub(crate) fn class(&mut self, name: &str) -> Class {
        if self.patterns.is_empty() {
            if !self.sieve.may_hold(name) {
                return Class::Skip;
            }
            return self.exact.get(name).map_or(Class::Skip, |ids| Class::Take(Arc::clone(ids)));
        }
        if let Some(class) = self.remembered.get(name) {
            return class.clone();
        }
        let class = self.judge(name);
        if self.remembered.len() < REMEMBERED_NAMES {
            self.remembered.insert(name.into(), class.clone());
        }
        class
    }

    fn judge(&self, name: &str) -> Class {
        let exact = self.exact.get(name);
        let mut ids: Vec<OperandId> = exact.map(|ids| ids.to_vec()).unwrap_or_default();
        ids.extend(self.patterns.iter().filter(|id| self.name_fits(**id, name)));
        if ids.is_empty() && exact.is_none() {
            return Class::Skip;
        }
        ids.sort_unstable();
        Class::Take(ids.into())
    }

    fn name_fits(&self, id: OperandId, name: &str) -> bool {
        self.operands.get(usize::from(id.0)).is_some_and(|operand| {
            selected_name(operand.kind, name).is_some_and(|name| operand.selector.matches_name(name))
        })
    }

    /// What each of these operands reads from a series; empty where its labels do not match.
    pub(crate) fn wants(&self, ids: &[OperandId], series: &Series<'_>) -> Box<[Want]> {
        ids.iter().filter_map(|id| self.want(*id, series)).collect()
    }

    fn want(&self, id: OperandId, series: &Series<'_>) -> Option<Want> {
        let operand = self.operands.get(usize::from(id.0))?;
        let name = selected_name(operand.kind, &series.name)?;
        if !operand.selector.matches(name, |label| series.label(label)) {
            return None;
        }
        let bound = match operand.kind {
            OperandKind::Value => 0.0,
            OperandKind::Buckets => bound(series.label(BUCKET_LABEL)?)?,
            OperandKind::Quantiles => bound(series.label(QUANTILE_LABEL)?)?,
        };
        Some(Want { operand: id, bound })
    }
}

/// The name that a selector sees: a bucket series goes by its family.
fn selected_name(kind: OperandKind, name: &str) -> Option<&str> {
    match kind {
        OperandKind::Value | OperandKind::Quantiles => Some(name),
        OperandKind::Buckets => name.strip_suffix(BUCKET_SUFFIX),
    }
}

/// A bound that is a number; as in Prometheus, a series whose bound is not one has no part in a quantile.
fn bound(label: &str) -> Option<f64> {
    number::float(label.as_bytes()).ok().filter(|bound| !bound.is_nan())
}
