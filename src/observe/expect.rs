//! Whether a health endpoint's answer is the one that the policy expects. No network here.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde_json::Value;

use crate::domain::id::RevisionId;
use crate::domain::observation::{Answer, Fault, FaultKind};
use crate::host::text;

/// Longest text of a foreign value that a detail repeats, in bytes.
const SHOWN_BYTES: usize = 120;

/// What is judged: the parts of an answer that matter.
#[derive(Debug)]
pub(super) struct Said<'a> {
    pub(super) status: StatusCode,
    /// Where the policy takes the release from a header: what it says.
    pub(super) header: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// Judges an answer. `field` is the body's field that names the release, where the policy takes it from there.
///
/// # Errors
/// A success whose body is not JSON although fields of it are expected: that is no statement about health.
pub(super) fn judge(said: &Said<'_>, expect: &BTreeMap<String, Value>, field: Option<&str>) -> Result<Answer, Fault> {
    let body: Option<Value> = if expect.is_empty() && field.is_none() { None } else { parse(said.body) };
    let named = said.header.map(str::to_owned).or_else(|| match at(body.as_ref()?, field?)? {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    let revision: Option<RevisionId> = named.and_then(|name| text::release_name(name.trim()).ok());
    let differs = body.as_ref().and_then(|body| first_difference(body, expect));
    let detail = match (said.status.is_success(), &body, differs) {
        (true, None, _) if !expect.is_empty() => {
            let detail = "the body is not JSON, and the policy expects fields of it".to_owned();
            return Err(Fault { kind: FaultKind::Malformed, detail });
        }
        (true, _, None) => return Ok(Answer { healthy: true, detail: String::new(), revision }),
        (true, _, Some(differs)) => differs,
        (false, _, Some(differs)) => format!("{differs}, status {}", said.status),
        (false, _, None) => format!("expected a 2xx status, got {}", said.status),
    };
    Ok(Answer { healthy: false, detail, revision })
}

fn parse(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

/// The first expected field that is missing or has another value, in one line.
fn first_difference(body: &Value, expect: &BTreeMap<String, Value>) -> Option<String> {
    expect.iter().find_map(|(path, wanted)| match at(body, path) {
        Some(found) if same(found, wanted) => None,
        Some(found) => Some(format!("expected {path} = {}, got {}", shown(wanted), shown(found))),
        None => Some(format!("expected {path} = {}, got nothing", shown(wanted))),
    })
}

/// The field that a path leads to. A field whose own name has dots goes before one that is further down.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    path.match_indices('.').find_map(|(dot, _)| at(value.get(&path[..dot])?, &path[dot + 1..]))
}

/// Equality, with numbers by value: TOML's `1` is JSON's `1.0`.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(found), Value::Number(wanted)) => found == wanted || found.as_f64() == wanted.as_f64(),
        _ => found == wanted,
    }
}

/// A value as JSON, fit for one line of a log.
fn shown(value: &Value) -> String {
    let text = text::one_line(&text::printable(value.to_string().as_bytes()));
    if text.len() <= SHOWN_BYTES {
        return text;
    }
    format!("{}…", &text[..text.floor_char_boundary(SHOWN_BYTES)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(status: u16, body: &str, expect: Value) -> String {
        let expect: BTreeMap<String, Value> = serde_json::from_value(expect).unwrap();
        let said = Said { status: StatusCode::from_u16(status).unwrap(), header: None, body: body.as_bytes() };
        match judge(&said, &expect, None) {
            Ok(Answer { healthy: true, detail, .. }) => format!("well{detail}"),
            Ok(answer) => answer.detail,
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn answers_are_judged_by_status_and_fields() {
        for (status, body, expect, verdict) in [
            (200, "", json!({}), "well"),
            (204, "", json!({}), "well"),
            (200, "<html>", json!({}), "well"),
            (302, "", json!({}), "expected a 2xx status, got 302 Found"),
            (503, "down", json!({}), "expected a 2xx status, got 503 Service Unavailable"),
            (200, r#"{"status":"Healthy"}"#, json!({"status": "Healthy"}), "well"),
            (
                200,
                r#"{"status":"Degraded"}"#,
                json!({"status": "Healthy"}),
                r#"expected status = "Healthy", got "Degraded""#,
            ),
            (
                503,
                r#"{"status":"Unhealthy"}"#,
                json!({"status": "Healthy"}),
                r#"expected status = "Healthy", got "Unhealthy", status 503 Service Unavailable"#,
            ),
            (
                500,
                r#"{"status":"Healthy"}"#,
                json!({"status": "Healthy"}),
                "expected a 2xx status, got 500 Internal Server Error",
            ),
            (502, "<html>", json!({"status": "Healthy"}), "expected a 2xx status, got 502 Bad Gateway"),
            (200, "{}", json!({"status": "Healthy"}), r#"expected status = "Healthy", got nothing"#),
            (200, "[]", json!({"status": "Healthy"}), r#"expected status = "Healthy", got nothing"#),
            (200, r#"{"db":{"ok":true}}"#, json!({"db.ok": true}), "well"),
            (200, r#"{"db.ok":true}"#, json!({"db.ok": true}), "well"),
            (200, r#"{"a.b":{"c":1}}"#, json!({"a.b.c": 1}), "well"),
            (200, r#"{"db":{"ok":false}}"#, json!({"db.ok": true}), "expected db.ok = true, got false"),
            (200, r#"{"n":1.0}"#, json!({"n": 1}), "well"),
            (200, r#"{"n":"1"}"#, json!({"n": 1}), r#"expected n = 1, got "1""#),
            (
                200,
                "Healthy",
                json!({"status": "Healthy"}),
                "malformed: the body is not JSON, and the policy expects fields of it",
            ),
        ] {
            assert_eq!(judged(status, body, expect), verdict, "{status} {body}");
        }
    }

    #[test]
    fn foreign_values_stay_on_one_line_and_short() {
        let body = format!(r#"{{"s":"\u001b[31m\nred{}"}}"#, "x".repeat(500));
        let detail = judged(200, &body, json!({"s": "ok"}));
        assert!(!detail.contains(['\u{1b}', '\n']) && detail.len() < 200, "{detail}");
    }

    #[test]
    fn the_release_is_told_by_a_header_or_a_field() {
        let body = br#"{"build":{"id":"v2"},"n":7,"bad":"--force","list":[]}"#;
        let said = |header| Said { status: StatusCode::OK, header, body };
        let revision = |header, field| {
            let answer = judge(&said(header), &BTreeMap::new(), field).unwrap();
            answer.revision.map(|revision| revision.to_string())
        };
        assert_eq!(revision(Some(" v1 "), None).as_deref(), Some("v1"));
        assert_eq!(revision(None, Some("build.id")).as_deref(), Some("v2"));
        assert_eq!(revision(None, Some("n")).as_deref(), Some("7"));
        for field in ["bad", "list", "none", "build"] {
            assert_eq!(revision(None, Some(field)), None, "{field}");
        }
        assert_eq!(revision(None, None), None);
    }
}
