//! The page as a person reads it. Texts of the page are hostile: nothing in them may move the cursor or fake a line.

use std::fmt;

use comfy_table::{ContentArrangement, Table, presets};

use super::{Inspection, Match, special};
use crate::domain::health::selector::{is_plain_label_name, is_plain_metric_name};

/// Characters of a help text that a row shows.
const HELP_CHARACTERS: usize = 60;

impl Inspection {
    /// For people; within so many columns, where they are bounded.
    #[must_use]
    pub fn render(&self, width: Option<u16>) -> String {
        let mut text = String::new();
        // A `String` takes every write.
        let _ = self.write(&mut text, width);
        text
    }

    fn write(&self, f: &mut impl fmt::Write, width: Option<u16>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["FAMILY", "TYPE", "UNIT", "SERIES", "HELP"]);
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        for family in &self.families {
            table.add_row([
                plain(&family.name),
                family.kind.to_owned(),
                plain(family.unit.as_deref().unwrap_or("")),
                family.series.to_string(),
                shortened(&plain(family.help.as_deref().unwrap_or(""))),
            ]);
        }
        writeln!(f, "{}", table.trim_fmt())?;
        for matches in &self.matches {
            let count = matches.series.len();
            let noun = if count == 1 { "series matches" } else { "series match" };
            writeln!(f, "\n{count} {noun} {}", plain(&matches.selector))?;
            for series in &matches.series {
                writeln!(f, "  {series}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, None)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As PromQL writes it, so that it can be taken over into a policy.
        let mut within: Vec<String> = Vec::with_capacity(self.labels.len() + 1);
        if is_plain_metric_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            within.push(quoted(&self.name));
        }
        within.extend(self.labels.iter().map(|(name, value)| {
            let name = if is_plain_label_name(name) { name.clone() } else { quoted(name) };
            format!("{name}={}", quoted(value))
        }));
        if !within.is_empty() {
            write!(f, "{{{}}}", within.join(","))?;
        }
        match special(self.value) {
            Some(text) => write!(f, " {text}")?,
            None => write!(f, " {}", self.value)?,
        }
        match self.timestamp_ms {
            Some(timestamp) => write!(f, " @{timestamp}"),
            None => Ok(()),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Text without control characters and without marks that reorder what stands around them.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        let reorders = matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || reorders {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(HELP_CHARACTERS) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
