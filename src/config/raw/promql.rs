//! What a Prometheus server is asked: an expression that gives one number, and where the server is.

use std::collections::BTreeSet;

use promql_parser::parser::token::{T_DIV, T_MUL};
use promql_parser::parser::{self, Expr, value::ValueType};
use promql_parser::util::{ExprVisitor, walk_expr};
use reqwest::Url;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::decode::{At, Cx, Decode, Node};
use super::http::Http;
use super::scalar::{FromText, Refusal, first_line};
use super::section::section;

/// A PromQL expression that gives a scalar or an instant vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expression(pub(crate) String);

impl Expression {
    /// What the server is asked. A share of what one family counts has no series while none of it was counted (no request
    /// has failed yet), where 0 is meant: `sum(rate(x{code="500"}[1m])) / sum(rate(x[1m]))`. It gets an `or` that is 0, and NaN
    /// where the whole is 0. Where the parts are of different families a missing one may as well have been renamed, so that
    /// such an expression is asked as it stands.
    pub(crate) fn asked(&self) -> String {
        let whole = parser::parse(&self.0).ok().and_then(|parsed| whole(&parsed).map(ToString::to_string));
        match whole.filter(|whole| parser::parse(whole).is_ok()) {
            Some(whole) => format!("({}\n) or 0 * ({whole}) / ({whole})", self.0),
            None => self.0.clone(),
        }
    }
}

/// Of a share of what one family counts, the whole: one series without labels.
fn whole(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Paren(inner) => whole(&inner.expr),
        Expr::Binary(product) if product.op.id() == T_MUL => match (&*product.lhs, &*product.rhs) {
            (Expr::NumberLiteral(_), share) | (share, Expr::NumberLiteral(_)) => whole(share),
            _ => None,
        },
        Expr::Binary(share) if share.op.id() == T_DIV && share.modifier.is_none() => {
            let (part, whole) = (families(&share.lhs)?, families(&share.rhs)?);
            let is_one = matches!(&*share.rhs, Expr::Aggregate(sum) if sum.modifier.is_none());
            (is_one && part == whole).then_some(&*share.rhs)
        }
        _ => None,
    }
}

/// The families that an expression names; none where it has no family or one without a name.
fn families(expr: &Expr) -> Option<BTreeSet<String>> {
    struct Names(BTreeSet<String>);

    impl ExprVisitor for Names {
        type Error = ();

        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, ()> {
            let selector = match expr {
                Expr::VectorSelector(selector) => selector,
                Expr::MatrixSelector(range) => &range.vs,
                _ => return Ok(true),
            };
            self.0.insert(selector.name.clone().ok_or(())?);
            Ok(true)
        }
    }

    let mut names = Names(BTreeSet::new());
    walk_expr(&mut names, expr).ok()?;
    Some(names.0).filter(|names| !names.is_empty())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_one_family_is_0_where_none_of_it_was_counted() {
        let or = |written: &str, whole: &str| Some(format!("({written}\n) or 0 * ({whole}) / ({whole})"));
        let share = "sum(rate(x{code=~\"5..\"}[1m])) / sum(rate(x[1m]))";
        let filtered = "100 * (sum(rate(x{a='1',code='5'}[1m] offset 1m)) / sum(rate(x{a='1'}[1m] offset 1m)))";
        let commented = format!("{share} # errors");
        let cases = [
            (share, or(share, "sum(rate(x[1m]))")),
            (filtered, or(filtered, "sum(rate(x{a=\"1\"}[1m] offset 1m))")),
            (commented.as_str(), or(&commented, "sum(rate(x[1m]))")),
            // Another family, more than one series, no share, or labels that are said to match.
            ("sum(rate(x_failed[1m])) / sum(rate(x[1m]))", None),
            ("sum by (job) (rate(x{code='5'}[1m])) / sum by (job) (rate(x[1m]))", None),
            ("rate(x{code='5'}[1m]) / rate(x[1m])", None),
            ("sum(rate(x{code='5'}[1m])) / on() sum(rate(x[1m]))", None),
            ("1 - sum(rate(x{code='5'}[1m])) / sum(rate(x[1m]))", None),
            ("sum({__name__=~'x|y',code='5'}) / sum({__name__=~'x|y'})", None),
            ("vector(1) / vector(2)", None),
            ("x", None),
        ];
        for (written, expected) in cases {
            let asked = Expression(written.to_owned()).asked();
            assert_eq!(asked, expected.unwrap_or_else(|| written.to_owned()), "{written}");
            assert!(parser::parse(&asked).is_ok(), "{asked}");
        }
    }
}
