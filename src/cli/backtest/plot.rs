//! Each case's signals as one page with plots: values, threshold, breaches, firings, releases.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::cases::{Case, CaseResult};
use crate::domain::policy::Condition;
use crate::markup;
use crate::replay::{Curve, Curves, Kind, Outcome};
use crate::report::{Chart, Mark, STYLE, svg};

/// Where a case's page goes: into the directory, or into the file where there is one case.
pub(super) fn page_of(path: &Path, scenario: &str, cases: usize) -> anyhow::Result<PathBuf> {
    let is_page = path.extension().is_some_and(|extension| extension == "html");
    if is_page {
        anyhow::ensure!(cases == 1, "--plot {}: {cases} recordings need a directory", path.display());
        return Ok(path.to_owned());
    }
    std::fs::create_dir_all(path).with_context(|| format!("{} can't be made", path.display()))?;
    Ok(path.join(file_name(scenario)))
}

fn file_name(scenario: &str) -> String {
    let name: String =
        scenario.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    format!("{name}.html")
}

/// Refuses recordings of which one's page would lie over another's.
pub(super) fn each_has_its_page(path: &Path, cases: &[Case]) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    for name in cases.iter().map(|case| file_name(&case.scenario)) {
        let page = path.join(&name);
        anyhow::ensure!(names.insert(name), "--plot: two recordings would be drawn as {}", page.display());
    }
    Ok(())
}

/// Writes a case's page.
pub(super) fn write(path: &Path, result: &CaseResult, curves: &Curves) -> anyhow::Result<()> {
    std::fs::write(path, page(result, curves)).with_context(|| format!("{} can't be written", path.display()))
}

fn page(result: &CaseResult, curves: &Curves) -> String {
    let title = markup::html(&result.scenario);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}: backtest</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<p class=\"soft\">Backtest</p>\n<h1>{title}</h1>\n"
    );
    decisions(&mut page, &result.outcome);
    for (workload, trigger, curve) in curves.iter() {
        let marks = marks(&result.outcome, workload.as_str(), trigger.as_str(), curve);
        let range = result.outcome.range.unwrap_or_default();
        let chart = Chart {
            label: format!("{workload}: {}", curve.signal),
            unit: curve.unit,
            bound: curve.condition.and_then(Condition::threshold),
            range,
            points: &curve.points,
            shades: curve.breaches.clone(),
            marks,
        };
        let bound = curve.condition.map_or_else(String::new, |condition| condition.describe(curve.unit));
        let _ = writeln!(
            page,
            "<figure><figcaption><b>{}</b> <span class=\"soft\">{}: bad {}</span></figcaption>{}</figure>",
            markup::html(&format!("{workload}: {trigger}")),
            markup::html(curve.signal.as_str()),
            markup::html(&bound),
            svg(&chart).unwrap_or_else(|| "<p class=\"soft\">no value all along</p>".to_owned())
        );
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn decisions(page: &mut String, outcome: &Outcome) {
    if outcome.decisions.is_empty() {
        page.push_str("<p class=\"lead\">Nothing fired.</p>\n");
        return;
    }
    page.push_str(
        "<div class=\"wide\"><table>\n<thead><tr><th>At</th><th>Workload</th><th>Trigger</th><th>Decision</th>\
                   <th>Reason</th></tr></thead>\n<tbody>\n",
    );
    for decision in &outcome.decisions {
        let _ = writeln!(
            page,
            "<tr><td class=\"time\">{}</td><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td>{}</td></tr>",
            decision.fired_at,
            markup::html(decision.workload.as_str()),
            markup::html(&decision.trigger),
            tone(decision.decision),
            decision.decision.as_str(),
            markup::html(&decision.reason)
        );
    }
    page.push_str("</tbody></table></div>\n");
}

const fn tone(kind: Kind) -> &'static str {
    match kind {
        Kind::None => "good",
        Kind::Alert | Kind::Hold => "busy",
        Kind::Rollback => "bad",
    }
}

/// Releases as they came, firings, and what was decided on this trigger.
fn marks(outcome: &Outcome, workload: &str, trigger: &str, curve: &Curve) -> Vec<Mark> {
    let releases = outcome.releases.iter().filter(|(id, _, _)| id.as_str() == workload);
    let mut marks: Vec<Mark> =
        releases.map(|(_, at, revision)| Mark { label: revision.to_string(), tone: "good", at: *at }).collect();
    marks.extend(curve.firings.iter().map(|at| Mark { label: "fires".to_owned(), tone: "bad", at: *at }));
    let ours = |decision: &&crate::replay::Decision| {
        decision.workload.as_str() == workload && decision.trigger == trigger && decision.decision != Kind::None
    };
    marks.extend(outcome.decisions.iter().filter(ours).map(|decision| Mark {
        label: decision.decision.as_str().to_owned(),
        tone: tone(decision.decision),
        at: decision.fired_at,
    }));
    marks.sort_by_key(|mark| mark.at);
    marks
}
