//! One attempt to tell one receiver.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};

use super::receiver::{RenderError, Rendered, alertmanager, pagerduty, slack, webhook};
use super::schedule::retry_after;
use crate::config::form;
use crate::config::model::{Receiver, ReceiverKind, UrlSource};
use crate::domain::id::ReceiverName;
use crate::domain::incident::alert::Alert;
use crate::domain::observation::Fault;
use crate::domain::time::{Span, Timestamp};
use crate::host::text::{one_line, printable};
use crate::net::Caller;
use crate::net::secret::{SecretFile, SecretFileError};

/// Longest time for a whole attempt, from connecting to the answer.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// What is read of an answer that is not a success, in bytes; it is quoted, not understood.
const ANSWER_LIMIT: usize = 4_096;

/// What is kept of it, in bytes.
const QUOTE_LIMIT: usize = 256;

/// Stands for a secret that a receiver sent back.
const REDACTED: &str = "[redacted]";

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It arrived.
    Delivered,
    /// This sort of receiver is not told of such a phase: nothing was sent.
    NotTold,
    /// It did not arrive.
    Failed {
        /// Why: free of secrets and of the receiver's URL.
        error: String,
        /// How long the receiver asks to be left alone.
        retry_after: Option<Span>,
    },
    /// The receiver says that it is gone for good.
    Gone,
}

/// Tells one receiver. Secret files are read at each attempt where they changed.
#[derive(Debug)]
pub struct Sender {
    name: ReceiverName,
    caller: Caller,
    address: Address,
    speech: Speech,
}

#[derive(Debug)]
enum Address {
    Plain(String),
    File(SecretFile),
}

#[derive(Debug)]
enum Speech {
    Webhook { secret: Option<SecretFile> },
    Slack,
    PagerDuty { routing_key: SecretFile },
    Alertmanager,
}

/// Why nothing could be sent; all of it lies on this side and can be put right without a restart.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("{0}")]
    File(#[from] SecretFileError),
    #[error("{0}")]
    Render(#[from] RenderError),
    #[error("{0}")]
    Fault(Fault),
    #[error("the receiver's address is not an http or https URL")]
    Address,
}

impl Sender {
    /// Nothing is read or opened yet.
    #[must_use]
    pub fn new(receiver: &Receiver) -> Self {
        let (url, speech) = match &receiver.kind {
            ReceiverKind::Webhook { url, secret_file } => {
                (url, Speech::Webhook { secret: secret_file.clone().map(SecretFile::new) })
            }
            ReceiverKind::Slack { url } => (url, Speech::Slack),
            ReceiverKind::PagerDuty { url, routing_key_file } => {
                (url, Speech::PagerDuty { routing_key: SecretFile::new(routing_key_file.clone()) })
            }
            ReceiverKind::Alertmanager { url } => (url, Speech::Alertmanager),
        };
        let address = match url {
            UrlSource::Plain(url) => Address::Plain(url.clone()),
            UrlSource::File(path) => Address::File(SecretFile::new(path.clone())),
        };
        Self { name: receiver.name.clone(), caller: Caller::new(receiver.http.clone()), address, speech }
    }

    /// Whom it tells.
    #[must_use]
    pub fn name(&self) -> &ReceiverName {
        &self.name
    }

    /// Makes one attempt, within [`REQUEST_DEADLINE`]. Redirects are not followed: a message goes where the policy says.
    /// `now` is the wall clock's time, which the receiver compares with its own.
    pub async fn send(&self, alert: &Alert, now: Timestamp) -> Attempt {
        self.attempt(alert, now, alertmanager::FIRES_FOR).await
    }

    /// As [`Sender::send`]; where nothing more is heard, an Alertmanager ends the alert `fires_for` from now.
    pub(super) async fn attempt(&self, alert: &Alert, now: Timestamp, fires_for: Span) -> Attempt {
        let mut secrets = Vec::new();
        let sent = match self.render(alert, now, fires_for, &mut secrets).await {
            Ok(Some(rendered)) => self.request(rendered, &mut secrets).await,
            Ok(None) => return Attempt::NotTold,
            Err(unsent) => Err(unsent),
        };
        match sent {
            Err(unsent) => Attempt::Failed { error: redact(unsent.to_string(), &secrets), retry_after: None },
            Ok(response) if response.status().is_success() => Attempt::Delivered,
            Ok(response) if response.status() == StatusCode::GONE => Attempt::Gone,
            Ok(response) => {
                let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let retry_after = asked.and_then(|header| retry_after(header, now));
                Attempt::Failed { error: redact(quote(response).await, &secrets), retry_after }
            }
        }
    }

    async fn render(
        &self,
        alert: &Alert,
        now: Timestamp,
        fires_for: Span,
        secrets: &mut Vec<SecretString>,
    ) -> Result<Option<Rendered>, Unsent> {
        Ok(match &self.speech {
            Speech::Webhook { secret } => {
                let secret = match secret {
                    Some(file) => Some(file.read().await?),
                    None => None,
                };
                let rendered = webhook::render(alert, secret.as_ref(), now)?;
                secrets.extend(secret);
                Some(rendered)
            }
            Speech::Slack => Some(slack::render(alert)),
            Speech::PagerDuty { routing_key } => {
                let key = routing_key.read().await?;
                let rendered = pagerduty::render(alert, &key)?;
                secrets.push(key);
                rendered
            }
            Speech::Alertmanager => alertmanager::render(alert, now, fires_for),
        })
    }

    async fn request(&self, rendered: Rendered, secrets: &mut Vec<SecretString>) -> Result<Response, Unsent> {
        let url = self.url(secrets).await?;
        secrets.extend(self.caller.secrets().await?);
        let mut request = self
            .caller
            .request(Method::POST, url)
            .await
            .map_err(Unsent::Fault)?
            .timeout(REQUEST_DEADLINE)
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in rendered.headers {
            request = request.header(name, value);
        }
        request.body(rendered.body).send().await.map_err(|error| Unsent::Fault(self.caller.fault(error)))
    }

    async fn url(&self, secrets: &mut Vec<SecretString>) -> Result<Url, Unsent> {
        let mut url = match &self.address {
            Address::Plain(url) => form::address(url),
            Address::File(file) => {
                let secret = file.read().await?;
                let url = form::address(secret.expose_secret());
                // A part of it alone is the secret where the receiver sends that back.
                if let Ok(url) = &url {
                    secrets.extend([Some(url.path()), url.query()].into_iter().flatten().map(SecretString::from));
                }
                secrets.push(secret);
                url
            }
        }
        .map_err(|_| Unsent::Address)?;
        if matches!(self.speech, Speech::Alertmanager) {
            let path = format!("{}{}", url.path().trim_end_matches('/'), alertmanager::PATH);
            url.set_path(&path);
        }
        Ok(url)
    }
}

/// Status and the beginning of the body, on one line.
async fn quote(mut response: Response) -> String {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < ANSWER_LIMIT {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_LIMIT - body.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    let said = one_line(&printable(&body));
    if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") }
}

/// Takes out what must not be kept, then cuts: the other way round, half a secret could stay.
fn redact(mut text: String, secrets: &[SecretString]) -> String {
    let lines = secrets.iter().flat_map(|secret| secret.expose_secret().lines()).map(str::trim);
    // A slash is a path too, and no secret.
    let mut lines: Vec<&str> = lines.filter(|line| line.len() > 1).collect();
    // What is a part of another would leave the rest of that one.
    lines.sort_unstable_by_key(|line| std::cmp::Reverse(line.len()));
    for line in lines {
        text = text.replace(line, REDACTED);
    }
    if text.len() > QUOTE_LIMIT {
        text.truncate(text.floor_char_boundary(QUOTE_LIMIT));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::config::model::HttpOptions;
    use crate::notify::receiver::fixture::alert;

    const NOW: Timestamp = Timestamp::from_millis(1_767_323_045_000);

    #[test]
    fn nothing_is_left_of_a_secret_that_has_another_in_it() {
        let secrets = ["/wh", "token=S3CRET", "http://h/wh?token=S3CRET"].map(SecretString::from);
        let told = redact("no hook http://h/wh?token=S3CRET, nor /wh, nor token=S3CRET".to_owned(), &secrets);
        assert_eq!(told, format!("no hook {REDACTED}, nor {REDACTED}, nor {REDACTED}"));
    }

    fn sender(kind: ReceiverKind) -> Sender {
        Sender::new(&Receiver { name: "oncall".into(), kind, http: Arc::new(HttpOptions::default()) })
    }

    fn webhook(url: &str) -> ReceiverKind {
        ReceiverKind::Webhook { url: UrlSource::Plain(url.to_owned()), secret_file: None }
    }

    /// Answers one request with its own head and body behind a status line, for as long as it is read.
    fn echo(status: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/services/T0/S3CRET", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 65_536];
            let mut read = 0;
            while !request[..read].ends_with(b"}") {
                read += stream.read(&mut request[read..]).unwrap();
            }
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
            // Endless, until the other side has had enough.
            while stream.write_all(&request[..read]).is_ok() {}
        });
        url
    }

    fn secret(dir: &Path, content: &str) -> std::path::PathBuf {
        let path = dir.join("secret");
        std::fs::write(&path, content).unwrap();
        path
    }

    #[tokio::test]
    async fn an_endless_answer_is_quoted_in_short() {
        let attempt = sender(webhook(&echo("500 Oops"))).send(&alert(), NOW).await;
        let Attempt::Failed { error, retry_after: None } = attempt else { panic!("{attempt:?}") };
        assert!(error.starts_with("HTTP 500: POST /services/T0/S3CRET HTTP/1.1 "), "{error}");
        assert!(error.ends_with('…'), "{error}");
        assert!(error.len() <= QUOTE_LIMIT + '…'.len_utf8(), "{}", error.len());
    }

    #[tokio::test]
    async fn secrets_that_come_back_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let url = echo("403 No");
        let slack = ReceiverKind::Slack { url: UrlSource::File(secret(dir.path(), &url)) };
        let key = tempfile::tempdir().unwrap();
        let pagerduty = ReceiverKind::PagerDuty {
            url: UrlSource::Plain(echo("400 No")),
            routing_key_file: secret(key.path(), "R0UT1NGK3Y"),
        };
        for (kind, hidden) in [(slack, "S3CRET"), (pagerduty, "R0UT1NGK3Y")] {
            let attempt = sender(kind).send(&alert(), NOW).await;
            let Attempt::Failed { error, .. } = attempt else { panic!("{attempt:?}") };
            assert!(error.starts_with("HTTP 40"), "{error}");
            assert!(!error.contains(hidden), "{error}");
        }
    }

    #[test]
    fn a_secret_is_taken_out_before_the_text_is_cut() {
        let text = format!("{}SECRETSECRET", "x".repeat(QUOTE_LIMIT - 6));
        let secret = SecretString::from("SECRETSECRET");
        assert!(!redact(text, &[secret]).contains("SECRET"));
    }

    #[tokio::test]
    async fn what_is_wrong_on_this_side_is_said_and_can_be_put_right() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let table = [
            (webhook("ftp://127.0.0.1/"), "the receiver's address is not an http or https URL".to_owned()),
            (webhook("nonsense"), "the receiver's address is not an http or https URL".to_owned()),
            (
                ReceiverKind::Slack { url: UrlSource::File(missing.clone()) },
                format!("{} can't be read (No such file or directory (os error 2))", missing.display()),
            ),
            (
                ReceiverKind::Webhook {
                    url: UrlSource::Plain("http://127.0.0.1:1/".to_owned()),
                    secret_file: Some(secret(dir.path(), "whsec_?")),
                },
                "the secret file has a whsec_ secret that is not base64".to_owned(),
            ),
        ];
        for (kind, expected) in table {
            let attempt = sender(kind).send(&alert(), NOW).await;
            assert_eq!(attempt, Attempt::Failed { error: expected, retry_after: None });
        }
    }

    #[tokio::test]
    async fn a_receiver_that_says_nothing_is_left_after_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let begun = tokio::time::Instant::now();
        let attempt = sender(webhook(&url)).send(&alert(), NOW).await;
        let Attempt::Failed { error, .. } = attempt else { panic!("{attempt:?}") };
        assert!(error.starts_with("timeout: "), "{error}");
        assert!(begun.elapsed() >= REQUEST_DEADLINE);
    }

    #[tokio::test]
    async fn a_suspicion_is_not_told_where_it_would_page() {
        let suspected = Alert { phase: crate::domain::incident::alert::Phase::Suspected, ..alert() };
        // Nobody listens there: an attempt would fail.
        let kind = ReceiverKind::Alertmanager { url: UrlSource::Plain("http://127.0.0.1:1/".to_owned()) };
        assert_eq!(sender(kind).send(&suspected, NOW).await, Attempt::NotTold);
    }
}
