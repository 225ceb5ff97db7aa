use serde_json::json;

use super::*;

const OPENMETRICS: &str = "\
# TYPE http_requests counter
# HELP http_requests Requests\\nserved.
http_requests_total{code=\"200\"} 1027 1395066363.25 # {trace=\"a b\"} 1
http_requests_total{code=\"500\"} NaN
http_requests_created{code=\"200\"} 1395066000
# TYPE latency_seconds histogram
# UNIT latency_seconds seconds
latency_seconds_bucket{le=\"0.1\"} 5
latency_seconds_bucket{le=\"+Inf\"} +Inf
latency_seconds_count 7
loose_count 3
{\"my.metric\",\"label.x\"=\"y\"} -Inf
# EOF
";

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| Selector::parse(text).unwrap()).collect()
}

#[test]
fn a_page_is_shown_as_the_contract_says() {
    let wanted = selectors(&["http_requests_total", r#"{le="+Inf"}"#, r#"{"my.metric"}"#, "none"]);
    let inspection = inspect(OPENMETRICS.as_bytes(), Format::OpenMetrics, &wanted).unwrap();
    assert_eq!(
        serde_json::to_value(&inspection).unwrap(),
        json!({
            "families": [
                {"name": "http_requests", "type": "counter", "help": "Requests\nserved.", "unit": null, "series": 3},
                {"name": "latency_seconds", "type": "histogram", "help": null, "unit": "seconds", "series": 3},
                {"name": "loose_count", "type": "unknown", "help": null, "unit": null, "series": 1},
                {"name": "my.metric", "type": "unknown", "help": null, "unit": null, "series": 1},
            ],
            "matches": [
                {"selector": "http_requests_total", "series": [
                    {"name": "http_requests_total", "labels": {"code": "200"}, "value": 1027.0, "timestamp_ms": 1_395_066_363_250_i64},
                    {"name": "http_requests_total", "labels": {"code": "500"}, "value": "NaN", "timestamp_ms": null},
                ]},
                {"selector": "{le=\"+Inf\"}", "series": [
                    {"name": "latency_seconds_bucket", "labels": {"le": "+Inf"}, "value": "+Inf", "timestamp_ms": null},
                ]},
                {"selector": "{\"my.metric\"}", "series": [
                    {"name": "my.metric", "labels": {"label.x": "y"}, "value": "-Inf", "timestamp_ms": null},
                ]},
                {"selector": "none", "series": []},
            ],
        })
    );
}

#[test]
fn a_person_reads_a_table() {
    let wanted = selectors(&["http_requests_total", "none"]);
    let inspection = inspect(OPENMETRICS.as_bytes(), Format::OpenMetrics, &wanted).unwrap();
    insta::assert_snapshot!(inspection.to_string(), @r#"
     FAMILY           TYPE       UNIT     SERIES  HELP
     http_requests    counter             3       Requests\nserved.
     latency_seconds  histogram  seconds  3
     loose_count      unknown             1
     my.metric        unknown             1

    2 series match http_requests_total
      http_requests_total{code="200"} 1027 @1395066363250
      http_requests_total{code="500"} NaN

    0 series match none
    "#);
}

#[test]
fn hostile_text_can_not_leave_its_place() {
    let page = "# HELP a \u{1b}[2Jgone\na{b=\"\u{1b}[31mred\\nnew line\u{202e}\",c=\"q\\\"b\\\\s\"} 1\n";
    let shown = inspect(page.as_bytes(), Format::Text, &selectors(&["a"])).unwrap().to_string();
    assert!(!shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
    assert!(shown.contains(r#"a{b="\u{1b}[31mred\nnew line\u{202e}",c="q\"b\\s"} 1"#), "{shown}");
}

/// What is shown of a series can be taken over as a selector, which matches it and nothing else.
#[test]
fn names_that_need_quotes_are_quoted() {
    let page = "{\"my.metric\",\"code.class\"=\"5xx\",host=\"a\"} 1\nplain{\"l\u{e4}nge\"=\"1\"} 2\n";
    for (select, series) in [
        ("{\"my.metric\"}", "{\"my.metric\",\"code.class\"=\"5xx\",host=\"a\"}"),
        ("plain", "plain{\"l\u{e4}nge\"=\"1\"}"),
    ] {
        let shown = inspect(page.as_bytes(), Format::Text, &selectors(&[select])).unwrap().to_string();
        assert!(shown.contains(&format!("  {series} ")), "{shown}");
        let again = inspect(page.as_bytes(), Format::Text, &selectors(&[series])).unwrap();
        assert_eq!(again.matches[0].series.len(), 1, "{series}");
    }
}

#[test]
fn the_type_may_come_after_the_series() {
    let page = "rpc_sum 1\nrpc_count 2\n# TYPE rpc summary\nrpc{quantile=\"0.5\"} 3\nrpc_total 4\n";
    let inspection = inspect(page.as_bytes(), Format::Text, &[]).unwrap();
    let seen: Vec<_> = inspection.families.iter().map(|family| (family.name.as_str(), family.series)).collect();
    assert_eq!(seen, [("rpc", 3), ("rpc_total", 1)]);
}

#[test]
fn the_line_of_an_error_is_where_its_sample_begins() {
    let error = |page: &str| inspect(page.as_bytes(), Format::Text, &[]).unwrap_err().to_string();
    assert_eq!(error("a 1\n\n# TYPE a wrong\n"), "line 3: there is no metric type \"wrong\"");
    assert_eq!(error("a{b=\"1\n2\n3\"} 1\nb x\n"), "line 4: the value \"x\" is not a number");
    assert_eq!(error("a 1\nb{c=\"1\n2\"} x\n"), "line 2: the value \"x\" is not a number");
    assert_eq!(error("a 1\nb{c=\"1\n2 x\n"), "line 2: the page ends inside a label value");
}

#[test]
fn the_limits_are_those_of_the_daemon() {
    let over = |page: &str, limits: Limits| {
        inspect_within(page.as_bytes(), Format::Text, &[], &limits).unwrap_err().to_string()
    };
    let limits = Limits::DEFAULT;
    assert_eq!(
        over("a 1\na 1\n", Limits { body_bytes: 7, ..limits }),
        "over the limit: body of more than 7 bytes unpacked"
    );
    assert_eq!(over("a 1\nb 1\n", Limits { samples: 1, ..limits }), "over the limit: more than 1 samples on the page");
    assert_eq!(
        over("a 1\nbbbb 1\n", Limits { line_bytes: 5, ..limits }),
        "line 2: over the limit: line of more than 5 bytes"
    );
    assert_eq!(
        over("# HELP abcd x\n", Limits { name_bytes: 3, ..limits }),
        "line 1: over the limit: name of more than 3 bytes"
    );
}
