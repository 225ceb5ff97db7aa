//! Whatever a file holds, there is an answer, it is bounded, and it shows no secret.

use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::refused;
use crate::config::parse;

/// Pieces that policies are made of, so that random texts get past the TOML parser.
const PIECES: &[&str] = &[
    "[daemon]\n",
    "[workload.a]\n",
    "[[workload.a.trigger]]\n",
    "[workload.a.verify]\n",
    "[notify.x]\n",
    "[defaults]\n",
    "[workload.a.signal.q]\n",
    "listen",
    "mode",
    "release_dir",
    "scrape",
    "health",
    "signal",
    "above",
    "gauge",
    "port",
    "webhook",
    "path",
    " = ",
    "=",
    "{ ",
    " }",
    "[",
    "]",
    ", ",
    "\"",
    "'",
    "\n",
    "5s",
    "\"10%\"",
    "'up'",
    "1",
    "-1",
    "1e999",
    "nan",
    "true",
    "\u{0}",
    "\u{1b}[31m",
    "é中",
    "\"\"\"",
    "# x\n",
    "2025-11-23",
    "\r\n",
    "\\",
    ".",
    "a",
    "\"/srv\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_answered(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        let text = pieces.concat();
        if let Err(diagnostics) = parse(&[(PathBuf::from("x.toml"), text)]) {
            prop_assert!(!diagnostics.errors.is_empty());
            prop_assert!(!diagnostics.render(true).is_empty());
            for error in &diagnostics.errors {
                prop_assert!(error.line >= 1 && error.column >= 1);
                prop_assert!(!error.message.contains(char::is_control), "{:?}", error.message);
                prop_assert!(!error.render(false).contains('\u{1b}'), "{}", error.render(false));
            }
        }
    }
}

#[test]
fn deep_keys_do_not_exhaust_the_stack() {
    let deep = format!("[workload.a.health.expect]\n{} = 1\n", vec!["a"; 300_000].join("."));
    assert!(!refused(&deep).is_empty());
}

#[test]
fn errors_beyond_a_thousand_are_counted() {
    let mut text = String::new();
    for index in 0..3_000 {
        let _ = writeln!(text, "unknown{index} = 1");
    }
    let diagnostics = parse(&[(PathBuf::from("x.toml"), text)]).unwrap_err();
    assert_eq!((diagnostics.errors.len(), diagnostics.omitted), (1_000, 2_000));
    assert!(diagnostics.to_string().ends_with("3000 errors, of which the first 1000 are shown"));
}

#[test]
fn ten_thousand_workloads_are_taken_and_no_more() {
    let too_many = |count: usize| {
        let text: String = (0..count).map(|index| format!("[workload.w{index}]\n")).collect();
        refused(&text).into_iter().find(|error| error.contains("at most"))
    };
    assert_eq!(too_many(10_000), None);
    let error = too_many(10_001).unwrap_or_default();
    assert_eq!(error, "test.toml:10001:11: 10001 workloads; one daemon takes at most 10000");
}

#[test]
fn what_many_workloads_inherit_is_reported_once() {
    let mut text = "[defaults]\nnotify = [\"nobody\"]\n".to_owned();
    for index in 0..200 {
        let _ = writeln!(
            text,
            "[workload.w{index}]\nscrape.port = 80\nrelease_dir = {{ path = \"/srv/{index}\", unit = \"u{index}.service\" }}"
        );
    }
    assert_eq!(refused(&text), ["test.toml:2:11: there is no receiver `nobody` (add a section [notify.nobody])"]);
}
