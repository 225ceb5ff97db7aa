//! Recordings from a Prometheus server, or what speaks its API: the very samples that it stored, in stretches of time.
//!
//! Samples are asked for as range selectors at the end of each stretch, which gives each at its own time; an evaluation
//! in steps would repeat old values over gaps. Expressions of the policy have no samples of their own and are evaluated in
//! steps (`query_range`), into a series `rollbackd:query{signal="…"}`.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, Url};
use serde::Deserialize;

use super::exporters::{self, QUERY};
use super::recording::Recorder;
use crate::config::model::Query;
use crate::domain::policy::{Operand, OperandKind, WorkloadPolicy};
use crate::domain::time::{Span, Timestamp};
use crate::net::Caller;

/// Time asked for at once.
const STRETCH: Span = Span::from_secs(3600);

/// Shortest time asked for at once, below which an answer that is too large is an error.
const SHORTEST: Span = Span::from_secs(60);

/// Bytes of one answer.
const MAX_BYTES: usize = 64 << 20;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Points of one evaluation in steps: Prometheus refuses more than 11,000.
const MAX_STEPS: u64 = 10_000;

/// A server did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request could not be made, or had no answer.
    #[error("{0}")]
    Peer(String),
    /// The server refused.
    #[error("the server refused {query:?}: {why}")]
    Refused {
        /// What was asked.
        query: String,
        /// What it said.
        why: String,
    },
    /// The answer is over the limit, however little is asked for at once.
    #[error("the answer to {query:?} is over {MAX_BYTES} bytes for {SHORTEST}: narrow it down with --match")]
    TooLarge {
        /// What was asked.
        query: String,
    },
    /// The answer is none of this API.
    #[error("no answer of a Prometheus server to {query:?}: {why}")]
    Malformed {
        /// What was asked.
        query: String,
        /// Why.
        why: String,
    },
    /// An expression gives more than one series.
    #[error("{query:?} gives {series} series, where one is wanted")]
    Several {
        /// What was asked.
        query: String,
        /// How many.
        series: usize,
    },
    /// What was read can't be kept.
    #[error("what was read can't be kept")]
    Unkept(#[from] std::io::Error),
}

/// What is asked of a server.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// The server's address.
    pub server: Url,
    /// How it is reached.
    pub caller: &'a Caller,
    /// Begin and end.
    pub range: (Timestamp, Timestamp),
    /// Matchers that every series must fit besides, as PromQL writes them between braces; may be empty.
    pub matchers: String,
    /// Time between two evaluations of an expression.
    pub step: Span,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    status: String,
    data: Option<Data>,
    error_type: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Matrix>,
}

#[derive(Deserialize)]
struct Matrix {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Fetch<'_> {
    /// Adds everything that the policies ask for and that tells of releases and pods. `progress` is told how much of the
    /// whole is done, from 0 to 1.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn samples(
        &self,
        policies: &[&WorkloadPolicy],
        recorder: &mut Recorder,
        progress: &dyn Fn(f64),
    ) -> Result<(), FetchError> {
        let operands = policies.iter().flat_map(|policy| policy.operands.as_slice());
        let mut selectors: Vec<String> = operands.map(selector).collect();
        selectors.extend(exporters::names().map(str::to_owned));
        selectors.sort();
        selectors.dedup();
        let whole = selectors.len() as f64;
        for (done, selector) in selectors.iter().enumerate() {
            let selector = narrowed(selector, &self.matchers);
            self.selected(&selector, recorder).await?;
            progress((done + 1) as f64 / whole);
        }
        Ok(())
    }

    async fn selected(&self, selector: &str, recorder: &mut Recorder) -> Result<(), FetchError> {
        let (mut at, end) = self.range;
        let mut stretch = STRETCH;
        while at < end {
            let until = (at + stretch).min(end);
            // A range reaches back to but without its beginning.
            let query = format!("{selector}[{}ms]", until.since(at).as_millis() + 1);
            let time = seconds(until);
            match self.ask("query", &[("query", &query), ("time", &time)]).await {
                Ok(series) => {
                    keep(&query, &series, recorder)?;
                    at = until;
                }
                Err(FetchError::TooLarge { .. }) if stretch > SHORTEST => {
                    stretch = Span::from_millis(stretch.as_millis() / 4).max(SHORTEST);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds the values of an expression.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn expression(&self, query: &Query, recorder: &mut Recorder) -> Result<(), FetchError> {
        let Some(key) = recorder.series(QUERY, &[("signal", query.signal.as_str())]) else { return Ok(()) };
        let (mut at, end) = self.range;
        while at <= end {
            let until = (at + self.step.times(MAX_STEPS)).min(end);
            let (from, to, step) = (seconds(at), seconds(until), self.step.as_secs_f64().to_string());
            let asked = [("query", query.expression.as_str()), ("start", &from), ("end", &to), ("step", &step)];
            let series = self.ask("query_range", &asked).await?;
            if series.len() > 1 {
                return Err(FetchError::Several { query: query.expression.clone(), series: series.len() });
            }
            for (time, value) in series.iter().flat_map(|series| &series.values) {
                let value = number(&query.expression, value)?;
                recorder.point(key, moment(*time), value)?;
            }
            at = until + self.step;
        }
        Ok(())
    }

    async fn ask(&self, path: &str, form: &[(&str, &str)]) -> Result<Vec<Matrix>, FetchError> {
        let query = form.first().map_or_else(String::new, |(_, query)| (*query).to_owned());
        let mut url = self.server.clone();
        url.set_path(&format!("{}/api/v1/{path}", url.path().trim_end_matches('/')));
        url.query_pairs_mut().extend_pairs(form);
        let peer = |fault: crate::domain::observation::Fault| FetchError::Peer(format!("{}: {fault}", self.server));
        let request = self.caller.request(Method::GET, url).map_err(peer)?.timeout(TIMEOUT);
        let mut response = request.send().await.map_err(|error| peer(self.caller.fault(error)))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| peer(self.caller.fault(error)))? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge { query });
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status();
        let envelope: Envelope = serde_json::from_slice(&body).map_err(|error| FetchError::Malformed {
            query: query.clone(),
            why: if status.is_success() { error.to_string() } else { format!("it answered {status}") },
        })?;
        match (envelope.status.as_str(), envelope.data) {
            ("success", Some(data)) => Ok(data.result),
            (_, _) => {
                let kind = envelope.error_type.unwrap_or_else(|| "error".to_owned());
                let why = format!("{kind}: {}", envelope.error.unwrap_or_default());
                Err(FetchError::Refused { query, why })
            }
        }
    }
}

fn keep(query: &str, all: &[Matrix], recorder: &mut Recorder) -> Result<(), FetchError> {
    for series in all {
        let name = series.metric.get("__name__").map_or("", String::as_str);
        let labels: Vec<(&str, &str)> = series
            .metric
            .iter()
            .filter(|(label, _)| *label != "__name__")
            .map(|(label, value)| (label.as_str(), value.as_str()))
            .collect();
        let Some(key) = recorder.series(name, &labels) else {
            return Err(FetchError::TooLarge { query: query.to_owned() });
        };
        for (time, value) in &series.values {
            recorder.point(key, moment(*time), number(query, value)?)?;
        }
    }
    Ok(())
}

/// The series that an operand reads, as PromQL.
fn selector(operand: &Operand) -> String {
    let text = operand.selector.to_string();
    match (operand.kind, operand.selector.name()) {
        (OperandKind::Buckets, Some(name)) => match text.strip_prefix(name) {
            Some(rest) => format!("{name}_bucket{rest}"),
            None => text.replacen(name, &format!("{name}_bucket"), 1),
        },
        (OperandKind::Buckets, None) | (OperandKind::Value | OperandKind::Quantiles, _) => text,
    }
}

/// The same selector with more matchers.
fn narrowed(selector: &str, matchers: &str) -> String {
    match (matchers, selector.strip_suffix('}')) {
        ("", _) => selector.to_owned(),
        (more, Some(open)) => format!("{open},{more}}}"),
        (more, None) => format!("{selector}{{{more}}}"),
    }
}

fn seconds(at: Timestamp) -> String {
    format!("{:.3}", at.as_millis() as f64 / 1000.0)
}

fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0).round() as i64)
}

fn number(query: &str, text: &str) -> Result<f64, FetchError> {
    let value = match text {
        "NaN" => Some(f64::NAN),
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    };
    value.ok_or_else(|| FetchError::Malformed { query: query.to_owned(), why: format!("{text:?} is no number") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::selector::Selector;

    #[test]
    fn what_is_asked_is_what_the_scanner_would_read() {
        let of = |text: &str, kind| selector(&Operand { selector: Selector::parse(text).unwrap(), kind });
        assert_eq!(of("a_total{code=~\"5..\"}", OperandKind::Value), "a_total{code=~\"5..\"}");
        assert_eq!(of("a_seconds{x=\"1\"}", OperandKind::Buckets), "a_seconds_bucket{x=\"1\"}");
        assert_eq!(of("a_seconds", OperandKind::Buckets), "a_seconds_bucket");
        assert_eq!(of("{\"a.b\"}", OperandKind::Buckets), "{\"a.b_bucket\"}");
        assert_eq!(narrowed("a", "x=\"1\""), "a{x=\"1\"}");
        assert_eq!(narrowed("a{y=\"2\"}", "x=\"1\""), "a{y=\"2\",x=\"1\"}");
        assert_eq!(narrowed("a", ""), "a");
    }
}
