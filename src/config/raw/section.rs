//! One list of keys for each section of the file: struct, decoder, fallback and JSON Schema come from it and can't drift.

use std::cell::RefCell;

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
    /// Keys that were reported.
    lost: RefCell<Lost>,
}

/// Keys of a section that were written and reported, with their place, and keys that reported ones were most likely meant
/// to be: what seems to be missing beside them may be one of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lost(Vec<(String, Option<Place>)>);

impl Lost {
    /// Whether one of these keys was written, and only can't be read.
    pub(crate) fn may_be(&self, keys: &[&str]) -> bool {
        self.0.iter().any(|(lost, _)| keys.contains(&lost.as_str()))
    }

    /// Those of these keys that were written, and only can't be read.
    pub(crate) fn among(&self, keys: &[&'static str]) -> Vec<(Place, &'static str)> {
        let place = |key: &str| self.0.iter().find(|(lost, _)| lost == key).and_then(|(_, place)| *place);
        keys.iter().filter_map(|key| place(key).map(|place| (place, *key))).collect()
    }

    /// With those of a section that this one falls back on.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }
}

impl Fields<'_, '_> {
    /// Reads one key.
    pub(crate) fn take<T: Decode>(&self, name: &str, required: bool, cx: &mut Cx<'_>) -> Option<At<T>> {
        match self.table.get_key_value(name) {
            Some((key, value)) => {
                let place = cx.place(key);
                let decoded = At::decode(&Node { name, key: place, value }, cx);
                if decoded.is_none() {
                    self.lost.borrow_mut().0.push((name.to_owned(), Some(place)));
                }
                decoded
            }
            None => {
                if required && !self.lost.borrow().may_be(&[name]) {
                    cx.problems.absent(self.key, format!("`{name}` is missing")).hint(format!("add `{name} = …`"));
                }
                None
            }
        }
    }

    /// Reads everything under a name that the section does not know by itself.
    pub(crate) fn take_others<S: Section, T: Decode>(&self, cx: &mut Cx<'_>) -> Named<T> {
        let known = Known::of::<S>();
        Named::read(self.table, |name, value| known.status::<S>(name, value) == Status::Other, cx)
    }
}

/// What a section knows.
struct Known {
    keys: Vec<&'static str>,
    refusals: Vec<Refused>,
}

/// What a section makes of a key.
#[derive(PartialEq)]
enum Status {
    /// One of its own.
    Key,
    /// Recognised and refused.
    Refused(Refused),
    /// A name that the operator chose, in an open section.
    Other,
    /// Unknown.
    Stranger,
}

impl Known {
    fn of<S: Section>() -> Self {
        let mut known = Self { keys: Vec::new(), refusals: Vec::new() };
        S::keys(&mut known.keys);
        S::refusals(&mut known.refusals);
        known
    }

    fn status<S: Section>(&self, name: &str, value: &DeValue<'_>) -> Status {
        if self.keys.contains(&name) {
            return Status::Key;
        }
        if let Some(refused) = self.refusals.iter().find(|refused| refused.key == name) {
            return Status::Refused(*refused);
        }
        // What is not a table but looks like one of the section's own keys is most likely that, misspelt.
        let misspelt = || suggest::nearest(name, self.keys.iter().copied()).is_some();
        let is_other = S::is_open() && (matches!(value, DeValue::Table(_)) || !misspelt());
        if is_other { Status::Other } else { Status::Stranger }
    }
}

/// A key that is recognised only to say what to write instead.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Refused {
    pub(crate) key: &'static str,
    /// It is part of the policy language, but not of this build.
    pub(crate) unsupported: bool,
    pub(crate) instead: &'static str,
}

/// A table with known keys.
pub(crate) trait Section: Sized {
    /// Adds the known keys.
    fn keys(keys: &mut Vec<&'static str>);

    /// Adds keys that are recognised only to say what to write instead.
    fn refusals(refusals: &mut Vec<Refused>);

    /// Whether it takes any other key as well.
    fn is_open() -> bool;

    /// Reads the known keys.
    fn read(fields: &Fields<'_, '_>, cx: &mut Cx<'_>) -> Self;

    /// Adds the JSON Schema of each known key, and the names of those that must be there.
    fn properties(generator: &mut SchemaGenerator, properties: &mut Map<String, Value>, required: &mut Vec<Value>);

    /// What is not set here is taken from `fallback`, key by key.
    fn or(self, fallback: &Self) -> Self;
}

/// A section with at most this many keys lists them where something else is found in its place.
const FEW_KEYS: usize = 4;

/// Reads a section, and says which of its keys were reported, and whether anything within it was.
pub(crate) fn decode<S: Section>(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<(S, Lost, bool)> {
    let known = Known::of::<S>();
    let DeValue::Table(table) = node.value.get_ref() else {
        let few = known.keys.len() <= FEW_KEYS;
        let keys: Vec<_> = known.keys.iter().map(|key| format!("`{key}`")).collect();
        let takes = if few { format!("a table with the keys {}", keys.join(", ")) } else { "a table".to_owned() };
        node.mismatch(&takes, cx);
        return None;
    };
    let before = cx.problems.count();
    let mut lost = Lost::default();
    for (key, value) in table {
        let meant = report_stranger::<S>(&known, key.get_ref(), value.get_ref(), cx.place(key), cx);
        lost.0.extend(meant.into_iter().map(|name| (name, None)));
    }
    let fields = Fields { table, key: node.key, lost: RefCell::new(lost) };
    let section = S::read(&fields, cx);
    Some((section, fields.lost.into_inner(), cx.problems.count() > before))
}

/// Reports a key that can't be here; its name where the section knows it, and the key that it was most likely meant to be.
fn report_stranger<S: Section>(
    known: &Known,
    name: &str,
    value: &DeValue<'_>,
    place: Place,
    cx: &mut Cx<'_>,
) -> Vec<String> {
    let meant = || suggest::nearest(name, known.keys.iter().copied()).map(str::to_owned);
    match known.status::<S>(name, value) {
        Status::Key | Status::Other => Vec::new(),
        Status::Refused(refused) => {
            let why = if refused.unsupported { "is not supported by this build" } else { "can't be written here" };
            cx.problems.wrong(place, format!("`{name}` {why}")).hint(refused.instead);
            meant().into_iter().chain([name.to_owned()]).collect()
        }
        Status::Stranger => {
            let hint = suggest::hint(name, known.keys.iter().copied());
            cx.problems.wrong(place, format!("unknown key {}", suggest::quoted(name))).maybe_hint(hint);
            meant().into_iter().collect()
        }
    }
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
/// (`open`), and keys that are recognised only to say what to write instead: those of the policy language that this build
/// does not have (`unsupported`), and those that are never right here (`refused`).
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
        $(unsupported { $($unsupported:literal: $meanwhile:literal,)+ })?
        $(refused { $($refused:literal: $instead:literal,)+ })?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            $($(#[doc = $field_doc])+ pub(crate) $field: Option<$crate::config::raw::decode::At<$type>>,)*
            $($(pub(crate) $part: $part_type,)+)?
            $(pub(crate) $open: $crate::config::raw::decode::Named<$open_type>,)?
            /// Keys of it that were reported already.
            pub(crate) lost: $crate::config::raw::section::Lost,
            /// Something in it was reported already, at whatever depth.
            pub(crate) damaged: bool,
        }

        impl $crate::config::raw::section::Section for $name {
            fn keys(keys: &mut Vec<&'static str>) {
                keys.extend_from_slice(&[$($crate::config::raw::section::key!($field $($key)?),)*]);
                $($(<$part_type as $crate::config::raw::section::Section>::keys(keys);)+)?
            }

            fn refusals(refusals: &mut Vec<$crate::config::raw::section::Refused>) {
                refusals.extend_from_slice(&[
                    $($($crate::config::raw::section::Refused {
                        key: $unsupported,
                        unsupported: true,
                        instead: $meanwhile,
                    },)+)?
                    $($($crate::config::raw::section::Refused {
                        key: $refused,
                        unsupported: false,
                        instead: $instead,
                    },)+)?
                ]);
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
                    lost: $crate::config::raw::section::Lost::default(),
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
                    lost: self.lost.and(&fallback.lost),
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
                    .map(|(section, lost, damaged)| Self { lost, damaged, ..section })
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
