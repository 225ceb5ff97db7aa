use proptest::prelude::*;

use super::*;

fn selects(selector: &str, name: &str, labels: &[(&str, &str)]) -> bool {
    Selector::parse(selector)
        .unwrap()
        .matches(name, |wanted| labels.iter().find(|(label, _)| *label == wanted).map(|(_, value)| *value))
}

#[test]
fn matchers_mean_what_prometheus_means_by_them() {
    let labels = [("code", "500"), ("path", "/a=b,{c}"), ("multi", "a\nb")];
    let cases: &[(&str, bool)] = &[
        ("http_requests_total", true),
        ("http_requests", false),
        ("http_requests_total{}", true),
        (r#"http_requests_total{code="500"}"#, true),
        (r#"http_requests_total{code="50"}"#, false),
        (r#"http_requests_total{code!="500"}"#, false),
        (r#"http_requests_total{code=~"5.."}"#, true),
        (r#"http_requests_total{code=~"5."}"#, false),
        (r#"http_requests_total{code=~"00"}"#, false),
        (r#"http_requests_total{code=~"4..|5.."}"#, true),
        (r#"http_requests_total{code!~"5.."}"#, false),
        (r#"http_requests_total{code!~"4.."}"#, true),
        (r#"http_requests_total{path="/a=b,{c}"}"#, true),
        (r#"http_requests_total{path='/a=b,{c}'}"#, true),
        (r#"http_requests_total{path=~"/a=b,{c}"}"#, true),
        (r#"http_requests_total{path=~"\\Q/a=b,{c}\\E"}"#, true),
        (r#"http_requests_total{path=~ '/a=b,\\{c}', code !~ "\\D+"}"#, true),
        (r#"http_requests_total{code=~`\d\Q0\E.`, path!~"a\"=~\"b"}"#, true),
        ("http_requests_total{code # =~\n =~ # \"x\"\n \"5..\"}", true),
        (r#"http_requests_total{multi=~"a.b"}"#, true),
        (r#"http_requests_total{multi="a\nb"}"#, true),
        (r#"http_requests_total{absent=""}"#, true),
        (r#"http_requests_total{absent!=""}"#, false),
        (r#"http_requests_total{absent=~".*"}"#, true),
        (r#"http_requests_total{absent=~".+"}"#, false),
        (r#"http_requests_total{absent!~".+"}"#, true),
        (r#"http_requests_total{code="500",absent="x"}"#, false),
        (r#"{__name__="http_requests_total"}"#, true),
        (r#"{__name__=~"http_.*_total"}"#, true),
        (r#"{__name__=~"http"}"#, false),
        (r#"{__name__!="http_requests_total",code="500"}"#, false),
        (r#"{"http_requests_total",code="500"}"#, true),
        (r#"{code="500"}"#, true),
    ];
    for (selector, expected) in cases {
        assert_eq!(selects(selector, "http_requests_total", &labels), *expected, "{selector}");
    }
}

#[test]
fn names_outside_the_old_alphabet_are_quoted() {
    assert!(selects(r#"{"my.metric","label.x"="y"}"#, "my.metric", &[("label.x", "y")]));
    assert!(selects("job:requests:rate5m", "job:requests:rate5m", &[]));
}

#[test]
fn an_exact_name_is_told_from_a_pattern() {
    let name = |text| Selector::parse(text).unwrap().name().map(str::to_owned);
    assert_eq!(name("up").as_deref(), Some("up"));
    assert_eq!(name(r#"{__name__="up"}"#).as_deref(), Some("up"));
    assert_eq!(name(r#"{__name__=~"up"}"#), None);
    assert_eq!(name(r#"{job="x"}"#), None);
}

#[test]
fn what_is_no_selector_says_why() {
    let cases = [
        ("up[5m]", "it is a range; leave out the [duration]"),
        ("up offset 5m", "`offset` reads the past"),
        ("up @ 17", "`@` reads the past"),
        ("rate(up[5m])", "it is a function call"),
        ("sum(up)", "it is an aggregation"),
        ("up / up", "it is an arithmetic expression"),
        ("-up", "it is an arithmetic expression"),
        ("(up)", "it is in parentheses"),
        ("up[5m:1m]", "it is a subquery"),
        ("17", "it is a number"),
        ("'up'", "it is a string"),
        ("", "no expression found in input"),
        ("{}", "at least one non-empty matcher"),
        (r#"{job=~".*"}"#, "at least one non-empty matcher"),
        (r#"{job=""}"#, "at least one non-empty matcher"),
        (r#"{__name__=""}"#, "at least one non-empty matcher"),
        (r#"{job=~"(?s).*"}"#, "at least one non-empty matcher"),
        (r#"up{__name__="down"}"#, "must not be set twice"),
        (r#"up{a="1" or b="2"}"#, "`or` between matchers is not PromQL"),
        (r#"up{a=~"("}"#, "illegal regex for ("),
        (r#"up{a=~"b++"}"#, "illegal regex for b++: invalid nested repetition operator: `++`"),
        (r#"up{a!~"\d"}"#, "escape"),
        (r#"up{a=~"b}"#, "unterminated"),
        ("up{a=b}", "unexpected"),
        ("up{a=\"\\é\"}", "a backslash stands before"),
        ("up{a=\"\\\\\\é\"}", "a backslash stands before"),
    ];
    for (text, expected) in cases {
        let error = Selector::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.starts_with(&format!("{text:?} is not a selector")), "{error}");
    }
}

#[test]
fn text_and_selector_are_one() {
    for text in [
        "up{a=\"\\\\é\"}",
        "up",
        r#"up{a="1",b!="2",c=~"3|4",d!~"5"}"#,
        r#"{"my.metric","label.x"="y"}"#,
        r#"{"my.metric"}"#,
        r#"{a="q\"b\\s\nn\tt"}"#,
        r#"{__name__=~"http_.*",a="b"}"#,
        r#"up{a=~"\\Qb{\\E",c!~"{d}"}"#,
    ] {
        assert_eq!(Selector::parse(text).unwrap().to_string(), text);
    }
    let spelt_out = Selector::parse(r#"{__name__="up"}"#).unwrap();
    assert_eq!(spelt_out, Selector::parse("up").unwrap());
    assert_eq!(Selector::parse("up{}").unwrap().to_string(), "up");
    assert_ne!(spelt_out, Selector::parse(r#"up{a="b"}"#).unwrap());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_fall_over(text in "\\PC{0,40}") {
        let _ = Selector::parse(&text);
    }

    #[test]
    fn nor_does_one_that_is_nearly_a_selector(text in r#"[a-z]{0,3}\{["a-z.]{0,4}[=!~]{1,2}["'][a-zé\\"(){}*+0-9,]{0,8}["']?\}?"#) {
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(&Selector::parse(&selector.to_string()).unwrap(), &selector);
        }
    }
}
