//! Tables that fit where they are shown.

use comfy_table::{ContentArrangement, Table, presets};

use super::print;
use crate::domain::health::survey::{SignalSource, Source};

/// An empty table: within the width of the terminal where there is one, as wide as it is otherwise.
pub(crate) fn new(header: &[&str]) -> Table {
    within(print::width(), header)
}

fn within(width: Option<u16>, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

/// Where each signal gets its value from.
pub(crate) fn sources(all: &[SignalSource]) -> Table {
    let mut table = new(&["SIGNAL", "FOUND BY", "ON SERIES", "IN"]);
    for SignalSource { signal, source } in all {
        let [found_by, series, unit] = cells(source.as_ref());
        table.add_row([signal.to_string(), found_by, series, unit]);
    }
    table
}

/// Convention, series and unit of a source as cells.
pub(crate) fn cells(source: Option<&Source>) -> [String; 3] {
    match source {
        Some(source) => [convention(source), source.series.join(" / "), source.unit.clone()],
        None => ["nothing".to_owned(), "-".to_owned(), "-".to_owned()],
    }
}

/// Who names the series so.
pub(crate) fn convention(source: &Source) -> String {
    source.convention.clone().unwrap_or_else(|| "policy".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widest(width: Option<u16>) -> usize {
        let mut table = within(width, &["SIGNAL", "ON SERIES"]);
        table.add_row(["error_rate", "http_requests_total{code=~\"5..\"} / http_requests_total{code!=\"\"} and so on"]);
        table.to_string().lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn a_terminal_bounds_the_width_and_a_file_does_not() {
        assert!(widest(None) > 80, "{}", widest(None));
        for width in [40, 60, 80] {
            assert!(widest(Some(width)) <= usize::from(width), "{} in {width}", widest(Some(width)));
        }
    }
}
