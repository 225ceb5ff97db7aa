//! Receivers: what each one speaks, and where.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;

use super::{Resolver, http, name};
use crate::config::model::{Receiver, ReceiverKind, UrlSource};
use crate::config::raw::decode::{At, Entry};
use crate::config::raw::notify::Notify;
use crate::config::source::Place;
use crate::domain::id::ReceiverName;

/// Where PagerDuty takes events, Events API v2.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// The kinds, as a hint lists them.
const KINDS: &str = "write one of `webhook`, `slack`, `pagerduty`, `alertmanager`";

/// A way to say where a receiver is.
struct Written<'a> {
    kind: &'static str,
    key: Place,
    url: Option<&'a At<Url>>,
    file: Option<&'a At<PathBuf>>,
}

pub(super) fn resolve(r: &mut Resolver<'_>, entry: &Entry<Notify>) -> Option<Receiver> {
    let raw = &entry.value;
    name::check_word(r, "a receiver", &entry.name, entry.key);
    let http = Arc::new(http::resolve(r, &raw.http));
    let written = written(raw);
    let Some(first) = written.first() else {
        if !raw.damaged {
            r.problems.absent(entry.key, format!("the receiver `{}` has no address", entry.name)).hint(KINDS);
        }
        return None;
    };
    for second in &written[1..] {
        r.problems
            .wrong(second.key, format!("`{}` beside `{}`", second.kind, first.kind))
            .hint("a receiver speaks one of them, and its address is written once");
    }
    for (key, field, owner) in
        [("secret_file", &raw.secret_file, "webhook"), ("routing_key_file", &raw.routing_key_file, "pagerduty")]
    {
        if let Some(at) = field.as_ref().filter(|_| !first.kind.starts_with(owner) && written.len() == 1) {
            r.problems
                .wrong(at.key, format!("`{key}` beside `{}`", first.kind))
                .hint(format!("it goes with `{owner}`"));
        }
    }
    let url = url_source(r, first);
    let kind = match first.kind {
        "webhook" | "webhook_file" => {
            ReceiverKind::Webhook { url, secret_file: raw.secret_file.as_ref().map(|at| r.secret("secret_file", at)) }
        }
        "slack" | "slack_file" => ReceiverKind::Slack { url },
        "alertmanager" | "alertmanager_file" => ReceiverKind::Alertmanager { url },
        _ => {
            let Some(key) = &raw.routing_key_file else {
                if !raw.damaged {
                    r.problems
                        .absent(first.key, "`pagerduty` without `routing_key_file`")
                        .hint("the file holds the integration's routing key");
                }
                return None;
            };
            ReceiverKind::PagerDuty { url, routing_key_file: r.secret("routing_key_file", key) }
        }
    };
    Some(Receiver { name: ReceiverName::new(&entry.name), kind, http })
}

fn written(raw: &Notify) -> Vec<Written<'_>> {
    let urls = [
        ("webhook", &raw.webhook),
        ("slack", &raw.slack),
        ("pagerduty", &raw.pagerduty),
        ("alertmanager", &raw.alertmanager),
    ];
    let files = [
        ("webhook_file", &raw.webhook_file),
        ("slack_file", &raw.slack_file),
        ("pagerduty_file", &raw.pagerduty_file),
        ("alertmanager_file", &raw.alertmanager_file),
    ];
    let urls = urls
        .into_iter()
        .filter_map(|(kind, field)| field.as_ref().map(|at| Written { kind, key: at.key, url: Some(at), file: None }));
    let files = files
        .into_iter()
        .filter_map(|(kind, field)| field.as_ref().map(|at| Written { kind, key: at.key, url: None, file: Some(at) }));
    let mut written: Vec<_> = urls.chain(files).collect();
    if written.is_empty() {
        let own = raw.routing_key_file.as_ref();
        written.extend(own.map(|at| Written { kind: "pagerduty", key: at.key, url: None, file: None }));
    }
    written.sort_by_key(|written| written.key);
    written
}

fn url_source(r: &mut Resolver<'_>, written: &Written<'_>) -> UrlSource {
    match (written.url, written.file) {
        (Some(url), _) => UrlSource::Plain(url.value.to_string()),
        (None, Some(file)) => UrlSource::File(r.secret(written.kind, file)),
        (None, None) => UrlSource::Plain(PAGERDUTY.to_owned()),
    }
}
