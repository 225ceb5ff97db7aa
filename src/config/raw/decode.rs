//! From a TOML value to a typed one, with a problem for each thing that does not fit.

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::Problems;
use crate::config::source::Place;

/// Where problems go while one file is read.
pub(crate) struct Cx<'p> {
    pub(crate) file: u32,
    pub(crate) problems: &'p mut Problems,
}

impl Cx<'_> {
    pub(crate) fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        Place::new(self.file, spanned.span())
    }
}

/// A value and the key that it stands under.
pub(crate) struct Node<'a, 'i> {
    /// The key, or that of the array which the value is in.
    pub(crate) name: &'a str,
    /// Where the key is.
    pub(crate) key: Place,
    /// The value.
    pub(crate) value: &'a Spanned<DeValue<'i>>,
}

impl Node<'_, '_> {
    /// Reports that the value is of the wrong type.
    pub(crate) fn mismatch(&self, takes: &str, cx: &mut Cx<'_>) {
        let is = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let place = cx.place(self.value);
        cx.problems.wrong(place, format!("`{}` is {is}", self.name)).hint(format!("it takes {takes}"));
    }

    /// Reports that the value is of the right type, but not a number that can be taken.
    pub(crate) fn out_of_range(&self, takes: &str, cx: &mut Cx<'_>) {
        let place = cx.place(self.value);
        cx.problems.wrong(place, format!("`{}` is out of range", self.name)).hint(format!("it takes {takes}"));
    }
}

/// Something that a TOML value can be read as.
pub(crate) trait Decode: Sized {
    /// Reads it; `None` once the reason has been reported.
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self>;

    /// Its JSON Schema.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// A decoded value that knows where it came from.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    /// The key, for problems with its being there.
    pub(crate) key: Place,
    /// The value, for problems with what it says.
    pub(crate) at: Place,
}

impl<T: Decode> At<T> {
    pub(crate) fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let value = T::decode(node, cx)?;
        Some(Self { value, key: node.key, at: cx.place(node.value) })
    }
}

impl<T> At<T> {
    /// The same place with what `f` makes of the value.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), key: self.key, at: self.at }
    }
}

/// The value of a key that may not be there.
pub(crate) fn value<T: Clone>(field: &Option<At<T>>) -> Option<T> {
    field.as_ref().map(|at| at.value.clone())
}

impl<T: Decode> Decode for Vec<At<T>> {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let array = match node.value.get_ref() {
            DeValue::Array(array) => array,
            DeValue::Table(_) => {
                node.mismatch(&format!("an array: write [[…{}]], or put it in brackets", node.name), cx);
                return None;
            }
            _ => {
                node.mismatch("an array: put it in brackets", cx);
                return None;
            }
        };
        let elements = array.iter().filter_map(|value| {
            let key = cx.place(value);
            At::decode(&Node { name: node.name, key, value }, cx)
        });
        Some(elements.collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }
}

/// Values under names that the operator chose, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<Entry<T>>);

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) name: String,
    pub(crate) key: Place,
    pub(crate) value: T,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Named<T> {
    /// Names that are only in `fallback` are taken from there.
    pub(crate) fn or(mut self, fallback: &Self) -> Self {
        let inherited: Vec<_> = fallback.0.iter().filter(|entry| self.get(&entry.name).is_none()).cloned().collect();
        self.0.extend(inherited);
        self
    }
}

impl<T> Named<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }
}

impl<T: Decode> Named<T> {
    pub(crate) fn read(table: &DeTable<'_>, wanted: impl Fn(&str, &DeValue<'_>) -> bool, cx: &mut Cx<'_>) -> Self {
        let mut entries: Vec<_> = table
            .iter()
            .filter(|(key, value)| wanted(key.get_ref(), value.get_ref()))
            .filter_map(|(key, value)| {
                let node = Node { name: key.get_ref(), key: cx.place(key), value };
                let value = T::decode(&node, cx)?;
                Some(Entry { name: node.name.to_owned(), key: node.key, value })
            })
            .collect();
        entries.sort_by_key(|entry| entry.key);
        Self(entries)
    }
}

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        let DeValue::Table(table) = node.value.get_ref() else {
            node.mismatch("a table", cx);
            return None;
        };
        Some(Self::read(table, |_, _| true, cx))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": T::schema(generator) })
    }
}
