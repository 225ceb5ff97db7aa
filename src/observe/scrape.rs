//! One exposition page, read as it arrives: received, unpacked and scanned piece by piece, and never whole in memory.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout};

use super::change::Outlook;
use super::duty::{Due, Duty};
use super::exposition::{self, Decoder, Encoding, Format, Limits, Over, ScanError, Scanner};
use super::peer::{Peer, Reply, status_fault};
use super::room::Lane;
use super::shared::{Shared, SharedTable};
use crate::domain::id::{InstanceId, TargetId};
use crate::domain::observation::{Fault, FaultKind, Page, Seen};

/// How long the exporter may take, in seconds, as Prometheus tells it.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// Media types that are surely no exposition page. Whatever else comes is read as the text format, as Prometheus did
/// before it became strict.
const OTHER_MEDIA: [&str; 4] = ["text/html", "application/xhtml+xml", "application/json", "application/problem+json"];

/// The looks at one page.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) target: TargetId,
    pub(super) instance: Option<InstanceId>,
    pub(super) outlook: Outlook,
    pub(super) shared: Arc<Shared>,
    pub(super) reader: Reader,
    pub(super) deadline: Duration,
}

/// What reads one address' pages.
#[derive(Debug)]
pub(super) struct Reader {
    peer: Peer,
    scanner: Scanner,
    table: SharedTable,
    headers: HeaderMap,
}

impl Duty for Scrape {
    fn lane(&self) -> Option<Lane> {
        Some(self.outlook.lane())
    }

    async fn look(&mut self, _due: Due) -> Vec<Seen> {
        let began = Instant::now();
        let result = self.reader.page(&self.shared, self.deadline).await;
        let fault = result.as_ref().err();
        self.shared.stats.scrapes.note(fault.map(|fault| fault.kind), began.elapsed());
        self.outlook.note(fault);
        let (target, instance) = (self.target.clone(), self.instance.clone());
        vec![Seen::Scrape { target, instance, result }]
    }
}

impl Reader {
    /// `keeps` tells whether the address leads where it led before, so that a kept connection does.
    pub(super) fn new(peer: Peer, table: SharedTable, deadline: Duration, keeps: bool) -> Self {
        let mut headers = HeaderMap::new();
        if !keeps {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers.insert(ACCEPT, HeaderValue::from_static(exposition::ACCEPT));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if let Ok(seconds) = HeaderValue::try_from(deadline.as_secs_f64().to_string()) {
            headers.insert(TIMEOUT_HEADER, seconds);
        }
        Self { peer, scanner: Scanner::new(Limits::DEFAULT), table, headers }
    }

    async fn page(&mut self, shared: &Shared, deadline: Duration) -> Result<Page, Fault> {
        let question = self.peer.question().await?;
        let reply = question.ask(self.headers.clone(), &shared.stats);
        in_time(deadline, read(reply, &mut self.scanner, &self.table, shared)).await
    }
}

async fn read(
    reply: impl Future<Output = Result<Reply<'_>, Fault>>,
    scanner: &mut Scanner,
    table: &SharedTable,
    shared: &Shared,
) -> Result<Page, Fault> {
    let mut reply = reply.await?;
    let (format, encoding) = head(&reply)?;
    let mut decoder = Decoder::new(encoding, Limits::DEFAULT);
    let mut scan = scanner.begin(format);
    let mut bytes = 0;
    while let Some(piece) = reply.chunk().await? {
        bytes += piece.len() as u64;
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        decoder.push(&piece, |text| scan.push(&mut table, text)).map_err(refused)?;
    }
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    decoder.finish(|text| scan.push(&mut table, text)).map_err(refused)?;
    let mut page = scan.finish(&mut table).map_err(refused)?;
    page.wall_ahead = shared.clock.wall_ahead();
    shared.stats.page(bytes, page.samples.len());
    Ok(page)
}

/// What the head of the answer says about the page, where it says that there is one.
fn head(reply: &Reply<'_>) -> Result<(Format, Encoding), Fault> {
    if reply.status() != StatusCode::OK {
        return Err(status_fault(reply.status()));
    }
    if reply.length().is_some_and(|length| length > Limits::DEFAULT.wire_bytes) {
        return Err(refused(ScanError::PageOver(Over::Wire(Limits::DEFAULT.wire_bytes))));
    }
    let media = reply.content_type().unwrap_or("").split(';').next().unwrap_or("").trim();
    if let Some(other) = OTHER_MEDIA.iter().find(|other| media.eq_ignore_ascii_case(other)) {
        return Err(malformed(format!("answers with {other}, which is no exposition page")));
    }
    let encoding = Encoding::from_content_encoding(reply.content_encoding())
        .ok_or_else(|| malformed("answers in an encoding that was not offered".to_owned()))?;
    Ok((Format::from_content_type(reply.content_type()), encoding))
}

/// An answer, where it is complete in its time.
pub(super) async fn in_time<T>(deadline: Duration, answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(deadline, answer).await.unwrap_or_else(|_| {
        let detail = format!("not answered in full within {} s", deadline.as_secs_f64());
        Err(Fault { kind: FaultKind::Timeout, detail })
    })
}

fn malformed(detail: String) -> Fault {
    Fault { kind: FaultKind::Malformed, detail }
}

fn refused(error: ScanError) -> Fault {
    Fault { kind: error.kind(), detail: error.to_string() }
}
