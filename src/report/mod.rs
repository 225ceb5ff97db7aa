//! The post-mortem of an incident for people and programs: Markdown, one self-contained HTML page, JSON.

mod plot;
mod view;

use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use crate::domain::incident::report::Report;
use crate::markup;
use view::View;

pub(crate) use plot::{Chart, Mark, svg};
pub(crate) use view::{moment, tone};

/// What the report's page looks like; also in the digest that the page's content policy names.
pub const STYLE: &str = include_str!("style.css");

const TEMPLATES: [(&str, &str); 2] =
    [("report.md", include_str!("report.md.j2")), ("report.html", include_str!("report.html.j2"))];

static ENVIRONMENT: LazyLock<Result<Environment<'static>, minijinja::Error>> =
    LazyLock::new(|| markup::environment(&TEMPLATES));

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template does not fit what it is given: a defect.
    #[error("the report's template failed ({0})")]
    Template(String),
    /// The report could not be written as JSON: a defect.
    #[error("the report could not be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// As Markdown.
///
/// # Errors
/// [`RenderError::Template`].
pub fn markdown(report: &Report) -> Result<String, RenderError> {
    render("report.md", report)
}

/// As one HTML page that needs nothing else: style within, plots as SVG, no scripts.
///
/// # Errors
/// [`RenderError::Template`].
pub fn html(report: &Report) -> Result<String, RenderError> {
    render("report.html", report)
}

/// As JSON, indented.
///
/// # Errors
/// [`RenderError::Json`].
pub fn json(report: &Report) -> Result<String, RenderError> {
    Ok(serde_json::to_string_pretty(report)?)
}

fn render(name: &str, report: &Report) -> Result<String, RenderError> {
    let environment = ENVIRONMENT.as_ref().map_err(|error| RenderError::Template(format!("{error:#}")))?;
    let plots: Vec<plot::Drawing> = if name.ends_with(".html") {
        report.plots.iter().filter_map(|one| plot::draw(one, report)).collect()
    } else {
        Vec::new()
    };
    let context = context! {
        r => Value::from(Serde(View::of(report))),
        plots => Value::from(Serde(plots)),
        style => Value::from_safe_string(STYLE.to_owned()),
    };
    environment
        .get_template(name)
        .and_then(|template| template.render(context))
        .map_err(|error| RenderError::Template(format!("{error:#}")))
}
