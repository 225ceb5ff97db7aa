//! Pages that Prometheus' own parsers accept or refuse, and what they read from them.

use super::*;

use Format::{OpenMetrics as O, Text as T};

/// What the inspector makes of a page: its samples as `name{labels sorted} value @ms`, or its error.
fn read(format: Format, page: &str) -> Result<Vec<String>, String> {
    inspect(page.as_bytes(), format, &[selector(EVERYTHING)])
        .map(|mut inspection| inspection.matches.remove(0).series.iter().map(ToString::to_string).collect())
        .map_err(|error| error.to_string())
}

const ACCEPTED: &[(Format, &str, &[&str])] = &[
    // The text format: what a line may look like.
    (T, "", &[]),
    (T, "\n\n", &[]),
    (T, "  \t \n", &[]),
    (T, "a 1", &["a 1"]),
    (T, "a 1\n b 2\n# of c\nc 3\n", &["a 1", "b 2", "c 3"]),
    (T, "a 1\n", &["a 1"]),
    (T, "a\t1\n", &["a 1"]),
    (T, "a  \t 1 \t\n", &["a 1"]),
    (T, "  a 1\n", &["a 1"]),
    (T, "a+1\n", &["a 1"]),
    (T, "a.5\n", &["a 0.5"]),
    (T, "a{}1\n", &["a 1"]),
    (T, "a 1\n\n# end\n\nb 2\n", &["a 1", "b 2"]),
    // Names.
    (T, "some:aggregate:rate5m{a_b=\"c\"}\t1\n", &["some:aggregate:rate5m{a_b=\"c\"} 1"]),
    (T, ":a 1\n", &[":a 1"]),
    (T, "_starts_with_underscore 1\n", &["_starts_with_underscore 1"]),
    (T, "a{_b=\"c\"} 1\n", &["a{_b=\"c\"} 1"]),
    (T, "a9{b9=\"c\"} 1\n", &["a9{b9=\"c\"} 1"]),
    (T, "{\"my.metric\",\"label.x\"=\"y\"} 1\n", &["{\"my.metric\",\"label.x\"=\"y\"} 1"]),
    (T, "{\"my.metric\"} 1\n", &["{\"my.metric\"} 1"]),
    (T, "{\"my.metric\",} 1\n", &["{\"my.metric\"} 1"]),
    (T, "{ \"my.metric\" , b = \"c\" } 1\n", &["{\"my.metric\",b=\"c\"} 1"]),
    (T, "{b=\"c\",\"my.metric\"} 1\n", &["{\"my.metric\",b=\"c\"} 1"]),
    (T, "{b=\"c\" \"my.metric\"} 1\n", &["{\"my.metric\",b=\"c\"} 1"]),
    (T, "a{\"label.x\"=\"y\"} 1\n", &["a{\"label.x\"=\"y\"} 1"]),
    (T, "{\"q\\\"uo\\\\te\\nd\"} 1\n", &["{\"q\\\"uo\\\\te\\nd\"} 1"]),
    (
        T,
        "{\"Heizölrückstoßabdämpfung 10€\",\"strange©™\"=\"6\"} 10.0\n",
        &["{\"Heizölrückstoßabdämpfung 10€\",\"strange©™\"=\"6\"} 10"],
    ),
    // Labels.
    (T, "a{} 1\n", &["a 1"]),
    (T, "a{b=\"c\"} 1\n", &["a{b=\"c\"} 1"]),
    (T, "a {b=\"c\"} 1\n", &["a{b=\"c\"} 1"]),
    (T, "a{b=\"c\",} 1\n", &["a{b=\"c\"} 1"]),
    (T, "a{ b = \"c\" , d = \"e\" , } 1\n", &["a{b=\"c\",d=\"e\"} 1"]),
    (T, "a { quantile = \"2.0\" a = \"b\" } 8\n", &["a{a=\"b\",quantile=\"2.0\"} 8"]),
    (T, "a{b=\"c\"d=\"e\"} 1\n", &["a{b=\"c\",d=\"e\"} 1"]),
    (T, "a{b=\"\"} 1\n", &["a 1"]),
    (T, "a{b=\"x,y=z{}#\"} 1\n", &["a{b=\"x,y=z{}#\"} 1"]),
    (T, "a{b=\"}\",c=\"{\"} 1\n", &["a{b=\"}\",c=\"{\"} 1"]),
    (T, "a{b=\"/a=b\"} 1\n", &["a{b=\"/a=b\"} 1"]),
    (T, "a{b=\"\\\"bar\\\"\"} 1\n", &["a{b=\"\\\"bar\\\"\"} 1"]),
    (T, "a{b=\"C:\\\\\"} 1\n", &["a{b=\"C:\\\\\"} 1"]),
    (T, "a{b=\"l\\nm\"} 1\n", &["a{b=\"l\\nm\"} 1"]),
    (T, "a{b=\"l\nm\"} 1\n", &["a{b=\"l\\nm\"} 1"]),
    (T, "a{b=\"\n\n\"} 1\nb 2", &["a{b=\"\\n\\n\"} 1", "b 2"]),
    (T, "a{b=\"x\\y\"} 1\n", &["a{b=\"x\\\\y\"} 1"]),
    (T, "a{b=\"tab\there\"} 1\n", &["a{b=\"tab\\there\"} 1"]),
    (T, "a{b=\"c\r\"} 1\n", &["a{b=\"c\\r\"} 1"]),
    (T, "a{b=\"abc\0\"} 1\n", &["a{b=\"abc\\u{0}\"} 1"]),
    (T, "a{b=\"日本\"} 1\n", &["a{b=\"日本\"} 1"]),
    // Values.
    (T, "a 4.9351e-05\n", &["a 0.000049351"]),
    (T, "a 1E+2\n", &["a 100"]),
    (T, "a -1.5\n", &["a -1.5"]),
    (T, "a +1.5\n", &["a 1.5"]),
    (T, "a 1.\n", &["a 1"]),
    (T, "a NaN\nb nan\n", &["a NaN", "b NaN"]),
    (T, "a Inf\nb +Inf\nc -inf\nd Infinity\n", &["a +Inf", "b +Inf", "c -Inf", "d +Inf"]),
    (T, "a 1e-999\n", &["a 0"]),
    (T, "a 007\n", &["a 7"]),
    // Time stamps.
    (T, "a 33  \t123123\n", &["a 33 @123123"]),
    (T, "a 1 0 \n", &["a 1 @0"]),
    // Comments and metadata.
    (T, "#\n# \n#comment\n# comment\n", &[]),
    (T, "  # indented\n", &[]),
    (T, "# Hrandom comment starting with prefix of HELP\n", &[]),
    (T, "# HELP\n# TYPE\n", &[]),
    (T, "# HELP a\n# HELP b \n# HELP c  \n", &[]),
    (T, "# \tTYPE a summary\n", &[]),
    (T, "#\tHELP\ta\tb \\n \\\\ \\x\n", &[]),
    (T, "# HELP a foo\0bar\n", &[]),
    (T, "# HELP a a \"quote that stays open\nb 1\n", &["b 1"]),
    (T, "# TYPE a untyped\n# TYPE b counter\n# TYPE c gauge\n# TYPE d histogram\n", &[]),
    (T, "# TYPE \"my.metric\" gauge\n", &[]),
    (T, "# UNIT a nonsense\n", &[]),
    (T, "# EOF\na 1\n", &["a 1"]),
    // OpenMetrics.
    (O, "# EOF", &[]),
    (O, "# EOF\n", &[]),
    (O, "a 1\n# EOF\n", &["a 1"]),
    (O, "a{b=\"c\"} 1\n# EOF\n", &["a{b=\"c\"} 1"]),
    (O, "a{b=\"c\",} 1\n# EOF\n", &["a{b=\"c\"} 1"]),
    (O, "a{} 1\n# EOF\n", &["a 1"]),
    (O, "a 33 123.123\n# EOF\n", &["a 33 @123123"]),
    (O, "a 1 -1\n# EOF\n", &["a 1 @-1000"]),
    (O, "a 1 1e3\n# EOF\n", &["a 1 @1000000"]),
    (O, "a_total 17.0 1520879607.789 # {id=\"counter-test\"} 5\n# EOF\n", &["a_total 17 @1520879607789"]),
    (O, "a_bucket{le=\"+Inf\"} 1 # {id=\"x\",yy=\"z\"} 4 123.123\n# EOF\n", &["a_bucket{le=\"+Inf\"} 1"]),
    (O, "a_total 1 # {} 4\n# EOF\n", &["a_total 1"]),
    (O, "a_total 1 # {\"id.thing\"=\"}\"} 4\n# EOF\n", &["a_total 1"]),
    (O, "{\"my.metric\",\"label.x\"=\"y\"} 1\n# EOF\n", &["{\"my.metric\",\"label.x\"=\"y\"} 1"]),
    (O, "{q=\"0.9\",\"http.status\",a=\"b\"} 8\n# EOF\n", &["{\"http.status\",a=\"b\",q=\"0.9\"} 8"]),
    (O, "# TYPE a unknown\n# TYPE b info\n# TYPE c stateset\n# TYPE d gaugehistogram\n# EOF\n", &[]),
    (O, "# UNIT a_seconds seconds\n# UNIT b \n# EOF\n", &[]),
    (O, "# HELP a \n# HELP b escape \\ \\n \\\\ \\\" \\x chars\n# EOF\n", &[]),
    (O, "a{b=\"abc\0\"} 1\n# EOF\n", &["a{b=\"abc\\u{0}\"} 1"]),
];

const REFUSED: &[(Format, &str, &str)] = &[
    (T, "a", "line 1: expected a value, got the end of the line"),
    (T, "a \n", "line 1: expected a value, got the end of the line"),
    (T, "a{b='c'} 1\n", "line 1: expected a label value in double quotes, got \"'c'} 1\""),
    (T, "a{b=\n", "line 1: expected a label value in double quotes, got the end of the line"),
    (T, "a{b} 1\n", "line 1: expected = after the label name, got \"} 1\""),
    (T, "a{b,c=\"d\"} 1\n", "line 1: expected = after the label name, got \",c=\\\"d\\\"} 1\""),
    (T, "a{=\"\"} 0\n", "line 1: expected a label name, got \"=\\\"\\\"} 0\""),
    (T, "a{\"\"=\"x\"} 0\n", "line 1: a label name is empty"),
    (T, "a{,b=\"c\"} 1\n", "line 1: expected a label name, got \",b"),
    (T, "a{b=\"c\",,d=\"e\"} 1\n", "line 1: expected a label name, got \",d"),
    (T, "a{b:c=\"d\"} 1\n", "line 1: expected = after the label name"),
    (T, "a{9b=\"d\"} 1\n", "line 1: expected a label name"),
    (T, "a{b=\"c\" 1\n", "line 1: expected a label name, got \"1\""),
    (T, "a{b=\"c\"\n", "line 1: expected a label name, got the end of the line"),
    (T, "a{b=\"c\n", "line 1: the page ends inside a label value"),
    (T, "a{b=\"c\\\nd\"} 1\n", "line 1: the quote of"),
    (T, "a{b=\"c\",b=\"d\"} 1\n", "line 1: label \"b\" is given twice"),
    (T, "a{b=\"c\",\"b\"=\"d\"} 1\n", "line 1: label \"b\" is given twice"),
    (T, "a{__name__=\"b\"} 1\n", "line 1: the metric name is given twice"),
    (T, "a{\"b\"} 1\n", "line 1: the metric name is given twice"),
    (T, "{\"a\",\"b\"} 1\n", "line 1: the metric name is given twice"),
    (T, "{a=\"ok\"} 1\n", "line 1: the series has no metric name"),
    (T, "{} 1\n", "line 1: the series has no metric name"),
    (T, "{\"\"} 1\n", "line 1: the metric name is empty"),
    (T, "{\"a\", \"b = \"c\"}\n", "line 1: expected = after the label name, got \"c"),
    (T, "{\"a\",b\\nc=\"d\"} 1\n", "line 1: expected = after the label name, got \"\\\\nc"),
    (T, "{\"a\" b=\"c\"} 1\n", "line 1: expected = after the label name, got \"b"),
    (T, "{\"a\0b\"} 1\n", "line 1: a quoted name holds a NUL byte"),
    (T, "9a 1\n", "line 1: expected a metric name, got \"9a 1\""),
    (T, "é 1\n", "line 1: expected a metric name"),
    (T, "\0a 1\n", "line 1: expected a metric name"),
    (T, "a\0{b=\"ddd\"} 1\n", "line 1: the value"),
    (T, "a{b=\0\"ssss\"} 1\n", "line 1: expected a label value in double quotes"),
    (T, "a true\n", "line 1: the value \"true\" is not a number"),
    (T, "a 1_2\n", "line 1: the value \"1_2\" is not a number"),
    (T, "a 0x1p-3\n", "line 1: the value \"0x1p-3\" is not a number"),
    (T, "a 0x10\n", "line 1: the value \"0x10\" is not a number"),
    (T, "a +NaN\n", "line 1: the value \"+NaN\" is not a number"),
    (T, "a 1e999\n", "line 1: the value \"1e999\" is out of range"),
    (T, "a 1{\n", "line 1: expected a time stamp in milliseconds or the end of the line, got \"{\""),
    (T, "a 1 1.5\n", "line 1: expected the end of the line after the time stamp, got \".5\""),
    (T, "a 1 -5\n", "line 1: expected a time stamp in milliseconds or the end of the line, got \"-5\""),
    (T, "a 1 1_2\n", "line 1: expected the end of the line after the time stamp, got \"_2\""),
    (T, "a 1 2 3\n", "line 1: expected the end of the line after the time stamp, got \"3\""),
    (T, "a 1 9223372036854775808\n", "line 1: the time stamp \"9223372036854775808\" is out of range"),
    (T, "a 1 # {b=\"c\"} 1\n", "line 1: expected a time stamp in milliseconds"),
    (T, "a 1\r\nb 2\r\n", "line 1: the line ends in CR LF; the format ends lines in LF alone"),
    (T, "a 1 2\r\n", "line 1: the line ends in CR LF"),
    (T, "# TYPE a counter\r\n", "line 1: the line ends in CR LF"),
    (T, "a 1\nb\n", "line 2: expected a value"),
    (T, "# TYPE a\n", "line 1: there is no metric type \"\""),
    (T, "# TYPE a  counter\n", "line 1: there is no metric type \" counter\""),
    (T, "# TYPE a counter \n", "line 1: there is no metric type \"counter \""),
    (T, "# TYPE a.b counter\n", "line 1: there is no metric type \"b counter\""),
    (T, "# TYPE a info\n", "line 1: there is no metric type \"info\""),
    (T, "# TYPE #\n", "line 1: expected a metric name after # TYPE, got \"#\""),
    (T, "# HELP #\n", "line 1: expected a metric name after # HELP, got \"#\""),
    (T, "# HELP \n", "line 1: expected a metric name after # HELP, got the end of the line"),
    // OpenMetrics.
    (O, "", "line 1: the page does not end with # EOF"),
    (O, "a 1\n", "line 2: the page does not end with # EOF"),
    (O, "\n# EOF\n", "line 1: a blank line, which OpenMetrics does not allow"),
    (O, " a 1\n# EOF\n", "line 1: expected a metric name, got \" a 1\""),
    (O, "a  1\n# EOF\n", "line 1: expected a value"),
    (O, "a\t1\n# EOF\n", "line 1: expected one space and a value"),
    (O, "a1\n# EOF\n", "line 1: expected one space and a value"),
    (O, "a{b=\"c\"}1\n# EOF\n", "line 1: expected one space and a value, got \"1\""),
    (O, "a {b=\"c\"} 1\n# EOF\n", "line 1: the value"),
    (O, "a{ b=\"c\"} 1\n# EOF\n", "line 1: expected a label name"),
    (O, "a{b=\"c\"d=\"e\"} 1\n# EOF\n", "line 1: expected a comma or }, got \"d"),
    (O, "a{b=\"c\", d=\"e\"} 1\n# EOF\n", "line 1: expected a label name, got \" d"),
    (O, "a{b=\"c\nd\"} 1\n# EOF\n", "line 1: the quote of"),
    (O, "a 1 \n# EOF\n", "line 1: expected a time stamp in seconds"),
    (O, "a 1 2 \n# EOF\n", "line 1: expected the end of the line or an exemplar, got \" \""),
    (O, "a 1 1 1\n# EOF\n", "line 1: expected the end of the line or an exemplar, got \" 1\""),
    (O, "a 1 1z\n# EOF\n", "line 1: the time stamp \"1z\" is not a number"),
    (O, "a 1 NaN\n# EOF\n", "line 1: the time stamp \"NaN\" is not a number"),
    (O, "a 1 -Inf\n# EOF\n", "line 1: the time stamp \"-Inf\" is not a number"),
    (O, "a 1\r\n# EOF\n", "line 1: the line ends in CR LF"),
    (O, "a_total 1 # {aa=bb} 1\n# EOF\n", "line 1: expected an exemplar's label value in double quotes"),
    (O, "a_total 1 # {aa=\"bb\"}\n# EOF\n", "line 1: expected one space and the exemplar's value"),
    (O, "a_total 1 # {bb} 1\n# EOF\n", "line 1: expected =, got \"} 1\""),
    (O, "a_total 1 # {\"bb\"} 1\n# EOF\n", "line 1: expected = after the exemplar's label name"),
    (O, "a_total 1 # {aa=\"bb\",,cc=\"dd\"} 1\n# EOF\n", "line 1: expected a label name"),
    (O, "a_total 1 # {aa=\"bb\"} true\n# EOF\n", "line 1: the value \"true\" is not a number"),
    (O, "a_total 1 # {aa=\"bb\"} 4 NaN\n# EOF\n", "line 1: the time stamp \"NaN\" is not a number"),
    (O, "a_total 1 # {aa=\"\0\"} 4\n# EOF\n", "line 1: an exemplar's label value holds a NUL byte"),
    (O, "a_total 1 #\n# EOF\n", "line 1: the time stamp \"#\" is not a number"),
    (O, "# EOF\na 1\n", "line 2: data after # EOF"),
    (O, "# EOF\n\n", "line 2: data after # EOF"),
    (O, "# EOFa 1\n", "line 1: data after # EOF"),
    (O, "#EOF\n", "line 1: expected # HELP, # TYPE, # UNIT or # EOF, got \"#EOF\""),
    (O, "# comment\n# EOF\n", "line 1: expected # HELP, # TYPE, # UNIT or # EOF"),
    (O, "#  TYPE c counter\n# EOF\n", "line 1: expected # HELP, # TYPE, # UNIT or # EOF"),
    (O, "# TYPE u untyped\n# EOF\n", "line 1: there is no metric type \"untyped\""),
    (O, "# TYPE m\n# EOF\n", "line 1: expected one space and a text after # TYPE m"),
    (O, "# TYPE \n# EOF\n", "line 1: expected a metric name after # TYPE"),
    (O, "# HELP m\n# EOF\n", "line 1: expected one space and a text after # HELP m"),
    (O, "# UNIT metric suffix\n# EOF\n", "line 1: the unit \"suffix\" is not the end of the name \"metric\""),
    (O, "# UNIT metricsuffix suffix\n# EOF\n", "line 1: the unit \"suffix\" is not the end of the name"),
];

#[test]
fn what_prometheus_accepts_is_read_as_it_reads_it() {
    for (format, page, expected) in ACCEPTED {
        let read = read(*format, page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert_eq!(read, *expected, "{format:?} {page:?}");
    }
}

#[test]
fn what_prometheus_refuses_is_refused_with_line_and_reason() {
    for (format, page, expected) in REFUSED {
        let error = read(*format, page).expect_err(page);
        assert!(error.starts_with(expected), "{format:?} {page:?}\n     got {error}\nexpected {expected}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_where_text_is_meant() {
    for (page, expected) in [
        (&b"a{b=\"\xff\"} 1\n"[..], "line 1: the label value \"\u{fffd}\" is not valid UTF-8"),
        (b"a{\xff=\"foo\"} 1\n", "line 1: expected a label name, got"),
        (b"{\"\xff\"} 1\n", "line 1: the quoted name \"\u{fffd}\" is not valid UTF-8"),
        (b"# HELP a \xff\n", "line 1: the help text \"\u{fffd}\" is not valid UTF-8"),
        (b"a \xff\n", "line 1: the value \"\u{fffd}\" is not a number"),
    ] {
        let error = inspect(page, Format::Text, &[]).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(inspect(b"# comment \xff\n", Format::Text, &[]).is_ok());
}

/// A rule that asks for every name makes the daemon's reader judge every line that has one.
#[test]
fn the_scanner_agrees_with_the_inspector_where_every_name_is_wanted() {
    let everything = operands(&[EVERYTHING]);
    let values = |format, page: &str| {
        let mut table = SeriesTable::new(&everything);
        scan_pieces(&mut Scanner::new(Limits::DEFAULT), &mut table, format, &[page.as_bytes()])
    };
    for (format, page, expected) in ACCEPTED {
        let page = values(*format, page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert_eq!(page.samples.len(), expected.len());
        for (sample, text) in page.samples.iter().zip(*expected) {
            let mut words = text.rsplit(' ').peekable();
            let stamp = words.peek().and_then(|word| word.strip_prefix('@')).map(|millis| millis.parse().unwrap());
            let word = if stamp.is_some() { words.nth(1) } else { words.next() };
            let value: f64 = word.unwrap().parse().unwrap();
            assert!(sample.value == value || (sample.value.is_nan() && value.is_nan()), "{text}");
            assert_eq!(sample.timestamp.map(|t| t.as_millis()), stamp, "{text}");
        }
    }
    for (format, page, expected) in REFUSED {
        let judged = !expected.contains("# ")
            && !expected.contains("metric type")
            && !expected.contains("unit")
            && !expected.contains("blank line")
            && !expected.contains("expected a metric name")
            && !page.starts_with("# ");
        if judged {
            let error = values(*format, page).expect_err(page).to_string();
            let same_words = error.contains(expected.split(": ").nth(1).unwrap_or(expected));
            assert!(same_words || error.contains("not closed"), "{page:?}\n     got {error}\nexpected {expected}");
        }
    }
}
