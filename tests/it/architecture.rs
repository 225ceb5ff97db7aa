//! Holds the source to the crate's own map: which room may use which, what the pure heart may not know, who reads the
//! clock, and a few habits that keep files readable.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{paths, test_modules, tokens};

/// A room of the crate, and the rooms that it may use besides itself.
struct Room {
    name: &'static str,
    uses: Uses,
}

enum Uses {
    Only(&'static [&'static str]),
    /// It puts the others together.
    All,
}

const fn room(name: &'static str, uses: &'static [&'static str]) -> Room {
    Room { name, uses: Uses::Only(uses) }
}

const ROOMS: &[Room] = &[
    room("domain", &[]),
    room("clock", &["domain"]),
    room("config", &["domain"]),
    room("engine", &["domain"]),
    room("cluster", &["domain"]),
    room("host", &["domain"]),
    room("net", &["domain", "config", "host"]),
    room("observe", &["domain", "config", "engine", "clock", "cluster", "host", "net"]),
    room("act", &["domain", "engine", "cluster", "host", "net", "clock"]),
    room("lease", &["domain", "engine", "clock", "cluster"]),
    room("notify", &["domain", "config", "engine", "clock", "host", "markup", "net"]),
    room("store", &["domain", "engine", "clock", "cluster"]),
    room("systemd", &[]),
    room("markup", &[]),
    room("report", &["domain", "markup"]),
    room("replay", &["domain", "config", "net", "observe"]),
    room("telemetry", &["domain", "engine", "markup"]),
    Room { name: "http", uses: Uses::All },
    Room { name: "demo", uses: Uses::All },
    Room { name: "cli", uses: Uses::All },
];

/// What the pure heart may know of the world: notation and arithmetic.
const PURE_CRATES: &[&str] = &[
    "std",
    "core",
    "alloc",
    "humantime",
    "jiff",
    "promql_parser",
    "regex",
    "schemars",
    "serde",
    "serde_json",
    "statrs",
    "strsim",
    "thiserror",
];

/// What it may not, though it lies in those.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "jiff::tz",
];

/// Readings of the machine's clock. The runtime's own timer (`tokio::time`) measures deadlines and is none.
const CLOCKS: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "rustix::time::clock_gettime",
];

/// Who may read it. The demonstration's actors stand for a service outside, with a clock of their own.
const CLOCK_READERS: &[&str] = &["clock", "demo"];

const MAX_FILE_LINES: usize = 700;
const MAX_MAIN_LINES: usize = 40;
/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `directory` of the crate, with its path from there.
fn files(directory: &str) -> Vec<(PathBuf, String)> {
    let top = root().join(directory);
    let mut found = Vec::new();
    let mut open = vec![top.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&top).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 1, "{} holds the source", top.display());
    found
}

/// `domain/health/mod.rs` as `["domain", "health"]`.
fn module(file: &Path) -> Vec<&str> {
    let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    let (last, folders) = parts.split_last().expect("a file has a name");
    let stem = last.trim_end_matches(".rs");
    let own = (!matches!(stem, "mod" | "lib" | "main")).then_some(stem);
    folders.iter().copied().chain(own).collect()
}

/// The modules of the crate that exist in tests only, with all that is in them.
fn for_tests(files: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    let declared = |(file, text): &(PathBuf, String)| -> Vec<PathBuf> {
        let parent: PathBuf = module(file).iter().collect();
        test_modules(text).into_iter().map(|name| parent.join(name)).collect()
    };
    let declared: Vec<PathBuf> = files.iter().flat_map(declared).collect();
    let within = |file: &Path| {
        let module: PathBuf = module(file).iter().collect();
        declared.iter().any(|test| module.starts_with(test))
    };
    files.iter().map(|(file, _)| file.clone()).filter(|file| within(file)).collect()
}

fn within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The crates of `[dependencies]`, and the language's own.
fn crates() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let dependencies = manifest["dependencies"].as_table().unwrap();
    dependencies.keys().map(|name| name.replace('-', "_")).chain(["std", "core", "alloc"].map(str::to_owned)).collect()
}

/// Everything in one file that the map forbids.
fn violations(file: &Path, text: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let module = module(file);
    let Some(own) = module.first().copied() else { return Vec::new() };
    let Some(room) = ROOMS.iter().find(|room| room.name == own) else {
        return vec![format!("{}: the map does not say what `{own}` may use", file.display())];
    };
    let mut found = Vec::new();
    for path in paths(&tokens(text), &module) {
        let segments: Vec<&str> = path.split("::").collect();
        if let (["crate", used, ..], Uses::Only(allowed)) = (segments.as_slice(), &room.uses)
            && *used != own
            && !allowed.contains(used)
        {
            found.push(format!("{}: `{own}` may not use `{used}`: {path}", file.display()));
        }
        if own == "domain" {
            let foreign = crates.contains(segments[0]) && !PURE_CRATES.contains(&segments[0]);
            if foreign || IMPURE.iter().any(|impure| within(&path, impure)) {
                found.push(format!("{}: `domain` is pure: {path}", file.display()));
            }
        }
        if !CLOCK_READERS.contains(&own) && CLOCKS.iter().any(|clock| within(&path, clock)) {
            found.push(format!("{}: only `clock` reads the clock: {path}", file.display()));
        }
    }
    found
}

/// Everything about one file's looks that makes it harder to read. Tests may unwrap, and their name
/// says why they exist.
fn untidy(file: &Path, text: &str, tests: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: &str| found.push(format!("{}: {what}", file.display()));
    if !tests && !text.starts_with("//!") {
        say("does not begin with `//!` and why it exists");
    }
    if text.lines().count() > MAX_FILE_LINES {
        say("is longer than 700 lines");
    }
    if file == Path::new("main.rs") && text.lines().count() >= MAX_MAIN_LINES {
        say("is 40 lines or longer");
    }
    if module(file).iter().any(|name| EMPTY_NAMES.contains(name)) {
        say("has a name that says nothing");
    }
    let code = tokens(text).join(" ");
    if !tests && code.contains(". unwrap ( )") {
        say("unwraps outside tests");
    }
    if code.contains("allow ( dead_code") {
        say("allows dead code");
    }
    // Put together, so that this file does not find itself.
    for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
        if text.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark) {
            say(&format!("leaves a {mark}"));
        }
    }
    found
}

#[test]
fn every_room_uses_only_what_the_map_allows() {
    let crates = crates();
    let files = files("src");
    let for_tests = for_tests(&files);
    let found: Vec<String> = files
        .iter()
        .filter(|(file, _)| !for_tests.contains(file))
        .flat_map(|(file, text)| violations(file, text, &crates))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_are_tidy() {
    let ours = files("src");
    let for_tests = for_tests(&ours);
    assert!(for_tests.iter().any(|file| file.ends_with("act/tests.rs")), "{for_tests:?}");
    let ours = ours.into_iter().map(|(file, text)| untidy(&file, &text, for_tests.contains(&file)));
    let tests = files("tests/it").into_iter().map(|(file, text)| untidy(&file, &text, true));
    let found: Vec<String> = ours.chain(tests).flatten().collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_crate_docs_map_every_room() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let docs: String = text.lines().filter(|line| line.starts_with("//!")).collect();
    let code = tokens(&text);
    let rooms: Vec<&String> =
        code.iter().zip(code.iter().skip(1)).filter(|(a, _)| *a == "mod").map(|(_, b)| b).collect();
    assert!(rooms.len() > 1, "{rooms:?}");
    for room in rooms {
        assert!(docs.contains(&format!("[`{room}`]")), "the docs of lib.rs do not mention `{room}`");
    }
}

#[test]
fn what_is_forbidden_is_found() {
    let crates = crates();
    for (file, text, expected) in [
        ("domain/a.rs", "use crate::{act, domain::id};", "`domain` may not use `act`: crate::act"),
        ("domain/mod.rs", "use super::config::model;", "`domain` may not use `config`: crate::config::model"),
        ("domain/a/b.rs", "fn f() { super::super::super::host::x() }", "`domain` may not use `host`: crate::host::x"),
        ("domain/a.rs", "use tokio::sync::mpsc;", "`domain` is pure: tokio::sync::mpsc"),
        ("domain/a.rs", "fn f() { tracing::info!(1) }", "`domain` is pure: tracing::info"),
        ("domain/a.rs", "use std::{fmt, fs};", "`domain` is pure: std::fs"),
        ("domain/a.rs", "use std::time as t; fn f(x: t::SystemTime) {}", "`domain` is pure: std::time::SystemTime"),
        (
            "engine/a.rs",
            "use crate::config::model::Config;",
            "`engine` may not use `config`: crate::config::model::Config",
        ),
        ("observe/a.rs", "use crate::act::Hands;", "`observe` may not use `act`: crate::act::Hands"),
        ("act/a.rs", "use crate::observe::exposition;", "`act` may not use `observe`: crate::observe::exposition"),
        ("notify/a.rs", "use crate::store::Store;", "`notify` may not use `store`: crate::store::Store"),
        ("store/a.rs", "use crate::notify::x;", "`store` may not use `notify`: crate::notify::x"),
        (
            "act/a.rs",
            "use std::time; fn f() { time::Instant::now(); }",
            "only `clock` reads the clock: std::time::Instant::now",
        ),
        ("store/a.rs", "fn f() { jiff::Timestamp::now() }", "only `clock` reads the clock: jiff::Timestamp::now"),
        ("attic/a.rs", "", "the map does not say what `attic` may use"),
    ] {
        assert_eq!(violations(Path::new(file), text, &crates), [format!("{file}: {expected}")], "{text}");
    }
    for (file, text) in [
        ("domain/a.rs", "use std::time::Duration; use super::id; use serde::Serialize;"),
        ("domain/a.rs", "#[cfg(test)] mod tests { use std::fs; use crate::config; }"),
        ("act/a.rs", "use tokio::time::Instant; fn f() { Instant::now(); }"),
        ("clock.rs", "fn f() { std::time::SystemTime::now() }"),
        ("cli/a.rs", "use crate::{act, observe, store};"),
    ] {
        assert!(violations(Path::new(file), text, &crates).is_empty(), "{text}");
    }
}

#[test]
fn what_is_untidy_is_found() {
    let long = format!("//! x\n{}", "\n".repeat(MAX_FILE_LINES));
    let todo = concat!("//! x\n// TO", "DO: later\n");
    for (file, text, expected) in [
        ("a.rs", "fn f() {}", "does not begin with `//!` and why it exists"),
        ("a.rs", long.as_str(), "is longer than 700 lines"),
        ("main.rs", &long[..50], "is 40 lines or longer"),
        ("a/util.rs", "//! x", "has a name that says nothing"),
        ("a.rs", "//! x\nfn f() { y.unwrap() }", "unwraps outside tests"),
        ("a.rs", "//! x\n#![allow(dead_code)]", "allows dead code"),
        ("a.rs", todo, concat!("leaves a TO", "DO")),
    ] {
        assert_eq!(untidy(Path::new(file), text, false), [format!("{file}: {expected}")]);
    }
    let tests = "//! x\n#[cfg(test)] mod tests { fn f() { y.unwrap() } }";
    assert!(untidy(Path::new("a.rs"), tests, false).is_empty());
    assert!(untidy(Path::new("a.rs"), "//! x\nfn f() { y.unwrap() }", true).is_empty());
}
