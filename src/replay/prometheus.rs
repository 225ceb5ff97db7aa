//! Recordings from a Prometheus server, or what speaks its API: the very samples that it stored, in stretches of time.
//!
//! Samples are asked for as range selectors at the end of each stretch, which gives each at its own time; an evaluation
//! in steps would repeat old values over gaps. Expressions of the policy have no samples of their own and are evaluated in
//! steps (`query_range`), into a series `rollbackd:query{signal="…"}`. A value of which the server warns is none, as it is
//! none for the daemon: it may lack a part of what it is computed from.

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

/// Characters of a server's warning.
const MAX_WARNING: usize = 200;

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
    #[serde(default)]
    warnings: Vec<String>,
}

/// What a server gave, and the first of its warnings: it may not be all.
struct Given {
    series: Vec<Matrix>,
    warning: Option<String>,
}

/// Stretches that a server warned of.
#[derive(Default)]
struct Warned {
    stretches: u64,
    /// Begin and end of the first one, and the warning.
    first: Option<(Timestamp, Timestamp, String)>,
}

impl Warned {
    fn add(&mut self, from: Timestamp, until: Timestamp, warning: String) {
        self.stretches += 1;
        self.first.get_or_insert((from, until, warning));
    }

    fn note(self, what: &str, recorder: &mut Recorder) {
        let Some((from, until, warning)) = self.first else { return };
        let more = match self.stretches - 1 {
            0 => String::new(),
            more => format!(" and in {more} more answers"),
        };
        recorder.note(format!("{what} from {from} to {until}{more}, as the server warned: {warning}"));
    }
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
        let (mut stretch, mut warned) = (STRETCH, Warned::default());
        while at < end {
            let until = (at + stretch).min(end);
            // A range reaches back to but without its beginning.
            let query = format!("{selector}[{}ms]", until.since(at).as_millis() + 1);
            let time = seconds(until);
            match self.ask("query", &[("query", &query), ("time", &time)]).await {
                Ok(Given { series, warning }) => {
                    keep(&query, &series, recorder)?;
                    warning.into_iter().for_each(|warning| warned.add(at, until, warning));
                    at = until;
                }
                Err(FetchError::TooLarge { .. }) if stretch > SHORTEST => {
                    stretch = Span::from_millis(stretch.as_millis() / 4).max(SHORTEST);
                }
                Err(error) => return Err(error),
            }
        }
        warned.note(&format!("some of {selector} may be missing"), recorder);
        Ok(())
    }

    /// Adds the values of an expression, but for stretches of which the server warns.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn expression(&self, query: &Query, recorder: &mut Recorder) -> Result<(), FetchError> {
        let Some(key) = recorder.series(QUERY, &[("signal", query.signal.as_str())]) else { return Ok(()) };
        let (mut at, end) = self.range;
        let stretch = self.step.times((STRETCH.as_millis() / self.step.as_millis().max(1)).min(MAX_STEPS));
        let mut warned = Warned::default();
        while at <= end {
            let until = (at + stretch).min(end);
            let (from, to, step) = (seconds(at), seconds(until), self.step.as_secs_f64().to_string());
            let asked = [("query", query.expression.as_str()), ("start", &from), ("end", &to), ("step", &step)];
            let Given { series, warning } = self.ask("query_range", &asked).await?;
            if series.len() > 1 {
                return Err(FetchError::Several { query: query.expression.clone(), series: series.len() });
            }
            let is_whole = warning.is_none();
            warning.into_iter().for_each(|warning| warned.add(at, until, warning));
            for (time, value) in series.iter().filter(|_| is_whole).flat_map(|series| &series.values) {
                let value = number(&query.expression, value)?;
                recorder.point(key, moment(*time), value)?;
            }
            at = until + self.step;
        }
        warned.note(&format!("nothing is known of {}", query.signal), recorder);
        Ok(())
    }

    async fn ask(&self, path: &str, form: &[(&str, &str)]) -> Result<Given, FetchError> {
        let query = form.first().map_or_else(String::new, |(_, query)| (*query).to_owned());
        let mut url = self.server.clone();
        url.set_path(&format!("{}/api/v1/{path}", url.path().trim_end_matches('/')));
        url.query_pairs_mut().extend_pairs(form);
        let peer = |fault: crate::domain::observation::Fault| FetchError::Peer(format!("{}: {fault}", self.server));
        let request = self.caller.request(Method::GET, url).await.map_err(peer)?.timeout(TIMEOUT);
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
            ("success", Some(data)) => {
                let warning = envelope.warnings.first().map(|warning| warning.chars().take(MAX_WARNING).collect());
                Ok(Given { series: data.result, warning })
            }
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
    use std::io::{BufRead, BufReader, Write};

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

    /// A server that answers with a value a quarter of an hour, and warns where `is_partial` of the time asked for.
    fn server(is_partial: fn(i64) -> bool) -> Url {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut reader = BufReader::new(&stream);
                let (mut asked, mut line) = (String::new(), String::new());
                reader.read_line(&mut asked).unwrap();
                while reader.read_line(&mut line).unwrap() > 2 {
                    line.clear();
                }
                let time = |name: &str| {
                    let (_, rest) = asked.split_once(name).unwrap();
                    rest.split(['.', '&', ' ']).next().unwrap().parse::<i64>().unwrap()
                };
                let (name, metric, from, until) = match asked.contains("query_range") {
                    true => ("start=", "{}", time("start="), time("end=")),
                    false => ("time=", r#"{"__name__":"up","instance":"a"}"#, time("time=") - 3_600, time("time=")),
                };
                let times = (from..=until).filter(|second| second % 900 == 0);
                let values: Vec<String> = times.map(|second| format!(r#"[{second},"0.5"]"#)).collect();
                let values = values.join(",");
                let warning = if is_partial(time(name)) { r#","warnings":["store 7 is down"]"# } else { "" };
                let data = format!(r#"{{"result":[{{"metric":{metric},"values":[{values}]}}]}}"#);
                let body = format!(r#"{{"status":"success","data":{data}{warning}}}"#);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        url
    }

    async fn asked(step: Span, is_partial: fn(i64) -> bool) -> (Vec<i64>, Vec<String>) {
        crate::net::tls::install();
        let caller = Caller::new(std::sync::Arc::default());
        let server = server(is_partial);
        let range = (Timestamp::from_millis(0), Timestamp::from_millis(3 * 3_600_000));
        let query = Query {
            signal: "busy".into(),
            expression: "busy".to_owned(),
            server: server.clone(),
            http: std::sync::Arc::default(),
        };
        let fetch = Fetch { server, caller: &caller, range, matchers: String::new(), step };
        let mut recorder = Recorder::new();
        fetch.expression(&query, &mut recorder).await.unwrap();
        let recording = recorder.finish();
        let (mut times, mut cursor) = (Vec::new(), recording.cursor());
        while let Some(point) = cursor.next().unwrap() {
            times.push(point.at / 60_000);
        }
        (times, recording.notes)
    }

    /// What a server could not read everything for is no value, as it is none for the daemon.
    #[tokio::test]
    async fn an_expression_of_which_the_server_warns_is_not_known() {
        let step = Span::from_secs(900);
        let all: Vec<i64> = (0..=12).map(|quarter| quarter * 15).collect();
        assert_eq!(asked(step, |_| false).await, (all, Vec::new()));
        assert_eq!(
            asked(step, |start| start == 4_500).await,
            (
                vec![0, 15, 30, 45, 60, 150, 165, 180],
                vec![
                    "nothing is known of busy from 1970-01-01T01:15:00.000Z to 1970-01-01T02:15:00.000Z, as the server \
                     warned: store 7 is down"
                        .to_owned()
                ]
            )
        );
        let (times, notes) = asked(step, |_| true).await;
        assert_eq!(times, [0; 0]);
        assert!(notes[0].contains("01:00:00.000Z and in 2 more answers, as"), "{notes:?}");
        let (times, _) = asked(Span::from_secs(7_200), |_| false).await;
        assert_eq!(times, [0, 120], "a step may be longer than what is asked for at once");
    }

    /// Each series that is there is whole: it is kept, and the reader told.
    #[tokio::test]
    async fn samples_of_which_the_server_warns_are_kept_and_told() {
        crate::net::tls::install();
        let caller = Caller::new(std::sync::Arc::default());
        let range = (Timestamp::from_millis(0), Timestamp::from_millis(3 * 3_600_000));
        let step = Span::from_secs(900);
        let fetch =
            Fetch { server: server(|time| time == 7_200), caller: &caller, range, matchers: String::new(), step };
        let mut recorder = Recorder::new();
        fetch.selected("up", &mut recorder).await.unwrap();
        let recording = recorder.finish();
        assert_eq!(recording.range(), Some(range));
        assert_eq!(
            recording.notes,
            ["some of up may be missing from 1970-01-01T01:00:00.000Z to 1970-01-01T02:00:00.000Z, as the server \
                 warned: store 7 is down"]
        );
    }
}
