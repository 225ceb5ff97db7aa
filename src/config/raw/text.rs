//! Compound values that are neither sections nor scalars: argv lists, expected JSON, ports.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::{DeTable, DeValue};

use super::decode::{Cx, Decode, Node};
use super::scalar;

/// A program and its arguments; never a shell's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argv(pub(crate) Vec<String>);

impl Decode for Argv {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let place = cx.place(node.value);
        let array = match node.value.get_ref() {
            DeValue::Array(array) => array,
            DeValue::String(line) => {
                let words: Vec<_> = line.split_whitespace().map(|word| format!("{word:?}")).collect();
                let name = node.name;
                cx.problems
                    .wrong(place, format!("`{name}` is a string"))
                    .hint(format!("no shell is involved: write {name} = [{}]", words.join(", ")));
                return None;
            }
            _ => {
                node.mismatch("a list of a program and its arguments", cx);
                return None;
            }
        };
        let mut argv = Vec::with_capacity(array.len());
        for value in array.iter() {
            let Some(argument) = value.get_ref().as_str() else {
                let key = cx.place(value);
                Node { name: node.name, key, value }.mismatch("strings only", cx);
                return None;
            };
            argv.push(argument.to_owned());
        }
        if argv.first().is_none_or(String::is_empty) || argv.iter().any(|argument| argument.contains('\0')) {
            cx.problems
                .wrong(place, format!("`{}` names no program", node.name))
                .hint("write the program and each of its arguments: [\"program\", \"argument\"]");
            return None;
        }
        Some(Self(argv))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })
    }
}

/// A TCP port: its number, or the name that a container gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// From 1 to 65535.
    Number(u16),
    /// A name, in Kubernetes.
    Name(String),
}

/// Longest name of a port (RFC 6335).
const LONGEST_PORT_NAME: usize = 15;

impl Decode for Port {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let DeValue::String(name) = node.value.get_ref() else {
            let port =
                scalar::whole(node, "a port from 1 to 65535", |port| port > 0 && port <= u64::from(u16::MAX), cx)?;
            return u16::try_from(port).ok().map(Self::Number);
        };
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let has_letter = name.bytes().any(|byte| byte.is_ascii_lowercase());
        if name.len() > LONGEST_PORT_NAME || !name.bytes().all(inner) || !has_letter {
            node.mismatch("a port from 1 to 65535, or the name of a container's port", cx);
            return None;
        }
        Some(Self::Name(name.to_string()))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 65535 },
            { "type": "string" },
        ] })
    }
}

/// Fields of a JSON body and their values. A table within it stands for a nested object; its keys are joined by dots.
#[derive(Clone, Debug)]
pub(crate) struct Expect(pub(crate) BTreeMap<String, serde_json::Value>);

impl Decode for Expect {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let DeValue::Table(table) = node.value.get_ref() else {
            node.mismatch("a table such as { status = \"Healthy\" }", cx);
            return None;
        };
        let mut fields = BTreeMap::new();
        flatten(table, "", &mut fields, cx);
        Some(Self(fields))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

fn flatten(table: &DeTable<'_>, prefix: &str, fields: &mut BTreeMap<String, serde_json::Value>, cx: &mut Cx<'_>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let json = match value.get_ref() {
            DeValue::Table(nested) => {
                flatten(nested, &format!("{name}."), fields, cx);
                continue;
            }
            DeValue::String(text) => Some(serde_json::Value::from(&**text)),
            DeValue::Boolean(flag) => Some(serde_json::Value::from(*flag)),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(Into::into),
            number @ DeValue::Float(_) => scalar::finite(number).map(Into::into),
            DeValue::Datetime(_) | DeValue::Array(_) => None,
        };
        match json {
            Some(json) => {
                fields.insert(name, json);
            }
            None => Node { name: &name, key: cx.place(key), value }.mismatch("a string, a number or a boolean", cx),
        }
    }
}
