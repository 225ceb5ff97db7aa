//! Scenario files with golden timelines: `tests/scenarios/*.toml`, each with what must be told beside it. After a wanted
//! change `UPDATE_EXPECT=1 cargo test scenarios` writes the timelines anew, to be read before they are committed.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rollbackd::domain::controller::RequestKind;
use rollbackd::domain::policy::{Mode, Severity, Strategy, Term, WorkloadPolicy};
use rollbackd::domain::time::Span;
use serde::Deserialize;

use crate::world::{Behaviour, DAWN, Script, WELL, World, policy};

/// One story.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// What it shows.
    #[serde(rename = "about")]
    _about: String,
    #[serde(default = "direct")]
    strategy: Strategy,
    #[serde(default = "one_instance")]
    instances: Vec<String>,
    #[serde(default = "enforce")]
    mode: Mode,
    probation: Option<Span>,
    severity: Option<Severity>,
    /// Triggers of which people are told and nothing more.
    #[serde(default)]
    alert_only: Vec<String>,
    /// The errors are to be confirmed by this signal, by the bound of its own trigger.
    confirm_with: Option<String>,
    /// How long it goes on.
    until: Span,
    #[serde(default)]
    fault: Vec<Fault>,
    #[serde(default)]
    at: Vec<Moment>,
}

/// How a release behaves for a while.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    /// Only this release; all of them where it is not given.
    release: Option<String>,
    from: Span,
    to: Option<Span>,
    #[serde(default)]
    errors: f64,
    /// Errors at the end, reached evenly.
    errors_end: Option<f64>,
    rate: Option<f64>,
    #[serde(default)]
    unhealthy: bool,
    #[serde(default)]
    unreadable: bool,
    /// Takes connections and answers nothing.
    #[serde(default)]
    hangs: bool,
    #[serde(default)]
    nan: bool,
    #[serde(default)]
    frozen: bool,
    #[serde(default)]
    renamed: bool,
    /// Only in the first so many seconds of each period.
    flaps: Option<(u64, u64)>,
}

/// Something that happens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Moment {
    t: Span,
    #[serde(flatten)]
    what: What,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Publish(String),
    Deploy(String),
    Prune(String),
    HideReleases(bool),
    Restart(bool),
    OomKill(bool),
    Kill(bool),
    Pause(String),
    Resume(bool),
    Approve(bool),
    Reject(String),
    Rollback(String),
    Trigger(String),
}

const fn direct() -> Strategy {
    Strategy::Direct
}

const fn enforce() -> Mode {
    Mode::Enforce
}

fn one_instance() -> Vec<String> {
    vec!["a".to_owned()]
}

impl Fault {
    fn behaviour(&self, revision: &str, at: Span) -> Option<Behaviour> {
        let ours = self.release.as_ref().is_none_or(|release| release == revision);
        let end = self.to.unwrap_or(Span::from_secs(1_000_000));
        let second = at.as_millis() / 1000;
        let up = self.flaps.is_none_or(|(on, period)| second % period < on);
        if !ours || !up || at < self.from || at >= end {
            return None;
        }
        let share = (at.as_secs_f64() - self.from.as_secs_f64()) / (end.as_secs_f64() - self.from.as_secs_f64());
        let errors = self.errors_end.map_or(self.errors, |last| self.errors + (last - self.errors) * share);
        Some(Behaviour {
            errors,
            rate: self.rate.unwrap_or(WELL.rate),
            healthy: !self.unhealthy && !self.hangs,
            readable: !self.unreadable && !self.hangs,
            hangs: self.hangs,
            nan: self.nan,
            frozen: self.frozen,
            renamed: self.renamed,
        })
    }
}

fn play(scenario: &Scenario) -> World {
    let names: Vec<&str> = scenario.instances.iter().map(String::as_str).collect();
    let mut policy = WorkloadPolicy { mode: scenario.mode, ..policy(scenario.strategy, &names) };
    policy.probation = scenario.probation.unwrap_or(policy.probation);
    for trigger in &mut policy.triggers {
        trigger.severity = scenario.severity.unwrap_or(trigger.severity);
        if scenario.alert_only.iter().any(|name| name == trigger.name.as_str()) {
            trigger.severity = Severity::Alert;
        }
    }
    if let Some(second) = &scenario.confirm_with {
        let trigger = policy.triggers.iter().find(|trigger| trigger.signal.as_str() == second).expect("a known signal");
        let term = Term { signal: trigger.signal.clone(), condition: trigger.condition };
        policy.triggers[0].confirm_with = Some(term);
    }
    let faults: Arc<[Fault]> = scenario.fault.clone().into();
    let script: Script = Box::new(move |revision, now| {
        let at = now.since(DAWN);
        faults.iter().find_map(|fault| fault.behaviour(revision, at)).unwrap_or(WELL)
    });
    let mut world = World::new(policy, script);
    let mut moments: Vec<&Moment> = scenario.at.iter().collect();
    moments.sort_by_key(|moment| moment.t);
    for moment in moments {
        world.run(moment.t.minus(world.now.since(DAWN)));
        happen(&mut world, &moment.what);
    }
    world.run(scenario.until.minus(world.now.since(DAWN)));
    world
}

trait Minus {
    fn minus(self, other: Span) -> Span;
}

impl Minus for Span {
    fn minus(self, other: Span) -> Span {
        Span::from_millis(self.as_millis().saturating_sub(other.as_millis()))
    }
}

fn happen(world: &mut World, what: &What) {
    let open = world.incident();
    // What an operator asks for may be refused; the timeline shows what came of it.
    let ask = |world: &mut World, kind| drop(world.ask(kind));
    match what {
        What::Publish(revision) => world.publish(revision),
        What::Deploy(revision) => world.deploy(revision),
        What::Prune(revision) => world.prune(revision),
        What::HideReleases(hidden) => world.releases_hidden = *hidden,
        What::Restart(true) => world.restart(),
        What::OomKill(true) => world.oom_kill(),
        What::Kill(lost) => world.crash(*lost),
        What::Pause(reason) => ask(world, RequestKind::Pause { reason: reason.clone() }),
        What::Resume(true) => ask(world, RequestKind::Resume),
        What::Approve(true) => {
            if let Some(incident) = open {
                ask(world, RequestKind::Approve { incident, to: None });
            }
        }
        What::Restart(false) | What::OomKill(false) | What::Resume(false) | What::Approve(false) => {}
        What::Reject(reason) => {
            if let Some(incident) = open {
                ask(world, RequestKind::Reject { incident, reason: reason.clone() });
            }
        }
        What::Rollback(reason) => {
            ask(world, RequestKind::Rollback { reason: reason.clone(), to: None, force: Vec::new() });
        }
        What::Trigger(kind) => {
            ask(world, RequestKind::Trigger { kind: kind.clone(), reason: "reported".to_owned(), key: None });
        }
    }
}

/// What was told and done, a line each, times since the world's beginning.
fn timeline(world: &mut World) -> String {
    let mut lines: Vec<(Span, String)> = Vec::new();
    for (alert, at) in world.alerts.iter().zip(&world.alert_times) {
        let route = [alert.from.as_ref().map(|f| f.revision.as_str()), alert.to.as_ref().map(|t| t.revision.as_str())];
        let route: Vec<&str> = route.into_iter().flatten().collect();
        let line = format!("{:<17} {:<11} {:<8} {}", alert.phase, alert.trigger.name, route.join("→"), alert.reason);
        lines.push((at.since(DAWN), line));
    }
    for (at, instance, to) in &world.switches {
        lines.push((at.since(DAWN), format!("* {instance} switched to {to}")));
    }
    lines.sort_by_key(|(at, _)| *at);
    let mut text = String::new();
    for (at, line) in lines {
        writeln!(text, "{:7.1}s  {line}", at.as_secs_f64()).expect("a string takes all");
    }
    writeln!(text, "end: running {}", world.running().unwrap_or("several releases")).expect("a string takes all");
    let explained = world.fleet.explain(&world.policy.id, world.now).expect("the workload is watched");
    writeln!(text, "why: {}", explained.decision).expect("a string takes all");
    text
}

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the scenarios are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_scenario_is_told_as_expected() {
    let mut wrong = Vec::new();
    let files = files();
    assert!(files.len() >= 20, "only {} scenarios", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        let scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut world = play(&scenario);
        let told = timeline(&mut world);
        if let Some(other) = crate::again::other_decision(&world.journal) {
            wrong.push(format!("{}: made again from its records: {other}", file.display()));
        }
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&expected, &told).expect("writable");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != told {
            wrong.push(format!("{}: told\n{told}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
