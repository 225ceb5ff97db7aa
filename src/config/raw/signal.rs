//! `[workload.NAME.signal.NAME]`.

use super::promql::{Expression, Prometheus};
use super::section::section;
use crate::config::units::Measure;
use crate::domain::health::selector::Selector;
use crate::domain::policy::{Aggregate, NoData};
use crate::domain::time::Span;

section! {
    /// A number over a window: one of bad and total, histogram and quantile, summary and quantile, gauge, counter, promql. Without any of them the section tunes a signal that exists by itself.
    Signal {
        /// Counter of bad requests; with `total`.
        bad: Selector,
        /// Counter of all requests; with `bad`.
        total: Selector,
        /// Family name of a classic histogram; with `quantile`.
        histogram: Selector,
        /// Summary series; with `quantile`.
        summary: Selector,
        /// The quantile, from 0 to 1.
        quantile: f64,
        /// Gauge.
        gauge: Selector,
        /// How a gauge is combined over series and targets.
        aggregate: Aggregate,
        /// Counter whose increase per second is taken.
        counter: Selector,
        /// PromQL expression that gives one number; with `prometheus`, here or in the workload.
        promql: Expression,
        /// The Prometheus server, or what speaks its API, that evaluates it.
        prometheus: Prometheus,
        /// How far back each evaluation looks.
        window: Span,
        /// Fewer requests than this in the window: unknown.
        min_requests: u64,
        /// What an unknown value counts as.
        no_data: NoData,
        /// What the series is in, where its name does not say.
        unit: Measure,
        /// Confidence with which a ratio must be beyond its threshold, between 0.5 and 1.
        confidence: f64,
    }
}
