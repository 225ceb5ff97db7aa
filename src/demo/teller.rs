//! What the demo shows: a story for people, or one JSON object a line for machines.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use serde::Serialize;

use crate::domain::incident::alert::{Alert, Phase};

/// Writes the story as it happens.
pub(super) struct Teller {
    json: bool,
    colours: bool,
    began: Instant,
}

impl Teller {
    /// Begins now.
    pub(super) fn new(json: bool) -> Self {
        let colours = !json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colours, began: Instant::now() }
    }

    /// Something happened in the demo's world.
    pub(super) fn scene(&self, text: &str) {
        if !self.json {
            self.line("·", "2", text);
        }
    }

    /// An alert came in.
    pub(super) fn alert(&self, alert: &Alert) {
        if self.json {
            self.object(alert);
            return;
        }
        let colour = match alert.phase {
            Phase::Suspected | Phase::Held | Phase::AwaitingApproval => "33",
            Phase::Detected | Phase::Failed | Phase::Escalated => "31",
            Phase::Started | Phase::Verifying => "36",
            Phase::Restored | Phase::Closed => "32",
        };
        self.line(&format!("{:>9}", alert.phase.as_str()), colour, &alert.summary);
        if alert.phase == Phase::Detected {
            self.line(&format!("{:>9}", "stop it"), "2", &alert.stop.command);
        }
    }

    /// The report, once the incident is over.
    pub(super) fn report(&self, markdown: &str) {
        if !self.json {
            self.write(&format!("\n{markdown}\n"));
        }
    }

    /// How it ended.
    pub(super) fn last_word(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// One JSON object on a line of its own.
    pub(super) fn object(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.write(&format!("{text}\n"));
        }
    }

    fn line(&self, label: &str, colour: &str, text: &str) {
        let at = self.began.elapsed().as_secs_f64();
        let line = if self.colours {
            format!("{at:5.1} s  \x1b[{colour}m{label}\x1b[0m  {text}\n")
        } else {
            format!("{at:5.1} s  {label}  {text}\n")
        };
        self.write(&line);
    }

    /// A reader that has gone away is no error.
    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}
