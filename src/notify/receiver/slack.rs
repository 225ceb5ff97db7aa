//! Slack's incoming webhooks: one section, facts beside it, and how to stop the daemon.
//!
//! Whatever comes from outside is escaped as Slack asks (`&`, `<`, `>`), so that a label can neither mention a channel
//! nor show one address and lead to another.

use serde_json::{Value, json};

use super::Rendered;
use super::shorten::shorten;
use crate::domain::incident::alert::{Alert, AlertTrigger, Phase};
use crate::domain::units::Unit;
use crate::host::text::{one_line, printable};

/// Longest text of a section's main part: Slack allows 3000 characters; escaping has been done by then.
const SECTION_LIMIT: usize = 2_900;

/// Longest text of a field: Slack allows 2000 characters.
const FIELD_LIMIT: usize = 1_900;

/// Headers and body.
#[must_use]
pub fn render(alert: &Alert) -> Rendered {
    let headline = format!("{} {}: {}", symbol(alert.phase), alert.workload, alert.phase);
    let summary = escape(&alert.summary, SECTION_LIMIT);
    let mut fields =
        vec![field("Trigger", &trigger(alert)), field("Severity", &format!("{}, mode {}", alert.severity, alert.mode))];
    if let Some(from) = &alert.from {
        fields.push(field("From", from.revision.as_str()));
    }
    if let Some(to) = &alert.to {
        fields.push(field("To", to.revision.as_str()));
    }
    let next = match &alert.next.deadline {
        Some(deadline) => format!("{} by {deadline}", alert.next.action),
        None => alert.next.action.clone(),
    };
    fields.push(field("Next", &next));
    fields.push(field("To stop it", &alert.stop.command));
    let body = json!({
        "text": format!("{headline}: {summary}"),
        "blocks": [
            { "type": "section", "text": mrkdwn(format!("*{headline}*\n{summary}")), "fields": fields },
            { "type": "context", "elements": [mrkdwn(format!("incident {} · {}", alert.incident, alert.id))] },
        ],
    });
    Rendered { headers: Vec::new(), body: body.to_string() }
}

/// `verbatim` keeps Slack from making links and mentions out of plain text.
fn mrkdwn(text: String) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

fn field(name: &str, value: &str) -> Value {
    mrkdwn(format!("*{name}*\n{}", escape(value, FIELD_LIMIT)))
}

fn trigger(alert: &Alert) -> String {
    let AlertTrigger { name, value, threshold, unit, .. } = &alert.trigger;
    let shown = |value: f64| unit.unwrap_or(Unit::Plain).format(value);
    match (value.map(shown), threshold.map(shown)) {
        (Some(value), Some(threshold)) => format!("{name} ({value} against {threshold})"),
        (Some(value), None) => format!("{name} ({value})"),
        (None, _) => name.clone(),
    }
}

/// Text on one line, escaped, at most `limit` bytes; cut before it is escaped, so that no escape is cut.
fn escape(text: &str, limit: usize) -> String {
    let text = one_line(&printable(text.as_bytes()));
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut room = limit;
    loop {
        let candidate = escaped(&shorten(&text, room));
        if candidate.len() <= limit {
            return candidate;
        }
        // An escape makes five bytes of one at most.
        room /= 2;
    }
}

const fn symbol(phase: Phase) -> &'static str {
    match phase {
        Phase::Suspected => ":eyes:",
        Phase::Detected | Phase::Failed => ":rotating_light:",
        Phase::Held => ":no_entry:",
        Phase::AwaitingApproval => ":raised_hand:",
        Phase::Started => ":leftwards_arrow_with_hook:",
        Phase::Verifying => ":mag:",
        Phase::Restored => ":white_check_mark:",
        Phase::Escalated => ":sos:",
        Phase::Closed => ":checkered_flag:",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::receiver::fixture::alert;

    #[test]
    fn a_message_reads_as_expected() {
        let body: Value = serde_json::from_str(&render(&alert()).body).unwrap();
        insta::assert_json_snapshot!(body);
    }

    #[test]
    fn quantities_read_as_everywhere_else() {
        for (unit, value, threshold, shown) in [
            (Some(Unit::Ratio), Some(0.413), Some(0.1), "x (41.3 % against 10 %)"),
            (Some(Unit::Seconds), Some(5.2), Some(0.5), "x (5.2 s against 500 ms)"),
            (None, Some(3.0), None, "x (3)"),
            (None, None, None, "x"),
        ] {
            let trigger = AlertTrigger { name: "x".to_owned(), value, threshold, unit, ..AlertTrigger::default() };
            assert_eq!(super::trigger(&Alert { trigger, ..alert() }), shown);
        }
    }

    #[test]
    fn labels_can_neither_mention_nor_mislead() {
        let mut alert = alert();
        alert.summary = "<!channel> <https://evil.example|ok> a&b\n*x*\u{1b}[31m".to_owned();
        let body: Value = serde_json::from_str(&render(&alert).body).unwrap();
        assert_eq!(
            body["text"],
            ":rotating_light: hotswap-api: detected: &lt;!channel&gt; &lt;https://evil.example|ok&gt; a&amp;b *x*"
        );
    }

    #[test]
    fn long_texts_are_cut_before_they_are_escaped() {
        let text = escape(&"<".repeat(5000), 100);
        assert!(text.len() <= 100, "{}", text.len());
        assert!(text.ends_with("&lt;…"), "{text}");
    }
}
