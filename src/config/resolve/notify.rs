//! Receivers: what each one speaks, and where.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;

use super::{Resolver, http, name};
use crate::config::model::{Receiver, ReceiverKind, UrlSource};
use crate::config::raw::decode::{At, Entry};
use crate::config::raw::notify::Notify;
use crate::config::referenced::Content;
use crate::config::source::Place;
use crate::domain::id::ReceiverName;

/// Where PagerDuty takes events, Events API v2.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// The keys that give a receiver its address.
const ADDRESSES: [&str; 8] = [
    "webhook",
    "webhook_file",
    "slack",
    "slack_file",
    "pagerduty",
    "pagerduty_file",
    "alertmanager",
    "alertmanager_file",
];

/// Those that imply PagerDuty's, or seem to.
const ROUTING: [&str; 2] = ["routing_key_file", "routing_key"];

/// The kinds, as a hint lists them.
const KINDS: &str = "write one of `webhook`, `slack`, `pagerduty`, `alertmanager`";

/// What a receiver speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Webhook,
    Slack,
    PagerDuty,
    Alertmanager,
}

/// Where a receiver is.
enum Address<'a> {
    Plain(&'a At<Url>),
    File(&'a At<PathBuf>),
    /// PagerDuty's own, where only the routing key is given.
    PagerDutys,
}

/// A key that says what a receiver speaks, and where it is.
struct Written<'a> {
    name: &'static str,
    place: Place,
    speaks: Speaks,
    address: Address<'a>,
}

pub(super) fn resolve(r: &mut Resolver<'_>, entry: &Entry<Notify>) -> Option<Receiver> {
    let raw = &entry.value;
    name::check_word(r, "a receiver", &entry.name, entry.key);
    let http = Arc::new(http::resolve(r, &raw.http));
    let written = written(raw);
    let Some(first) = written.first() else {
        if !raw.lost.may_be(&ADDRESSES) && !raw.lost.may_be(&ROUTING) {
            r.problems.absent(entry.key, format!("the receiver `{}` has no address", entry.name)).hint(KINDS);
        }
        // Its address can't be read: what else it refers to is looked at all the same.
        for (key, file, content) in [
            ("secret_file", &raw.secret_file, Content::SigningSecret),
            ("routing_key_file", &raw.routing_key_file, Content::RoutingKey),
        ] {
            if let Some(at) = file {
                r.referenced(key, at, content);
            }
        }
        return None;
    };
    let mut given: Vec<_> = written.iter().map(|written| (written.place, written.name)).collect();
    given.extend(raw.lost.among(&ADDRESSES));
    given.sort_unstable();
    for (place, name) in &given[1..] {
        r.problems
            .wrong(*place, format!("`{name}` beside `{}`", given[0].1))
            .hint("a receiver speaks one of them, and its address is written once");
    }
    for (key, field, owner, speaks) in [
        ("secret_file", &raw.secret_file, "webhook", Speaks::Webhook),
        ("routing_key_file", &raw.routing_key_file, "pagerduty", Speaks::PagerDuty),
    ] {
        if let Some(at) = field.as_ref().filter(|_| written.iter().all(|written| written.speaks != speaks)) {
            r.problems
                .wrong(at.key, format!("`{key}` beside `{}`", first.name))
                .hint(format!("it goes with `{owner}`"));
        }
    }
    let kind = kind(r, raw, first)?;
    Some(Receiver { name: ReceiverName::new(&entry.name), kind, http })
}

fn kind(r: &mut Resolver<'_>, raw: &Notify, written: &Written<'_>) -> Option<ReceiverKind> {
    let url = match written.address {
        Address::Plain(url) => UrlSource::Plain(url.value.to_string()),
        Address::File(file) => UrlSource::File(r.referenced(written.name, file, Content::Address)),
        Address::PagerDutys => UrlSource::Plain(PAGERDUTY.to_owned()),
    };
    Some(match written.speaks {
        Speaks::Webhook => {
            let secret_file =
                raw.secret_file.as_ref().map(|at| r.referenced("secret_file", at, Content::SigningSecret));
            ReceiverKind::Webhook { url, secret_file }
        }
        Speaks::Slack => ReceiverKind::Slack { url },
        Speaks::Alertmanager => ReceiverKind::Alertmanager { url },
        Speaks::PagerDuty => {
            let Some(key) = &raw.routing_key_file else {
                if !raw.lost.may_be(&ROUTING) {
                    r.problems
                        .absent(written.place, "`pagerduty` without `routing_key_file`")
                        .hint("the file holds the integration's routing key");
                }
                return None;
            };
            let content = if is_pagerdutys(&url) { Content::PagerDutysKey } else { Content::RoutingKey };
            ReceiverKind::PagerDuty { url, routing_key_file: r.referenced("routing_key_file", key, content) }
        }
    })
}

/// Whether PagerDuty itself is spoken to, in whatever region.
fn is_pagerdutys(url: &UrlSource) -> bool {
    let UrlSource::Plain(url) = url else { return false };
    Url::parse(url).ok().and_then(|url| url.host_str().map(|host| host.ends_with(".pagerduty.com"))).unwrap_or(false)
}

/// All of them, in the order of the file.
fn written(raw: &Notify) -> Vec<Written<'_>> {
    let urls = [
        ("webhook", Speaks::Webhook, &raw.webhook),
        ("slack", Speaks::Slack, &raw.slack),
        ("pagerduty", Speaks::PagerDuty, &raw.pagerduty),
        ("alertmanager", Speaks::Alertmanager, &raw.alertmanager),
    ];
    let files = [
        ("webhook_file", Speaks::Webhook, &raw.webhook_file),
        ("slack_file", Speaks::Slack, &raw.slack_file),
        ("pagerduty_file", Speaks::PagerDuty, &raw.pagerduty_file),
        ("alertmanager_file", Speaks::Alertmanager, &raw.alertmanager_file),
    ];
    let urls = urls.into_iter().filter_map(|(name, speaks, field)| {
        field.as_ref().map(|at| Written { name, place: at.key, speaks, address: Address::Plain(at) })
    });
    let files = files.into_iter().filter_map(|(name, speaks, field)| {
        field.as_ref().map(|at| Written { name, place: at.key, speaks, address: Address::File(at) })
    });
    let mut written: Vec<_> = urls.chain(files).collect();
    if written.is_empty() {
        written.extend(raw.routing_key_file.as_ref().map(|at| Written {
            name: "routing_key_file",
            place: at.key,
            speaks: Speaks::PagerDuty,
            address: Address::PagerDutys,
        }));
    }
    written.sort_by_key(|written| written.place);
    written
}
