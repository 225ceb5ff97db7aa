//! Unit tests of policies: series in promtool's notation, rollouts, and what is expected of the policy at which moment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::bind::{Options, REVISION_LABEL};
use super::drive::{Subject, Watcher, replay};
use super::notation;
use super::outcome::{Decision, Kind};
use super::recording::{Recorder, Recording};
use super::rollouts::Schedule;
use crate::config::source::Source;
use crate::config::{self, Overrides};
use crate::domain::controller::Controller;
use crate::domain::health::selector::{MatchOp, Matcher, Selector};
use crate::domain::health::verdict::{TriggerState, TriggerStatus};
use crate::domain::id::RevisionId;
use crate::domain::time::{Span, Timestamp};

/// When a test begins, on no clock in particular: 2026-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// What lost sight is called in place of a trigger.
const BLIND: &str = "blind";

/// A file of tests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    /// The policy file, relative to this one.
    policy_file: Option<PathBuf>,
    /// The policy itself, as the text of a policy file.
    policy: Option<String>,
    /// Which of the policy's workloads, where it has several.
    workload: Option<String>,
    /// Time between two values of a series.
    interval: Option<Span>,
    /// The label that tells a series' release.
    revision_label: Option<String>,
    /// The tests.
    #[serde(default, rename = "test")]
    tests: Vec<Spanned<Test>>,
}

/// One test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    interval: Option<Span>,
    #[serde(default)]
    series: Vec<Series>,
    #[serde(default)]
    rollout: Vec<Spanned<Rollout>>,
    #[serde(default)]
    expect: Vec<Spanned<Expect>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    series: Spanned<String>,
    values: Spanned<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollout {
    at: Span,
    revision: String,
}

/// What is expected at one moment; whatever is left out may be anything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    at: Span,
    trigger: Option<String>,
    state: Option<State>,
    decision: Option<Kind>,
    /// Part of the decision's reason.
    reason: Option<String>,
    /// The guard that holds.
    hold: Option<String>,
    /// The release in service.
    release: Option<String>,
}

/// Where a trigger is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Inactive,
    Pending,
    Firing,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Inactive => "inactive",
            State::Pending => "pending",
            State::Firing => "firing",
        })
    }
}

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// What is not as expected, one line each; nothing where all is.
    pub wrong: Vec<String>,
}

/// A file of tests that can't be run.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The file can't be read.
    #[error("{} can't be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no such file.
    #[error("{} is no file of tests", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Place and what is wrong.
        source: Box<toml::de::Error>,
    },
    /// Something in it can't be.
    #[error("{}: {why}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What.
        why: String,
    },
    /// Something at one place of it can't be.
    #[error("{place}: {why}")]
    Odd {
        /// File, line and column.
        place: String,
        /// What.
        why: String,
    },
    /// Its policy can't be used.
    #[error("{}: the policy can't be used", path.display())]
    Policy {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<config::LoadError>,
    },
}

/// Runs a file's tests.
///
/// # Errors
/// [`SuiteError`] where the file or its policy can't be used; what is not as expected is in the results.
pub fn run(path: &Path) -> Result<Vec<TestResult>, SuiteError> {
    let unreadable = |source| SuiteError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let suite: Suite = toml::from_str(&text)
        .map_err(|source| SuiteError::Malformed { path: path.to_owned(), source: Box::new(source) })?;
    let wrong = |why: String| SuiteError::Wrong { path: path.to_owned(), why };
    if suite.tests.is_empty() {
        return Err(wrong("there is no [[test]] in it".to_owned()));
    }
    let subject = subject(path, &suite)?;
    let source = Source::new(path.to_owned(), text);
    let one = |test: &Spanned<Test>| {
        run_one(&suite, test, &subject).map_err(|Odd { place, why }| SuiteError::Odd {
            place: place.map_or_else(
                || path.display().to_string(),
                |offset| {
                    let (line, column) = source.position(offset);
                    format!("{}:{line}:{column}", path.display())
                },
            ),
            why: format!("{:?}: {why}", test.get_ref().name),
        })
    };
    suite.tests.iter().map(one).collect()
}

/// What is wrong in a test, and where in the text.
struct Odd {
    place: Option<usize>,
    why: String,
}

impl Odd {
    fn of(error: &std::io::Error) -> Self {
        Self { place: None, why: error.to_string() }
    }
}

fn subject(path: &Path, suite: &Suite) -> Result<Subject, SuiteError> {
    let wrong = |why: String| SuiteError::Wrong { path: path.to_owned(), why };
    let policy = |source| SuiteError::Policy { path: path.to_owned(), source: Box::new(source) };
    let config = match (&suite.policy_file, &suite.policy) {
        (Some(file), None) => {
            let file = path.parent().unwrap_or(Path::new("")).join(file);
            config::load(&file, Overrides::default()).map_err(policy)?
        }
        (None, Some(text)) => config::parse(&[(path.to_owned(), text.clone())])
            .map_err(|diagnostics| policy(config::LoadError::Invalid(diagnostics)))?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(wrong("one of `policy_file` and `policy` says which policy is tested".to_owned()));
        }
    };
    let mut workloads = config.workloads.into_iter();
    let found = match &suite.workload {
        Some(name) => workloads.find(|(id, _)| id.as_str() == name),
        None => workloads.next().filter(|_| workloads.next().is_none()),
    };
    let (id, workload) = found.ok_or_else(|| wrong("`workload` must name one of the policy's workloads".to_owned()))?;
    Ok(Subject { id, policy: Arc::clone(&workload.policy) })
}

fn run_one(suite: &Suite, written: &Spanned<Test>, subject: &Subject) -> Result<TestResult, Odd> {
    let test = written.get_ref();
    if test.expect.is_empty() {
        let why = "it expects nothing, so that it could never fail: write `expect`".to_owned();
        return Err(Odd { place: Some(written.span().start), why });
    }
    let interval = test.interval.or(suite.interval).unwrap_or(subject.policy.interval);
    let recording = record(test, interval)?;
    let end = recording.range().map_or(Span::ZERO, |(_, last)| last.since(BEGIN));
    test.expect.iter().try_for_each(|expect| could_fail(expect, subject, end))?;
    if let Some(late) = test.rollout.iter().find(|rollout| rollout.get_ref().at > end) {
        let Rollout { at, revision } = late.get_ref();
        let why = format!("{revision:?} would come at {at}: the series end at {end}");
        return Err(Odd { place: Some(late.span().start), why });
    }
    let rollouts = test.rollout.iter().map(Spanned::get_ref);
    let options = Options {
        revision_label: suite.revision_label.clone().unwrap_or_else(|| REVISION_LABEL.to_owned()),
        schedule: Schedule {
            rollouts: rollouts.map(|rollout| (BEGIN + rollout.at, RevisionId::new(&rollout.revision))).collect(),
            before: None,
        },
        ..Options::default()
    };
    let mut moments = Moments { expected: &test.expect, found: BTreeMap::new() };
    let outcome =
        replay(&recording, std::slice::from_ref(subject), &options, &mut moments).map_err(|error| Odd::of(&error))?;
    let found = moments.found;
    let wrong = test
        .expect
        .iter()
        .enumerate()
        .flat_map(|(index, expect)| mismatches(expect.get_ref(), found.get(&index), &outcome.decisions))
        .collect();
    Ok(TestResult { name: test.name.clone(), wrong })
}

/// Refuses what would pass whatever the policy does: what is expected of a trigger that it has not, and of a time that
/// nothing is recorded of.
fn could_fail(expect: &Spanned<Expect>, subject: &Subject, end: Span) -> Result<(), Odd> {
    let odd = |why| Err(Odd { place: Some(expect.span().start), why });
    let Expect { at, trigger, state, decision, reason, hold, release } = expect.get_ref();
    if state.is_none() && decision.is_none() && reason.is_none() && hold.is_none() && release.is_none() {
        let say = "write `state`, `decision`, `reason`, `hold` or `release`";
        return odd(format!("nothing is expected at {at}, so that it could never fail: {say}"));
    }
    if *at > end {
        return odd(format!("nothing is judged at {at}: the series end at {end}"));
    }
    let names: Vec<&str> = subject.policy.triggers.iter().map(|trigger| trigger.name.as_str()).collect();
    match trigger.as_deref() {
        Some(name) if name != BLIND && !names.contains(&name) => {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            odd(format!("the policy has no trigger {name:?}: it has {}", names.join(", ")))
        }
        Some(_) | None => Ok(()),
    }
}

fn record(test: &Test, interval: Span) -> Result<Recording, Odd> {
    let mut recorder = Recorder::new();
    let mut known = Vec::new();
    for Series { series: written, values } in &test.series {
        let of = |place: usize, why: String| Odd {
            place: Some(place),
            why: format!("series {:?}: {why}", written.get_ref()),
        };
        let wrong = |why: String| of(written.span().start, why);
        let (name, labels) = Selector::parse(written.get_ref())
            .ok()
            .and_then(|selector| as_series(&selector))
            .ok_or_else(|| wrong("write a name and labels, as in name{label=\"value\"}".to_owned()))?;
        let twice = labels
            .iter()
            .enumerate()
            .find(|(index, (name, _))| labels[..*index].iter().any(|(other, _)| other == name));
        if let Some((_, (name, _))) = twice {
            return Err(wrong(format!("it has the label {name:?} twice")));
        }
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let series = recorder.series(&name, &labels).ok_or_else(|| wrong("too many series".to_owned()))?;
        if known.contains(&series) {
            return Err(wrong("the test has it twice".to_owned()));
        }
        known.push(series);
        recorder.family(&name, None);
        let points = notation::values(values.get_ref()).map_err(|why| of(values.span().start, why))?;
        for (number, value) in (0..).zip(points) {
            if let Some(value) = value {
                recorder.point(series, BEGIN + interval.times(number), value).map_err(|error| Odd::of(&error))?;
            }
        }
    }
    Ok(recorder.finish())
}

/// Name and labels, where the selector has nothing but equalities.
fn as_series(selector: &Selector) -> Option<(String, Vec<(String, String)>)> {
    let label = |matcher: &Matcher| {
        (matcher.op() == MatchOp::Equal).then(|| (matcher.name().to_owned(), matcher.value().to_owned()))
    };
    let labels: Option<Vec<_>> = selector.matchers().iter().map(label).collect();
    Some((selector.name()?.to_owned(), labels?))
}

/// What was so at each moment at which something is expected: the last judgement until then.
struct Moments<'t> {
    expected: &'t [Spanned<Expect>],
    found: BTreeMap<usize, Moment>,
}

#[derive(Debug)]
struct Moment {
    triggers: Vec<TriggerStatus>,
    release: Option<RevisionId>,
}

impl Watcher for Moments<'_> {
    fn judged(&mut self, controller: &Controller, now: Timestamp) {
        for (index, expect) in self.expected.iter().enumerate() {
            if now > BEGIN + expect.get_ref().at {
                continue;
            }
            let triggers = controller.assessment().triggers.clone();
            let release = controller.state().current.as_ref().map(|current| current.revision.clone());
            self.found.insert(index, Moment { triggers, release });
        }
    }
}

fn mismatches(expect: &Expect, moment: Option<&Moment>, decisions: &[Decision]) -> Vec<String> {
    let mut wrong = Vec::new();
    let at = BEGIN + expect.at;
    let whose = expect.trigger.as_ref().map_or_else(String::new, |trigger| format!(" {trigger:?}"));
    let mut say = |what: String| wrong.push(format!("at {}{whose}: {what}", expect.at));
    if let Some(state) = expect.state {
        match (&expect.trigger, moment) {
            (None, _) => say("`state` needs the `trigger` that it is of".to_owned()),
            (Some(_), None) => say(format!("expected {state}, but nothing was judged by then")),
            (Some(name), Some(moment)) => match moment.triggers.iter().find(|one| one.name.as_str() == name) {
                None => say("the policy has no such trigger".to_owned()),
                Some(one) if state_of(one) == state => {}
                Some(one) => say(format!("expected {state}, is {}", shown(one))),
            },
        }
    }
    if let Some(release) = &expect.release {
        let found = moment.and_then(|moment| moment.release.as_ref()).map_or("none", RevisionId::as_str);
        if found != release {
            say(format!("expected the release {release}, is {found}"));
        }
    }
    let about = |decision: &&Decision| {
        decision.fired_at <= at && expect.trigger.as_ref().is_none_or(|trigger| *trigger == decision.trigger)
    };
    decided(expect, decisions.iter().rfind(about), &mut say);
    wrong
}

fn decided(expect: &Expect, last: Option<&Decision>, say: &mut impl FnMut(String)) {
    let found = last.map_or(Kind::None, |decision| decision.decision);
    let told = last.map_or_else(
        || "nothing fired by then".to_owned(),
        |last| format!("{} at {}: {}", last.decision.as_str(), last.fired_at.since(BEGIN), last.reason),
    );
    if let Some(kind) = expect.decision.filter(|kind| *kind != found) {
        say(format!("expected the decision {}, is {told}", kind.as_str()));
    }
    if let Some(reason) = expect.reason.as_ref().filter(|part| !last.is_some_and(|last| last.reason.contains(*part))) {
        say(format!("expected {reason:?} in the reason, is {told}"));
    }
    if let Some(hold) = expect.hold.as_ref().filter(|hold| last.and_then(|last| last.hold.as_ref()) != Some(hold)) {
        say(format!("expected to be held by {hold}, is {told}"));
    }
}

fn state_of(trigger: &TriggerStatus) -> State {
    match trigger.state {
        TriggerState::Inactive => State::Inactive,
        TriggerState::Pending { .. } => State::Pending,
        TriggerState::Firing { .. } => State::Firing,
    }
}

fn shown(trigger: &TriggerStatus) -> String {
    let evidence = &trigger.evidence;
    let value = match (&evidence.value, &evidence.verdict) {
        (Some(value), _) => format!("{} is {}", evidence.signal, evidence.unit.format(value.get())),
        (None, crate::domain::health::verdict::Verdict::Unknown(reason)) => format!("{}: {reason}", evidence.signal),
        (None, _) => format!("{} has no value", evidence.signal),
    };
    let state = match trigger.state {
        TriggerState::Pending { held, .. } => format!("pending for {held} of {}", trigger.hold_for),
        TriggerState::Firing { at, .. } => format!("firing since {}", at.since(BEGIN)),
        TriggerState::Inactive => "inactive".to_owned(),
    };
    format!("{state} ({value})")
}
