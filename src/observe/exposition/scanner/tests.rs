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

#[test]
fn names_that_only_begin_alike_are_told_apart() {
    let wanted = values(&["foo_bar", "foo"]);
    let page =
        "foo_ba 1\nfoo_bar 2\nfoo_barn 3\nfoo 4\nfoo_b\nfoo_bar{x=\"1\"} 5\nfoo{y=\"1\"} 6\nfoo_bar{x=\"2\"}7\nfoo.5\n";
    let mut table = SeriesTable::new(&wanted);
    let mut scanner = Scanner::new(Limits::DEFAULT);
    for _ in 0..3 {
        let page = scan_with(&mut scanner, &mut table, Format::Text, &[page.as_bytes()]).unwrap();
        let found: Vec<(u16, f64)> = kept(&page).into_iter().map(|(operand, _, value)| (operand, value)).collect();
        assert_eq!(found, [(0, 2.0), (1, 4.0), (0, 5.0), (1, 6.0), (0, 7.0)]);
    }
}

#[test]
fn series_that_come_and_go_are_never_missed() {
    let wanted = values(&["a", "b"]);
    let mut table = SeriesTable::new(&wanted);
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let pages = [
        "a{x=\"1\"} 1\na{x=\"2\"} 2\nz 0\nb 3\n",
        "a{x=\"2\"} 2\nz 0\nb 3\n",
        "a{x=\"0\"} 0\na{x=\"1\"} 1\na{x=\"2\"} 2\nz 0\nb 3\n",
        "b 3\nz 0\na{x=\"2\"} 2\na{x=\"1\"} 1\n",
        "z 0\n",
        "a{x=\"1\"} 1\nz 0\na{x=\"2\"} 2\nb 3\na{x=\"9\"} 9\n",
    ];
    for page in pages.iter().chain(pages.iter().rev()) {
        let expected: Vec<f64> = page
            .lines()
            .filter(|line| !line.starts_with('z'))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        let page = scan_with(&mut scanner, &mut table, Format::Text, &[page.as_bytes()]).unwrap();
        assert_eq!(page.samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_label_value_can_not_pose_as_a_sample() {
    let wanted = values(&["errors"]);
    let page = "evil{x=\"a\\\"} 1\nerrors 666\nb\"} 1\nevil{x=\"\nerrors 667\n\"} 2\nerrors 3\n";
    assert_eq!(kept(&scan(&wanted, Format::Text, page.as_bytes()).unwrap()), [(0, 0.0, 3.0)]);
    let forgotten = "evil{x=\"a 1\nerrors{y=\"1\"} 3\nevil 1\n";
    let error = scan(&wanted, Format::Text, forgotten.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("line 1: "), "{error}");
    let error = scan(&wanted, Format::OpenMetrics, b"evil{x=\"a 1\nerrors 3\n# EOF\n").unwrap_err().to_string();
    assert_eq!(error, "line 1: a quoted string is not closed on its line");
}

#[test]
fn what_no_rule_asks_for_need_not_be_well_formed() {
    let wanted = values(&["a"]);
    let page = "junk\n9x ??\nb{c=} x\n# TYPE b nonsense\n\r\nb 1e999\na 1\nb{=\n";
    assert_eq!(kept(&scan(&wanted, Format::Text, page.as_bytes()).unwrap()), [(0, 0.0, 1.0)]);
    let error = scan(&wanted, Format::Text, b"b 1\na one\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2: the value \"one\" is not a number");
}

#[test]
fn a_wanted_line_that_turns_bad_fails_the_page_although_it_was_due() {
    let wanted = values(&["a"]);
    let mut table = SeriesTable::new(&wanted);
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let mut scan = |page: &str| scan_with(&mut scanner, &mut table, Format::Text, &[page.as_bytes()]);
    assert!(scan("a{x=\"1\"} 1\n").is_ok());
    for (page, expected) in [
        ("a{x=\"1\"} 1e999\n", "line 1: the value \"1e999\" is out of range"),
        ("a{x=\"1\"}\n", "line 1: expected a value, got the end of the line"),
        ("a{x=\"1\"} 1 x\n", "line 1: expected a time stamp in milliseconds or the end of the line, got \"x\""),
        ("a{x=\"1\"} 1\r\n", "line 1: the line ends in CR LF; the format ends lines in LF alone"),
    ] {
        assert_eq!(scan(page).unwrap_err().to_string(), expected);
    }
    assert_eq!(kept(&scan("a{x=\"1\"} 2 5\n").unwrap()), [(0, 0.0, 2.0)]);
}

#[test]
fn openmetrics_must_be_whole() {
    let wanted = values(&["a"]);
    let scan = |page: &str| scan(&wanted, Format::OpenMetrics, page.as_bytes()).map(|page| kept(&page));
    assert_eq!(scan("a 1\n# EOF\n").unwrap(), [(0, 0.0, 1.0)]);
    assert_eq!(scan("a 1\n# EOF").unwrap(), [(0, 0.0, 1.0)]);
    assert_eq!(scan("a 1\n").unwrap_err().to_string(), "line 1: the page does not end with # EOF");
    assert_eq!(scan("# EOF\na 1\n").unwrap_err().to_string(), "line 2: data after # EOF");
    assert_eq!(scan("# EOF\n\n").unwrap_err().to_string(), "line 2: data after # EOF");
}

#[test]
fn each_limit_fails_the_page_and_says_which_it_is() {
    let defaults = Limits::DEFAULT;
    let cases: &[(Limits, &str, &str)] = &[
        (Limits { body_bytes: 7, ..defaults }, "x 1\nx 1\n", "over the limit: body of more than 7 bytes unpacked"),
        (Limits { samples: 2, ..defaults }, "x 1\nx 2\n\n#\na 1\n", "over the limit: more than 2 samples on the page"),
        (
            Limits { kept: 1, ..defaults },
            "a{x=\"1\"} 1\na{x=\"2\"} 1\n",
            "over the limit: more than 1 series that one rule keeps",
        ),
        (Limits { labels: 1, ..defaults }, "x 1\na{b=\"\",c=\"\"} 1\n", "line 2: over the limit: more than 1 labels"),
        (Limits { name_bytes: 2, ..defaults }, "a{bcd=\"\"} 1\n", "line 1: over the limit: name of more than 2 bytes"),
        (
            Limits { value_bytes: 2, ..defaults },
            "a{b=\"xyz\"} 1\n",
            "line 1: over the limit: label value of more than 2 bytes",
        ),
        (Limits { line_bytes: 5, ..defaults }, "x 1\nx 1111\n", "line 2: over the limit: line of more than 5 bytes"),
        (Limits { line_bytes: 5, ..defaults }, "x 1111", "line 1: over the limit: line of more than 5 bytes"),
        (
            Limits { line_bytes: 9, ..defaults },
            "x{y=\"\n\n\n\n\n\"} 1\n",
            "line 1: over the limit: line of more than 9 bytes",
        ),
    ];
    let wanted = values(&["a"]);
    for (limits, page, expected) in cases {
        let mut scanner = Scanner::new(*limits);
        let error = scan_with(&mut scanner, &mut SeriesTable::new(&wanted), Format::Text, &[page.as_bytes()]);
        assert_eq!(error.unwrap_err().to_string(), *expected, "{page:?}");
        let fits =
            scan_with(&mut Scanner::new(defaults), &mut SeriesTable::new(&wanted), Format::Text, &[page.as_bytes()]);
        assert!(fits.is_ok(), "{page:?}: {fits:?}");
    }
}

#[test]
fn what_a_page_offers_is_told_where_an_operand_finds_nothing() {
    let wanted = values(&["a", "missing"]);
    let mut table = SeriesTable::new(&wanted);
    let page = "# TYPE lat histogram\nlat_bucket{le=\"1\"} 1\nlat_sum 1\nlat_count 1\na 1\nz{x=\"1\"} 1\nz{x=\"2\"} 1\nb 1\na{x=\"1\"} 1\n";
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let names = |page: &Page| page.families.as_ref().map(|names| names.join(" "));
    let mut scan = |page: &str| scan_with(&mut scanner, &mut table, Format::Text, &[page.as_bytes()]).unwrap();
    let first = scan(page);
    assert_eq!(names(&first).as_deref(), Some("a b lat z"));
    let again = scan(page);
    assert!(Arc::ptr_eq(first.families.as_ref().unwrap(), again.families.as_ref().unwrap()));
    assert_eq!(names(&scan(&format!("{page}missing 1\n"))), None);
    // Another page: one scrape later its names are known.
    let changed = page.replace("z{", "y{");
    scan(&changed);
    assert_eq!(names(&scan(&changed)).as_deref(), Some("a b lat y"));
}

#[test]
fn what_the_first_page_offers_is_told_and_then_only_what_something_is_missing_on() {
    let wanted = values(&["a"]);
    let mut table = SeriesTable::new(&wanted);
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let mut names = |page: &str| {
        let page = scan_with(&mut scanner, &mut table, Format::Text, &[page.as_bytes()]).unwrap();
        page.families.map(|names| names.join(" "))
    };
    assert_eq!(names("a 1\nb 1\n").as_deref(), Some("a b"));
    assert_eq!(names("a 2\nb 1\n"), None);
    assert_eq!(names("a 3\nb 1\nc 1\n"), None);
    // Renamed: one scrape later the names are known.
    names("a_new 4\nb 1\n");
    assert_eq!(names("a_new 5\nb 1\n").as_deref(), Some("a_new b"));
}

#[test]
fn selectors_without_a_name_see_every_name() {
    let wanted = operands(&[
        (r#"{__name__=~"http_.*",code=~"5.."}"#, OperandKind::Value),
        (r#"{job="x"}"#, OperandKind::Value),
        (r#"{__name__=~"lat.*"}"#, OperandKind::Buckets),
    ]);
    let page = "http_a{code=\"500\"} 1\nhttp_a{code=\"200\"} 2\nother{job=\"x\"} 3\nother 4\nlatency_bucket{le=\"1\"} 5\nlatency_bucket{le=\"one\"} 6\nlatency_bucket 7\nlatency_sum 8\n";
    let mut table = SeriesTable::new(&wanted);
    let mut scanner = Scanner::new(Limits::DEFAULT);
    for _ in 0..2 {
        let page = scan_with(&mut scanner, &mut table, Format::Text, &[page.as_bytes()]).unwrap();
        assert_eq!(kept(&page), [(0, 0.0, 1.0), (1, 0.0, 3.0), (2, 1.0, 5.0)]);
    }
}

#[test]
fn the_start_of_the_process_is_read_without_being_asked_for() {
    let start = |page: &str| scan(&Operands::default(), Format::Text, page.as_bytes()).unwrap().process_start;
    assert_eq!(start("a 1\nprocess_start_time_seconds 1.5e9\n"), Some(1.5e9));
    assert_eq!(start("process_start_time_seconds NaN\n"), None);
    assert_eq!(start("process_start_time_seconds_x 1\n"), None);
    assert_eq!(start(""), None);
}
