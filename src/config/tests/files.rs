//! The files that are shipped: the annotated policy, the worked examples, the JSON Schema.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{parsed, refused};
use crate::config::schema;

const ANNOTATED: &str = include_str!("../../../config/rollbackd.toml");

/// What the annotated file must equal: the keys that have no default, and nothing else.
const BARE: &str = r#"
[workload.example]
release_dir = { path = "/srv/example", unit = "example.service" }
scrape = { port = 8080 }
health = { port = 8080 }
"#;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

#[test]
fn the_annotated_policy_is_the_defaults() {
    assert_eq!(parsed(ANNOTATED), parsed(BARE));
}

/// Keys that are shown commented out are real ones with values of the right kind; some of them exclude each other.
#[test]
fn the_annotated_policy_is_right_where_it_is_commented_out() {
    let shown: String = ANNOTATED
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => format!("{key}\n"),
            Some(element) if element.starts_with("    {") => format!("{element}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let wrong: Vec<_> = refused(&shown)
        .into_iter()
        .filter(|error| !["beside", "together", "second place", "in one trigger"].iter().any(|why| error.contains(why)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_annotated_policy_shows_every_key() {
    let schema = schema::policy_file();
    let mut keys = BTreeSet::new();
    collect_keys(&schema, &mut keys);
    assert!(keys.len() > 60, "{keys:?}");
    let words: BTreeSet<&str> = ANNOTATED.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let missing: Vec<_> = keys.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "not in config/rollbackd.toml: {missing:?}");
}

fn collect_keys(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| collect_keys(value, keys));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_keys(value, keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_worked_examples_pass_check() {
    let mut examples: Vec<_> = fs::read_dir(shipped("policies")).unwrap().map(|entry| entry.unwrap().path()).collect();
    examples.sort();
    assert!(examples.len() >= 4);
    let report = crate::config::check(&examples).unwrap();
    assert!(report.valid, "{report}");
    assert!(report.to_string().ends_with("\nok: 5 workloads, 0 receivers"), "{report}");
}

/// `UPDATE_EXPECT=1` writes it anew.
#[test]
fn the_json_schema_is_current() {
    let current = serde_json::to_string_pretty(&schema::policy_file()).unwrap() + "\n";
    let path = shipped("rollbackd.schema.json");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &current).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == current, "{} is out of date", path.display());
}
