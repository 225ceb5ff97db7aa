//! The looks at one expression: asked of a Prometheus server, or what speaks its API, as an instant query.
//!
//! The API is that of prometheus.io/docs/prometheus/latest/querying/api: `status`, `data`, `errorType`, `error` and
//! `warnings`. One number is wanted. Several series are an error that says so, since whichever was taken would be a guess.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;

use super::change::Outlook;
use super::duty::{Due, Duty};
use super::exposition::Encoding;
use super::peer::{Peer, Reply, refuses_credentials, status_fault};
use super::probe::body;
use super::room::Lane;
use super::scrape::in_time;
use super::shared::Shared;
use crate::config::model;
use crate::domain::id::SignalName;
use crate::domain::observation::{Fault, FaultKind, QueryAnswer, Seen};
use crate::domain::time::Timestamp;

/// Where the API is beneath the server's address.
const QUERY_PATH: &str = "/api/v1/query";

/// Labels of a series that are told where there are several.
const MAX_SHOWN: usize = 2;

/// Longest text of a server that is told on, in characters.
const MAX_TEXT: usize = 300;

/// The looks at one expression.
#[derive(Debug)]
pub(super) struct Query {
    signal: SignalName,
    outlook: Outlook,
    shared: Arc<Shared>,
    peer: Peer,
    deadline: Duration,
}

impl Query {
    pub(super) fn new(query: &model::Query, outlook: Outlook, shared: Arc<Shared>, deadline: Duration) -> Self {
        let url = address(&query.server, &query.expression, deadline);
        let peer = Peer::new(url, shared.caller(&query.http));
        Self { signal: query.signal.clone(), outlook, shared, peer, deadline }
    }

    async fn ask(&mut self) -> Result<QueryAnswer, Fault> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let reply = self.peer.question().await?.ask(headers, &self.shared.stats);
        in_time(self.deadline, said(reply)).await
    }
}

async fn said(reply: impl Future<Output = Result<Reply<'_>, Fault>>) -> Result<QueryAnswer, Fault> {
    let mut reply = reply.await?;
    let status = reply.status();
    if refuses_credentials(status) {
        return Err(status_fault(status));
    }
    if Encoding::from_content_encoding(reply.content_encoding()) != Some(Encoding::Identity) {
        return Err(malformed("answers in an encoding that was not offered"));
    }
    let body = body(&mut reply).await?;
    match read(&body) {
        Err(fault) if !status.is_success() && fault.kind == FaultKind::Malformed => Err(status_fault(status)),
        answer => answer,
    }
}

impl Duty for Query {
    fn lane(&self) -> Option<Lane> {
        Some(self.outlook.lane())
    }

    async fn look(&mut self, _due: Due) -> Vec<Seen> {
        let shared = Arc::clone(&self.shared);
        let began = Instant::now();
        let result = self.ask().await.map(|mut answer| {
            answer.evaluated = answer.evaluated.map(|wall| shared.clock.of_wall(wall));
            answer
        });
        let fault = result.as_ref().err();
        shared.stats.queries.note(fault.map(|fault| fault.kind), began.elapsed());
        self.outlook.note(fault);
        vec![Seen::Query { signal: self.signal.clone(), result }]
    }
}

/// The server is told how long it may take, so that it does not work on for nobody.
fn address(server: &Url, expression: &str, deadline: Duration) -> Url {
    let mut url = server.clone();
    let path = format!("{}{QUERY_PATH}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let limit = format!("{}ms", deadline.as_millis());
    url.query_pairs_mut().append_pair("query", expression).append_pair("timeout", &limit);
    url
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    status: String,
    data: Option<Data>,
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Point),
    Vector(Vec<Series>),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

/// Seconds since the epoch, and the value as text.
#[derive(Deserialize)]
struct Point(f64, String);

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: std::collections::BTreeMap<String, String>,
    /// None for a native histogram.
    value: Option<Point>,
}

/// What the server says.
fn read(body: &[u8]) -> Result<QueryAnswer, Fault> {
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|why| malformed(&format!("no answer of a Prometheus server: {why}")))?;
    if envelope.status != "success" {
        let kind = envelope.error_type.unwrap_or_else(|| "error".to_owned());
        let detail = format!("{kind}: {}", envelope.error.unwrap_or_default());
        return Err(Fault { kind: FaultKind::Status, detail: shown(&detail) });
    }
    let warning = envelope.warnings.first().map(|warning| shown(warning));
    let Some(data) = envelope.data else { return Err(malformed("a success without data")) };
    match data {
        Data::Scalar(point) => answer(Some(&point), warning),
        Data::Vector(series) => match series.as_slice() {
            [] => Ok(QueryAnswer { value: None, evaluated: None, warning }),
            [only] => match &only.value {
                Some(point) => answer(Some(point), warning),
                None => Err(malformed("a native histogram, where one number is wanted: use histogram_quantile(…)")),
            },
            several => Err(malformed(&too_many(several))),
        },
        Data::Matrix(_) | Data::String(_) => Err(malformed("no instant vector and no scalar")),
    }
}

fn answer(point: Option<&Point>, warning: Option<String>) -> Result<QueryAnswer, Fault> {
    let Some(Point(seconds, text)) = point else { return Err(malformed("a series without a value")) };
    let value = number(text).ok_or_else(|| malformed(&format!("{} is no number", shown(text))))?;
    let millis = (seconds * 1000.0).round();
    if !millis.is_finite() || millis.abs() > 1e15 {
        return Err(malformed("a time that no clock shows"));
    }
    Ok(QueryAnswer { value: Some(value), evaluated: Some(Timestamp::from_millis(millis as i64)), warning })
}

/// A value in the API's spelling.
fn number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

fn too_many(several: &[Series]) -> String {
    let names: Vec<String> = several
        .iter()
        .take(MAX_SHOWN)
        .map(|series| {
            let labels: Vec<String> = series.metric.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            format!("{{{}}}", labels.join(","))
        })
        .collect();
    let more = if several.len() > MAX_SHOWN { ", …" } else { "" };
    let all = format!("{} series, where one number is wanted: {}{more}", several.len(), names.join(", "));
    format!("{}; add them up with sum(…), or say which", shown(&all))
}

fn malformed(detail: &str) -> Fault {
    Fault { kind: FaultKind::Malformed, detail: detail.to_owned() }
}

/// One line of bounded length, without control characters.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> String {
        match read(body.as_bytes()) {
            Ok(QueryAnswer { value, warning, .. }) => format!("{value:?} {warning:?}"),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn one_number_is_read_and_everything_else_is_named() {
        let vector =
            |result: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#);
        let cases = [
            (
                r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000.5,"0.25"]}}"#.to_owned(),
                "Some(0.25) None",
            ),
            (vector(r#"[{"metric":{},"value":[1700000000,"1e3"]}]"#), "Some(1000.0) None"),
            (vector(r#"[{"metric":{},"value":[1700000000,"NaN"]}]"#), "Some(NaN) None"),
            (vector(r#"[{"metric":{},"value":[1700000000,"-Inf"]}]"#), "Some(-inf) None"),
            (vector("[]"), "None None"),
            (
                vector(
                    r#"[{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"2"]},{"metric":{},"value":[1,"2"]}]"#,
                ),
                r#"malformed: 3 series, where one number is wanted: {a="1"}, {a="2"}, …; add them up with sum(…), or say which"#,
            ),
            (
                vector(r#"[{"metric":{},"histogram":[1,{}]}]"#),
                "malformed: a native histogram, where one number is wanted: use histogram_quantile(…)",
            ),
            (
                r#"{"status":"success","warnings":["store\nis down"],"data":{"resultType":"scalar","result":[1,"0"]}}"#
                    .to_owned(),
                r#"Some(0.0) Some("store is down")"#,
            ),
            (
                r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_owned(),
                "status: bad_data: parse error",
            ),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.to_owned(),
                "malformed: no instant vector and no scalar",
            ),
            (r#"{"status":"success"}"#.to_owned(), "malformed: a success without data"),
            (vector(r#"[{"metric":{},"value":[1,"many"]}]"#), "malformed: many is no number"),
            (vector(r#"[{"metric":{},"value":[1e300,"1"]}]"#), "malformed: a time that no clock shows"),
        ];
        for (body, expected) in cases {
            assert_eq!(said(&body), expected, "{body}");
        }
        assert!(said("<html>").starts_with("malformed: no answer of a Prometheus server"));
    }

    #[test]
    fn the_address_keeps_the_servers_path() {
        let url = address(&Url::parse("http://mimir/prometheus/").unwrap(), "a/b + 1", Duration::from_secs(5));
        assert_eq!(url.as_str(), "http://mimir/prometheus/api/v1/query?query=a%2Fb+%2B+1&timeout=5000ms");
    }
}
