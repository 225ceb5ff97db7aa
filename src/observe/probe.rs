//! The looks at one health endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONNECTION, HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::time::Instant;

use super::change::Outlook;
use super::duty::{Due, Duty};
use super::expect::{Said, judge};
use super::exposition::Encoding;
use super::peer::{Peer, Reply, refuses_credentials, status_fault};
use super::room::Lane;
use super::scrape::in_time;
use super::shared::Shared;
use crate::config::model::RevisionFrom;
use crate::domain::id::{InstanceId, TargetId};
use crate::domain::observation::{Answer, Fault, FaultKind, Seen};

/// Largest body of a health endpoint, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The looks at one health endpoint.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) target: TargetId,
    pub(super) instance: Option<InstanceId>,
    pub(super) outlook: Outlook,
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Peer,
    pub(super) expect: BTreeMap<String, Value>,
    pub(super) revision: Option<RevisionFrom>,
    pub(super) deadline: Duration,
}

impl Duty for Probe {
    fn lane(&self) -> Option<Lane> {
        Some(self.outlook.lane())
    }

    async fn look(&mut self, _due: Due) -> Vec<Seen> {
        let shared = Arc::clone(&self.shared);
        let began = Instant::now();
        let result = self.ask().await;
        let fault = result.as_ref().err();
        shared.stats.probes.note(fault.map(|fault| fault.kind), began.elapsed());
        self.outlook.note(fault);
        let (target, instance) = (self.target.clone(), self.instance.clone());
        vec![Seen::Probe { target, instance, result }]
    }
}

impl Probe {
    async fn ask(&mut self) -> Result<Answer, Fault> {
        // As a new client is served: a kept connection stays where a switch point led it before.
        let headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5")),
            (CONNECTION, HeaderValue::from_static("close")),
        ]);
        let reply = self.peer.question().await?.ask(headers, &self.shared.stats);
        in_time(self.deadline, answer(reply, &self.expect, self.revision.as_ref())).await
    }
}

async fn answer(
    reply: impl Future<Output = Result<Reply<'_>, Fault>>,
    expect: &BTreeMap<String, Value>,
    revision: Option<&RevisionFrom>,
) -> Result<Answer, Fault> {
    let mut reply = reply.await?;
    if refuses_credentials(reply.status()) {
        return Err(status_fault(reply.status()));
    }
    if Encoding::from_content_encoding(reply.content_encoding()) != Some(Encoding::Identity) {
        let detail = "answers in an encoding that was not offered".to_owned();
        return Err(Fault { kind: FaultKind::Malformed, detail });
    }
    let body = body(&mut reply).await?;
    let (header, field) = match revision {
        None => (None, None),
        Some(RevisionFrom::Header(name)) => (reply.header(name), None),
        Some(RevisionFrom::Json(field)) => (None, Some(field.as_str())),
    };
    judge(&Said { status: reply.status(), header, body: &body }, expect, field)
}

/// A whole body of bounded size.
pub(super) async fn body(reply: &mut Reply<'_>) -> Result<Vec<u8>, Fault> {
    let too_large =
        || Fault { kind: FaultKind::TooLarge, detail: format!("over the limit: body of more than {MAX_BODY} bytes") };
    if reply.length().is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(piece) = reply.chunk().await? {
        if body.len() + piece.len() > MAX_BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
