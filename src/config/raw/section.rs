//! One list of keys for each section of the file: struct, decoder, fallback and JSON Schema come from it and can't drift.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::decode::{At, Cx, Decode, Named, Node};
use crate::config::source::Place;
use crate::config::suggest;

/// The keys of one table while it is read.
pub(crate) struct Fields<'a, 'i> {
    table: &'a DeTable<'i>,
    /// Where the table's own key is: what is missing is reported there.
    key: Place,
    /// Keys that nobody knows were reported. A required key that seems to be missing is then most likely one of them.
    strangers: bool,
}

impl Fields<'_, '_> {
    /// Reads one key.
    pub(crate) fn take<T: Decode>(&self, name: &str, required: bool, cx: &mut Cx<'_>) -> Option<At<T>> {
        match self.table.get_key_value(name) {
            Some((key, value)) => At::decode(&Node { name, key: cx.place(key), value }, cx),
            None => {
                if required && !self.strangers {
                    cx.problems.absent(self.key, format!("`{name}` is missing"));
                }
                None
            }
        }
    }

    /// Reads every table under a name that the section does not know by itself.
    pub(crate) fn take_others<S: Section, T: Decode>(&self, cx: &mut Cx<'_>) -> Named<T> {
        let (mut keys, mut refusals) = (Vec::new(), Vec::new());
        S::keys(&mut keys);
        S::refusals(&mut refusals);
        let known = |name: &str| keys.contains(&name) || refusals.iter().any(|(refused, _)| *refused == name);
        let is_other = |name: &str, value: &DeValue<'_>| !known(name) && matches!(value, DeValue::Table(_));
        Named::read(self.table, is_other, cx)
    }
}

/// A table with known keys.
pub(crate) trait Section: Sized {
    /// Adds the known keys.
    fn keys(keys: &mut Vec<&'static str>);

    /// Adds keys that are recognised and refused, each with what to do instead.
    fn refusals(refusals: &mut Vec<(&'static str, &'static str)>);

    /// Whether it takes any other key as well.
    fn is_open() -> bool;

    /// Reads the known keys.
    fn read(fields: &Fields<'_, '_>, cx: &mut Cx<'_>) -> Self;

    /// Adds the JSON Schema of each known key, and the names of those that must be there.
    fn properties(generator: &mut SchemaGenerator, properties: &mut Map<String, Value>, required: &mut Vec<Value>);

    /// What is not set here is taken from `fallback`, key by key.
    fn or(self, fallback: &Self) -> Self;
}

/// Reads a section; the flag says whether anything in it was wrong.
pub(crate) fn decode<S: Section>(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<(S, bool)> {
    let DeValue::Table(table) = node.value.get_ref() else {
        node.mismatch("a table", cx);
        return None;
    };
    let before = cx.problems.count();
    let strangers = report_strangers::<S>(table, cx);
    let section = S::read(&Fields { table, key: node.key, strangers }, cx);
    Some((section, cx.problems.count() > before))
}

fn report_strangers<S: Section>(table: &DeTable<'_>, cx: &mut Cx<'_>) -> bool {
    let (mut keys, mut refusals) = (Vec::new(), Vec::new());
    S::keys(&mut keys);
    S::refusals(&mut refusals);
    let is_known =
        |name: &str, value: &DeValue<'_>| keys.contains(&name) || (S::is_open() && matches!(value, DeValue::Table(_)));
    let mut strangers = false;
    for (key, value) in table {
        let (name, place) = (&**key.get_ref(), cx.place(key));
        if let Some((_, instead)) = refusals.iter().find(|(refused, _)| *refused == name) {
            cx.problems.wrong(place, format!("`{name}` is not supported by this build")).hint(*instead);
            strangers = true;
        } else if !is_known(name, value.get_ref()) {
            let hint = suggest::hint(name, keys.iter().copied());
            cx.problems.wrong(place, format!("unknown key {}", suggest::quoted(name))).maybe_hint(hint);
            strangers = true;
        }
    }
    strangers
}

/// The JSON Schema of a section.
pub(crate) fn schema<S: Section>(generator: &mut SchemaGenerator, doc: &str, others: Value) -> Schema {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    S::properties(generator, &mut properties, &mut required);
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("description".to_owned(), doc.into());
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema.insert("additionalProperties".to_owned(), others);
    schema.into()
}

/// Adds one key's JSON Schema, with what the key is for.
pub(crate) fn property<T: Decode>(generator: &mut SchemaGenerator, doc: &str) -> Value {
    let mut schema = T::schema(generator);
    schema.insert("description".to_owned(), doc.into());
    schema.to_value()
}

/// The name of a key: that of the field unless another is given.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}
pub(crate) use key;

/// Whether an optional part of a declaration is there.
macro_rules! given {
    () => {
        false
    };
    ($part:tt) => {
        true
    };
}
pub(crate) use given;

/// The JSON Schema of keys of any other name.
macro_rules! others {
    ($generator:ident) => {
        serde_json::Value::Bool(false)
    };
    ($generator:ident $type:ty) => {
        <$type as $crate::config::raw::decode::Decode>::schema($generator).to_value()
    };
}
pub(crate) use others;

/// Declares a section: its keys, other sections whose keys it shares (`flatten`), a type for keys of any other name
/// (`open`), and keys that are recognised only to say what to write instead (`refused`).
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        $name:ident {
            $(
                $(#[doc = $field_doc:literal])+
                $field:ident $(as $key:literal)? : $type:ty $(= $required:ident)?,
            )*
        }
        $(flatten { $($part:ident: $part_type:ty),+ })?
        $(open { $open:ident: $open_type:ty })?
        $(refused { $($refused:literal: $instead:literal,)+ })?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            $($(#[doc = $field_doc])+ pub(crate) $field: Option<$crate::config::raw::decode::At<$type>>,)*
            $($(pub(crate) $part: $part_type,)+)?
            $(pub(crate) $open: $crate::config::raw::decode::Named<$open_type>,)?
            /// Something in it was reported already, so that what seems to be missing may only be misspelt.
            pub(crate) damaged: bool,
        }

        impl $crate::config::raw::section::Section for $name {
            fn keys(keys: &mut Vec<&'static str>) {
                keys.extend_from_slice(&[$($crate::config::raw::section::key!($field $($key)?),)*]);
                $($(<$part_type as $crate::config::raw::section::Section>::keys(keys);)+)?
            }

            fn refusals(refusals: &mut Vec<(&'static str, &'static str)>) {
                refusals.extend_from_slice(&[$($(($refused, $instead),)+)?]);
                $($(<$part_type as $crate::config::raw::section::Section>::refusals(refusals);)+)?
            }

            fn is_open() -> bool {
                $crate::config::raw::section::given!($($open)?)
            }

            fn read(
                fields: &$crate::config::raw::section::Fields<'_, '_>,
                cx: &mut $crate::config::raw::decode::Cx<'_>,
            ) -> Self {
                Self {
                    $($field: fields.take(
                        $crate::config::raw::section::key!($field $($key)?),
                        $crate::config::raw::section::given!($($required)?),
                        cx,
                    ),)*
                    $($($part: <$part_type as $crate::config::raw::section::Section>::read(fields, cx),)+)?
                    $($open: fields.take_others::<Self, $open_type>(cx),)?
                    damaged: false,
                }
            }

            fn properties(
                generator: &mut schemars::SchemaGenerator,
                properties: &mut serde_json::Map<String, serde_json::Value>,
                required: &mut Vec<serde_json::Value>,
            ) {
                $(
                    let name = $crate::config::raw::section::key!($field $($key)?);
                    let doc = concat!($($field_doc),+).trim();
                    properties.insert(
                        name.to_owned(),
                        $crate::config::raw::section::property::<$type>(generator, doc),
                    );
                    if $crate::config::raw::section::given!($($required)?) {
                        required.push(name.into());
                    }
                )*
                $($(<$part_type as $crate::config::raw::section::Section>::properties(generator, properties, required);)+)?
            }

            fn or(self, fallback: &Self) -> Self {
                Self {
                    $($field: self.$field.or_else(|| fallback.$field.clone()),)*
                    $($($part: $crate::config::raw::section::Section::or(self.$part, &fallback.$part),)+)?
                    $($open: self.$open.or(&fallback.$open),)?
                    damaged: self.damaged || fallback.damaged,
                }
            }
        }

        impl $crate::config::raw::decode::Decode for $name {
            fn decode(
                node: &$crate::config::raw::decode::Node<'_, '_>,
                cx: &mut $crate::config::raw::decode::Cx<'_>,
            ) -> Option<Self> {
                $crate::config::raw::section::decode::<Self>(node, cx)
                    .map(|(section, damaged)| Self { damaged, ..section })
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let others = $crate::config::raw::section::others!(generator $($open_type)?);
                $crate::config::raw::section::schema::<Self>(generator, concat!($($doc),+).trim(), others)
            }
        }
    };
}
pub(crate) use section;
