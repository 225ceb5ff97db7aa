//! The JSON Schema accepts what the decoder accepts, and refuses the same keys and types. The validator here knows just
//! the keywords that the schema uses, and fails on any other.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::config::schema;

/// Everything in `value` that the schema does not allow, as paths.
fn violations(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(schema) = schema else {
        if schema == &Value::Bool(false) {
            found.push(path.to_owned());
        }
        return;
    };
    for (keyword, rule) in schema {
        let holds = match keyword.as_str() {
            "$ref" => {
                let target = rule.as_str().and_then(|name| root.pointer(&name[1..])).unwrap();
                violations(root, target, value, path, found);
                true
            }
            "type" => is_of_type(rule, value),
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "required" => value.as_object().is_none_or(|object| {
                rule.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap()))
            }),
            "anyOf" => rule.as_array().unwrap().iter().any(|option| {
                let mut inner = Vec::new();
                violations(root, option, value, path, &mut inner);
                inner.is_empty()
            }),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    violations(root, rule, item, &format!("{path}/{index}"), found);
                }
                true
            }
            "properties" => {
                for (key, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        violations(root, rule, value, &format!("{path}/{key}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let is_known = |key: &str| known.is_some_and(|known: &Map<_, _>| known.contains_key(key));
                for (key, value) in value.as_object().into_iter().flatten().filter(|(key, _)| !is_known(key)) {
                    violations(root, rule, value, &format!("{path}/{key}"), found);
                }
                true
            }
            "$schema" | "$defs" | "title" | "description" => true,
            other => panic!("the schema uses a keyword that this test does not know: {other}"),
        };
        if !holds {
            found.push(path.to_owned());
        }
    }
}

fn is_of_type(rule: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("unknown type {other}"),
    };
    match rule {
        Value::String(name) => is(name),
        names => names.as_array().unwrap().iter().any(|name| is(name.as_str().unwrap())),
    }
}

fn check(text: &str) -> Vec<String> {
    let value: toml::Table = toml::from_str(text).unwrap();
    let value = serde_json::to_value(value).unwrap();
    let schema = schema::policy_file();
    let mut found = Vec::new();
    violations(&schema, &schema, &value, "", &mut found);
    found
}

#[test]
fn the_schema_takes_every_good_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.join("tests/config/good"), root.join("config")];
    let mut checked = 0;
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                let found = check(&fs::read_to_string(&path).unwrap());
                assert!(found.is_empty(), "{}: {found:?}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked >= 12, "{checked}");
}

#[test]
fn the_schema_refuses_what_the_decoder_refuses() {
    let refused = |text: &str| check(text);
    assert_eq!(refused("[deamon]"), ["/deamon"]);
    assert_eq!(refused("[daemon]\nlisten = 1"), ["/daemon/listen"]);
    assert_eq!(refused("[defaults]\nrelease_dir = { path = \"/x\" }"), ["/defaults/release_dir"]);
    assert_eq!(refused("[workload.a.release_dir]\nunit = \"u\""), ["/workload/a/release_dir"]);
    assert_eq!(refused("[workload.a]\nmode = \"dry\"\nper_day = -1"), ["/workload/a/mode", "/workload/a/per_day"]);
    assert_eq!(refused("[workload.a.verify]\nx = { over = 1 }"), ["/workload/a/verify/x/over"]);
    assert_eq!(refused("[workload.a.scrape]\nport = 0\nurl = \"\""), ["/workload/a/scrape/port"]);
}
