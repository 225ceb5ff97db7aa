//! What a Prometheus server is asked: an expression that gives one number, and where the server is.

use promql_parser::parser::{self, value::ValueType};
use reqwest::Url;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::decode::{At, Cx, Decode, Node};
use super::http::Http;
use super::scalar::{FromText, Refusal, first_line};
use super::section::section;

/// A PromQL expression that gives a scalar or an instant vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expression(pub(crate) String);

impl FromText for Expression {
    const TAKES: &'static str = "a PromQL expression";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let parsed = parser::parse(text).map_err(|why| {
            let hint = "what only another server's dialect knows goes into a recording rule there";
            Refusal::new(format!("not PromQL: {}", first_line(&why)), hint)
        })?;
        match parsed.value_type() {
            ValueType::Scalar | ValueType::Vector => Ok(Self(text.to_owned())),
            ValueType::Matrix => Err(Refusal::new(
                "the expression gives a range of values, not one",
                "put a function over the range, such as rate(…) or max_over_time(…)",
            )),
            ValueType::String => Err(Refusal::new("the expression gives a string", "a signal is a number")),
        }
    }
}

section! {
    /// A Prometheus server, or what speaks its API: Thanos, VictoriaMetrics, Mimir.
    Server {
        /// Its address, without `/api/v1/query`.
        url: Url = required,
    }
    flatten { http: Http }
}

/// An address, or a table with an address and how it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Prometheus(pub(crate) Server);

impl Decode for Prometheus {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        if node.value.get_ref().is_table() {
            return Server::decode(node, cx).map(Self);
        }
        let url = At::<Url>::decode(node, cx)?;
        Some(Self(Server { url: Some(url), ..Server::default() }))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [Url::schema(generator), Server::schema(generator)] })
    }
}
