use crate::domain::health::selector::Selector;
use crate::domain::observation::Sample;
use crate::domain::policy::{Operand, OperandId, OperandKind, Operands};

use super::*;

fn operands(wanted: &[(&str, OperandKind)]) -> Operands {
    let mut operands = Operands::default();
    for (selector, kind) in wanted {
        operands.intern(Operand { selector: Selector::parse(selector).unwrap(), kind: *kind }).unwrap();
    }
    operands
}

fn values(wanted: &[&str]) -> Operands {
    operands(&wanted.iter().map(|selector| (*selector, OperandKind::Value)).collect::<Vec<_>>())
}

fn scan_with(
    scanner: &mut Scanner,
    table: &mut SeriesTable,
    format: Format,
    chunks: &[&[u8]],
) -> Result<Page, ScanError> {
    let mut scan = scanner.begin(format);
    for chunk in chunks {
        scan.push(table, chunk)?;
    }
    scan.finish(table)
}

fn scan(operands: &Operands, format: Format, page: &[u8]) -> Result<Page, ScanError> {
    scan_with(&mut Scanner::new(Limits::DEFAULT), &mut SeriesTable::new(operands), format, &[page])
}

fn kept(page: &Page) -> Vec<(u16, f64, f64)> {
    page.samples.iter().map(|sample| (sample.operand.0, sample.bound, sample.value)).collect()
}

fn sample_of(operand: u16, page: &Page) -> Vec<Sample> {
    page.samples.iter().copied().filter(|sample| sample.operand == OperandId(operand)).collect()
}

const PAGE: &str = "\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code=\"200\",path=\"/a=b,{c}\"} 1027 1395066363000
http_requests_total{code=\"500\",path=\"/\"} 3
# TYPE latency histogram
latency_bucket{le=\"0.1\"} 5
latency_bucket{le=\"+Inf\"} 7
latency_sum 1.5
latency_count 7
# TYPE rpc summary
rpc{quantile=\"0.99\"} 0.25
rpc_sum 12
process_start_time_seconds 1.7e9
other 4
";

#[test]
fn each_kind_of_operand_reads_its_series() {
    let operands = operands(&[
        ("http_requests_total", OperandKind::Value),
        (r#"http_requests_total{code=~"5.."}"#, OperandKind::Value),
        ("latency", OperandKind::Buckets),
        ("rpc", OperandKind::Quantiles),
    ]);
    let page = scan(&operands, Format::Text, PAGE.as_bytes()).unwrap();
    assert_eq!(
        kept(&page),
        [(0, 0.0, 1027.0), (0, 0.0, 3.0), (1, 0.0, 3.0), (2, 0.1, 5.0), (2, f64::INFINITY, 7.0), (3, 0.99, 0.25)]
    );
    assert_eq!(page.process_start, Some(1.7e9));
    assert_eq!(page.families, None);
    assert_eq!(page.samples[0].timestamp.map(|t| t.as_millis()), Some(1_395_066_363_000));
    assert_eq!(sample_of(0, &page)[1].series, sample_of(1, &page)[0].series);
}

#[test]
fn a_series_listed_twice_counts_once() {
    let wanted = values(&["a"]);
    let once = |page: &str| kept(&scan(&wanted, Format::Text, page.as_bytes()).unwrap());
    assert_eq!(once("a 1\na 2\n"), [(0, 0.0, 1.0)]);
    assert_eq!(once("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\n"), [(0, 0.0, 1.0)]);
    assert_eq!(once("a{x=\"\"} 1\na 2\n"), [(0, 0.0, 1.0)]);
    assert_eq!(once("a 1 100\na 2 200\n"), [(0, 0.0, 2.0)]);
    assert_eq!(once("a 1 200\na 2 100\n"), [(0, 0.0, 1.0)]);
    assert_eq!(once("a 1 200\na 2\n"), [(0, 0.0, 1.0)]);
}
