//! Values without parts: texts with a grammar, numbers, booleans, words to choose from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use toml::de::DeValue;

use super::decode::{Cx, Decode, Node};
use crate::config::suggest;
use crate::domain::health::selector::Selector;
use crate::domain::policy::{Aggregate, Gitops, Mode, NoData, Severity, Strategy};
use crate::domain::time::Span;

/// Why a text is not what it should be.
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

/// Something that is written as a string.
pub(crate) trait FromText: Sized {
    /// What it takes, for a hint.
    const TAKES: &'static str;

    /// Reads it. The message of a refusal does not repeat what may be a secret.
    fn from_text(text: &str) -> Result<Self, Refusal>;

    /// What its JSON Schema says besides that it is a string.
    fn restriction() -> Option<(&'static str, Value)> {
        None
    }
}

impl<T: FromText> Decode for T {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let Some(text) = node.value.get_ref().as_str() else {
            node.mismatch(T::TAKES, cx);
            return None;
        };
        match T::from_text(text) {
            Ok(value) => Some(value),
            Err(refusal) => {
                let place = cx.place(node.value);
                cx.problems.wrong(place, refusal.message).maybe_hint(refusal.hint);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({ "type": "string" });
        if let Some((keyword, value)) = T::restriction() {
            schema.insert(keyword.to_owned(), value);
        }
        schema
    }
}

impl FromText for String {
    const TAKES: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.trim().is_empty() {
            return Err(Refusal::new("the string is empty", "leave the key out where nothing is meant"));
        }
        Ok(text.to_owned())
    }

    fn restriction() -> Option<(&'static str, Value)> {
        Some(("minLength", 1.into()))
    }
}

impl FromText for PathBuf {
    const TAKES: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.contains('\0') {
            return Err(Refusal::new(
                "the path is empty or has a zero byte in it",
                "leave the key out where no file is meant",
            ));
        }
        Ok(PathBuf::from(text))
    }
}

impl FromText for SocketAddr {
    const TAKES: &'static str = "an address and a port such as \"127.0.0.1:9477\"";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|_| {
            let host_and_port = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
            let hint = match host_and_port {
                Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\""),
                Some(("" | "*", port)) => format!("write \"0.0.0.0:{port}\" to answer on every address"),
                _ => format!("it takes {}", Self::TAKES),
            };
            Refusal::new(format!("{} is not an address and a port", suggest::quoted(text)), hint)
        })
    }
}

impl FromText for Span {
    const TAKES: &'static str = "a duration such as \"5s\", \"1m30s\" or \"24h\"";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let refuse = |hint: String| Refusal::new(format!("{} is not a duration", suggest::quoted(text)), hint);
        match humantime::parse_duration(text.trim()) {
            Ok(duration) if duration.subsec_nanos() % 1_000_000 != 0 => {
                Err(refuse("durations are in whole milliseconds".to_owned()))
            }
            Ok(duration) if duration > LONGEST => Err(refuse("nothing here may be longer than 365 days".to_owned())),
            Ok(duration) => Ok(Span::from(duration)),
            Err(_) if text.trim().parse::<f64>().is_ok() => {
                Err(refuse(format!("give it a unit: \"{}s\"", text.trim())))
            }
            Err(_) => Err(refuse(format!("it takes {}", Self::TAKES))),
        }
    }
}

/// A longer span is a slip of the unit.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl FromText for Url {
    const TAKES: &'static str = "a URL such as \"http://127.0.0.1:9090/metrics\"";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let url = absolute_url(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::new(
                format!("a URL with the scheme `{}`", url.scheme()),
                "only http and https are spoken",
            ));
        }
        if url.fragment().is_some() {
            return Err(Refusal::new(
                "a URL with a fragment",
                "leave out what follows the `#`: it never reaches the server",
            ));
        }
        Ok(url)
    }
}

/// The address of a proxy.
#[derive(Clone, Debug)]
pub(crate) struct ProxyUrl(pub(crate) Url);

impl FromText for ProxyUrl {
    const TAKES: &'static str = "a proxy's URL such as \"http://127.0.0.1:3128\"";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let url = absolute_url(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::new(
                format!("a proxy URL with the scheme `{}`", url.scheme()),
                "only http and https proxies are supported",
            ));
        }
        Ok(Self(url))
    }
}

/// A URL with a host and without credentials. Nothing of it is repeated in the message.
fn absolute_url(text: &str) -> Result<Url, Refusal> {
    if !text.contains("://") {
        return Err(Refusal::new("a URL without a scheme", "begin it with `http://` or `https://`"));
    }
    let url = match Url::parse(text) {
        Ok(url) if url.has_host() => url,
        Ok(_) => return Err(Refusal::new("a URL without a host", "write `http://HOST:PORT/PATH`")),
        Err(why) => return Err(Refusal::new(format!("not a URL: {why}"), "write `http://HOST:PORT/PATH`")),
    };
    if url.username().is_empty() && url.password().is_none() {
        return Ok(url);
    }
    Err(Refusal::new(
        "a URL with credentials in it",
        "secrets are read only from files: use `basic_auth = { username = \"…\", password_file = \"…\" }`",
    ))
}

impl FromText for Selector {
    const TAKES: &'static str = "a selector such as 'http_requests_total{code=~\"5..\"}'";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        Selector::parse(text)
            .map_err(|why| Refusal { message: first_line(&why.to_string()), hint: Some(SELECTOR.to_owned()) })
    }
}

/// What a selector looks like.
const SELECTOR: &str = "write a metric's name and matchers, for example 'http_requests_total{code=~\"5..\"}'";

/// A problem is one line.
pub(crate) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

impl Decode for bool {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let value = node.value.get_ref().as_bool();
        if value.is_none() {
            node.mismatch("true or false, without quotes", cx);
        }
        value
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// A whole number within bounds.
pub(super) fn whole(node: &Node<'_, '_>, takes: &str, fits: impl Fn(u64) -> bool, cx: &mut Cx<'_>) -> Option<u64> {
    let DeValue::Integer(integer) = node.value.get_ref() else {
        node.mismatch(takes, cx);
        return None;
    };
    let whole = u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|whole| fits(*whole));
    if whole.is_none() {
        node.out_of_range(takes, cx);
    }
    whole
}

impl Decode for u64 {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        whole(node, "a whole number, not negative", |_| true, cx)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

/// A finite number, whole or not.
pub(crate) fn finite(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|whole| whole as f64)
        }
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    };
    number.filter(|number| number.is_finite())
}

impl Decode for f64 {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let value = finite(node.value.get_ref());
        if value.is_none() {
            node.mismatch("a finite number", cx);
        }
        value
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

/// Words that stand for values.
macro_rules! choice {
    ($type:ty, $takes:literal, { $($word:literal => $value:expr,)+ }) => {
        impl FromText for $type {
            const TAKES: &'static str = $takes;

            fn from_text(text: &str) -> Result<Self, Refusal> {
                match text {
                    $($word => Ok($value),)+
                    other => Err(Refusal {
                        message: format!("{} is not {}", suggest::quoted(other), $takes),
                        hint: suggest::hint(other, [$($word),+]),
                    }),
                }
            }

            fn restriction() -> Option<(&'static str, Value)> {
                Some(("enum", serde_json::json!([$($word),+])))
            }
        }
    };
}
pub(crate) use choice;

choice!(Mode, "a mode", { "enforce" => Mode::Enforce, "approve" => Mode::Approve, "observe" => Mode::Observe, });
choice!(Strategy, "a strategy", {
    "direct" => Strategy::Direct,
    "rolling" => Strategy::Rolling,
    "blue-green" => Strategy::BlueGreen,
    "canary" => Strategy::Canary,
});
choice!(Gitops, "an answer to owners", { "alert" => Gitops::Alert, "pause" => Gitops::Pause, });
choice!(Severity, "a severity", {
    "critical" => Severity::Critical,
    "scheduled" => Severity::Scheduled,
    "alert" => Severity::Alert,
});
choice!(NoData, "a verdict for missing data", {
    "hold" => NoData::Hold,
    "ok" => NoData::Ok,
    "breach" => NoData::Breach,
});
choice!(Aggregate, "a way to combine series", {
    "sum" => Aggregate::Sum,
    "avg" => Aggregate::Avg,
    "min" => Aggregate::Min,
    "max" => Aggregate::Max,
});
