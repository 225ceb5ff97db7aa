//! Who answers: each request goes over a connection of its own, as a new client's would, and the answer is held against
//! what the pods themselves say.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONNECTION;
use reqwest::{Method, Response, Url};
use serde_json::Value;

use crate::cluster::facts::Pod;
use crate::domain::observation::{Fault, FaultKind};
use crate::domain::policy::{Ask, Sign};
use crate::net::Caller;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is read of an answer, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Asks, and knows the pods' own answers.
pub(super) struct Asker<'a> {
    ask: &'a Ask,
    ours: &'a [Pod],
    others: &'a [Pod],
    caller: Caller,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Every answer is the release's, as far as answers tell.
    Release,
    /// Not every one.
    NotYet(String),
    /// Nothing leads there from here.
    NoWay(String),
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Answer {
    status: u16,
    /// What it says at the place where it should name its version.
    version: Option<String>,
    /// All of it that may name a pod.
    text: String,
}

impl<'a> Asker<'a> {
    /// `ours` are the pods that should answer, `others` those that answered before.
    pub(super) fn new(ask: &'a Ask, ours: &'a [Pod], others: &'a [Pod]) -> Self {
        Self { ask, ours, others, caller: Caller::new(Arc::default()) }
    }

    /// So many answers in a row from an address.
    pub(super) async fn hear(&self, address: &str, answers: u32) -> Heard {
        let Ok(address) = Url::parse(address) else { return Heard::NotYet(format!("{address} is no address")) };
        let version = self.own_version().await;
        for number in 1..=answers {
            let answer = match self.get(&address).await {
                Ok(answer) => answer,
                Err(fault) => match fault.kind {
                    FaultKind::Unreachable | FaultKind::Tls | FaultKind::Local => return Heard::NoWay(fault.detail),
                    FaultKind::Refused
                    | FaultKind::Timeout
                    | FaultKind::Status
                    | FaultKind::TooLarge
                    | FaultKind::Malformed => return Heard::NotYet(format!("request {number} of {answers}: {fault}")),
                },
            };
            if let Some(wrong) = self.wrong(&answer, version.as_deref()) {
                return Heard::NotYet(format!("answer {number} of {answers} {wrong}"));
            }
        }
        Heard::Release
    }

    /// What the release's own pods say of their version, where that tells them from the others.
    async fn own_version(&self) -> Option<String> {
        self.ask.sign.as_ref()?;
        let own = self.said_by(self.ours.first()?).await?;
        let other = match self.others.first() {
            Some(other) => self.said_by(other).await,
            None => None,
        };
        Some(own).filter(|own| other.as_ref() != Some(own))
    }

    async fn said_by(&self, pod: &Pod) -> Option<String> {
        let page = self.ask.page.as_ref()?;
        let ip = pod.ip?;
        let port = pod.port(&page.port)?;
        let address = std::net::SocketAddr::new(ip, port);
        let url = Url::parse(&format!("{}://{address}{}", page.scheme, page.path)).ok()?;
        self.get(&url).await.ok()?.version
    }

    async fn get(&self, url: &Url) -> Result<Answer, Fault> {
        let request = self.caller.request(Method::GET, url.clone()).await?;
        let sent = request.header(CONNECTION, "close").timeout(PATIENCE).send().await;
        let mut response = sent.map_err(|error| self.fault(error))?;
        let body = body(&mut response).await.map_err(|error| self.fault(error))?;
        Ok(answer(&response, &body, self.ask.sign.as_ref()))
    }

    /// Where not even a connection comes about in time, nothing leads there.
    fn fault(&self, error: reqwest::Error) -> Fault {
        let is_no_way = error.is_connect() && error.is_timeout();
        let fault = self.caller.fault(error);
        if is_no_way { Fault { kind: FaultKind::Unreachable, ..fault } } else { fault }
    }

    /// What is wrong with an answer. One that names neither a version nor a pod is anybody's.
    fn wrong(&self, answer: &Answer, version: Option<&str>) -> Option<String> {
        if answer.status >= 500 {
            return Some(format!("has the status {}", answer.status));
        }
        let names = |pods: &[Pod]| pods.iter().find(|pod| answer.text.contains(&pod.name)).map(|pod| pod.name.clone());
        match (version, &answer.version) {
            (Some(version), Some(said)) => (version != said).then(|| format!("comes from {said}, not from {version}")),
            (Some(version), None) => Some(format!("does not say that it comes from {version}")),
            (None, _) if names(self.ours).is_some() => None,
            (None, _) => names(self.others).map(|other| format!("comes from {other}")),
        }
    }
}

/// As much of the body as may name somebody.
async fn body(response: &mut Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = MAX_BODY - body.len();
        body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        if body.len() >= MAX_BODY {
            break;
        }
    }
    Ok(body)
}

fn answer(response: &Response, body: &[u8], sign: Option<&Sign>) -> Answer {
    let headers = response.headers();
    let version = match sign {
        None => None,
        Some(Sign::Header(name)) => headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned),
        Some(Sign::Json(field)) => named(body, field),
    };
    let headers = headers.values().filter_map(|value| value.to_str().ok());
    let said = String::from_utf8_lossy(body);
    let text = headers.chain([&*said]).collect::<Vec<_>>().join("\n");
    Answer { status: response.status().as_u16(), version, text }
}

/// A field of a JSON body; dots descend into objects.
fn named(body: &[u8], field: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let found = field.split('.').try_fold(&body, |value, name| value.get(name))?;
    match found {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Pod {
        Pod {
            uid: name.to_owned(),
            name: name.to_owned(),
            owner: "rs".to_owned(),
            hash: "h".to_owned(),
            ip: None,
            is_ready: true,
            is_ending: false,
            is_begun: true,
            created: None,
            ends_by: None,
            containers: Vec::new(),
            ports: Vec::new(),
        }
    }

    fn wrong(status: u16, version: Option<&str>, text: &str, expected: Option<&str>) -> Option<String> {
        let (ours, others) = ([pod("blue-1")], [pod("green-1")]);
        let ask = Ask { url: None, page: None, sign: None };
        let answer = Answer { status, version: version.map(str::to_owned), text: text.to_owned() };
        Asker::new(&ask, &ours, &others).wrong(&answer, expected)
    }

    #[test]
    fn an_answer_is_the_releases_by_its_version_or_by_the_pod_that_it_names() {
        assert_eq!(wrong(200, Some("v1"), "green-1", Some("v1")), None, "the version decides where it is known");
        assert!(wrong(200, Some("v2"), "", Some("v1")).unwrap().contains("from v2, not from v1"));
        assert!(wrong(200, None, "blue-1", Some("v1")).unwrap().contains("does not say"));
        assert_eq!(wrong(200, None, "pod blue-1", None), None);
        assert_eq!(wrong(401, None, "pod blue-1", None), None, "who is refused was answered");
        assert!(wrong(200, None, "pod green-1", None).unwrap().ends_with("comes from green-1"));
        assert_eq!(wrong(200, None, "nobody", None), None);
        assert!(wrong(502, Some("v1"), "blue-1", Some("v1")).unwrap().contains("502"));
    }

    #[test]
    fn a_version_is_found_in_a_body() {
        let body = br#"{"build": {"version": "v1", "number": 7}, "all": []}"#;
        assert_eq!(named(body, "build.version").as_deref(), Some("v1"));
        assert_eq!(named(body, "build.number").as_deref(), Some("7"));
        assert_eq!(named(body, "all"), None);
        assert_eq!(named(b"<html>", "build"), None);
    }
}
