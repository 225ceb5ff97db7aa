//! Both readers against a table of pages, against a simple reference, and against themselves with pages cut anywhere.

mod cases;
mod properties;
mod reference;

use crate::domain::health::selector::Selector;
use crate::domain::observation::Page;
use crate::domain::policy::{Operand, OperandKind, Operands};

use super::*;

/// Selects every series.
const EVERYTHING: &str = "{__name__=~\"(?s).+\"}";

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn operands(selectors: &[&str]) -> Operands {
    let mut operands = Operands::default();
    for text in selectors {
        operands.intern(Operand { selector: selector(text), kind: OperandKind::Value }).unwrap();
    }
    operands
}

fn scan_pieces(
    scanner: &mut Scanner,
    table: &mut SeriesTable,
    format: Format,
    pieces: &[&[u8]],
) -> Result<Page, ScanError> {
    let mut scan = scanner.begin(format);
    for piece in pieces {
        scan.push(table, piece)?;
    }
    scan.finish(table)
}

#[test]
fn scans_and_tables_may_move_between_threads() {
    fn moves<T: Send + 'static>() {}
    moves::<Scanner>();
    moves::<Scan<'static>>();
    moves::<SeriesTable>();
    moves::<Decoder>();
}

#[test]
fn the_format_follows_from_the_content_type_or_the_last_line() {
    let typed = Format::from_content_type;
    assert_eq!(typed(Some("application/openmetrics-text; version=1.0.0; charset=utf-8")), Format::OpenMetrics);
    assert_eq!(typed(Some("Application/OpenMetrics-Text")), Format::OpenMetrics);
    assert_eq!(typed(Some("text/plain; version=0.0.4")), Format::Text);
    assert_eq!(typed(Some("text/html")), Format::Text);
    assert_eq!(typed(None), Format::Text);
    assert_eq!(Format::sniff(b"a 1\n# EOF\n"), Format::OpenMetrics);
    assert_eq!(Format::sniff(b"# EOF"), Format::OpenMetrics);
    assert_eq!(Format::sniff(b"a 1\n"), Format::Text);
    assert_eq!(Format::sniff(b"a 1 # EOF"), Format::Text);
}
