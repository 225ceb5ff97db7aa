//! The signals of a workload: built in, conventional, and spelt out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::convention::{self, Conventional};
use super::{Resolver, http, name};
use crate::config::model::Query;
use crate::config::raw;
use crate::config::raw::decode::{At, Entry, Named, value};
use crate::config::raw::promql::Prometheus;
use crate::config::source::Place;
use crate::config::suggest;
use crate::config::units::{self, Measure};
use crate::domain::health::selector::Selector;
use crate::domain::id::SignalName;
use crate::domain::policy::{
    Aggregate, Builtin, Candidate, Formula, NoData, Operand, OperandId, OperandKind, Operands, Signal,
};
use crate::domain::time::Span;
use crate::domain::units::Unit;

/// How far back a signal looks where the policy does not say.
const WINDOW: Span = Span::from_secs(60);

/// Restarts, OOM kills and crash loops are rare: they are counted over longer.
const EVENTS_WINDOW: Span = Span::from_secs(600);

/// A window must hold two samples, or nothing can have increased in it.
const SAMPLES_IN_WINDOW: u64 = 2;

/// Samples of a longer window don't fit into the memory that a workload has.
const LONGEST_WINDOW: Span = Span::from_secs(24 * 3600);

/// Requests below which a ratio or a quantile says nothing.
const MIN_REQUESTS: u64 = 20;

/// One-sided confidence of a ratio.
const CONFIDENCE: f64 = 0.95;

/// Names that the `verify` section uses itself.
const RESERVED: [&str; 4] = ["stable_for", "smoke", "smoke_timeout", "release"];

/// What each built-in is measured in. What is seen at once looks back over the two intervals after which it is stale.
const BUILTINS: [(&str, Builtin, Unit, Option<Span>); 7] = [
    ("crash_loops", Builtin::CrashLoops, Unit::Plain, Some(EVENTS_WINDOW)),
    ("health", Builtin::Health, Unit::Ratio, None),
    ("image_pull_failures", Builtin::ImagePullFailures, Unit::Plain, None),
    ("oom_kills", Builtin::OomKills, Unit::Plain, Some(EVENTS_WINDOW)),
    ("progress_deadline", Builtin::ProgressDeadline, Unit::Plain, None),
    ("restarts", Builtin::Restarts, Unit::Plain, Some(EVENTS_WINDOW)),
    ("unavailable", Builtin::Unavailable, Unit::Ratio, None),
];

/// What a signal needs to be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    /// An exposition page.
    Scrape,
    /// A health endpoint.
    Health,
    /// Nothing but the host, or the cluster.
    Nothing,
}

/// A signal, and what the policy does not show to the rest of the program.
pub(super) struct Known {
    pub(super) signal: Signal,
    /// What it is measured in; `None` where nothing says so.
    pub(super) unit: Option<Unit>,
    pub(super) needs: Needs,
}

impl Known {
    /// Whether it counts or times something; a gauge or an expression may be anything.
    pub(super) fn is_never_negative(&self) -> bool {
        let is_counted = |candidate: &Candidate| match candidate.formula {
            Formula::Ratio { .. }
            | Formula::Histogram { .. }
            | Formula::Summary { .. }
            | Formula::Rate { .. }
            | Formula::Builtin(_) => true,
            Formula::Gauge { .. } | Formula::Query => false,
        };
        self.signal.candidates.iter().all(is_counted)
    }
}

/// All signals of a workload by name. One whose section is wrong is `None`: it exists, but nothing can be said of it.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) known: BTreeMap<String, Option<Known>>,
    pub(super) operands: Operands,
    /// What Prometheus servers are asked.
    pub(super) queries: Vec<Query>,
}

impl Signals {
    /// `prometheus` is the workload's server, for expressions that name none.
    pub(super) fn resolve(
        r: &mut Resolver<'_>,
        written: &Named<raw::signal::Signal>,
        prometheus: Option<&At<Prometheus>>,
        interval: Span,
    ) -> Self {
        let mut signals = Self::default();
        let none = raw::signal::Signal::default();
        for (name, builtin, unit, window) in BUILTINS {
            let raw = written.get(name).unwrap_or(&none);
            refuse_formula(r, name, raw);
            let window = window.unwrap_or(interval.times(SAMPLES_IN_WINDOW));
            let needs = if builtin == Builtin::Health { Needs::Health } else { Needs::Nothing };
            let formula = Candidate { convention: None, formula: Formula::Builtin(builtin), scale: 1.0 };
            let shape = Shape { unit: Some(unit), candidates: vec![formula], counts_requests: false, needs };
            signals.add(r, name, raw, shape, window, interval);
        }
        for (name, conventional) in convention::SIGNALS {
            let raw = written.get(name).unwrap_or(&none);
            if ways(raw).is_empty() {
                let shape = signals.conventional(r, conventional, raw);
                signals.add(r, name, raw, shape, WINDOW, interval);
            }
        }
        for entry in &written.0 {
            if !signals.known.contains_key(&entry.name) {
                signals.add_spelt(r, entry, prometheus, interval);
            }
        }
        signals
    }

    /// Those that could be resolved. Without a page there is nothing to read on it.
    pub(super) fn finish(self, scraped: bool) -> (BTreeMap<SignalName, Signal>, Operands) {
        let known = self.known.into_values().flatten().filter(|known| scraped || known.needs != Needs::Scrape);
        let operands = if scraped { self.operands } else { Operands::default() };
        (known.map(|known| (known.signal.name.clone(), known.signal)).collect(), operands)
    }

    fn conventional(&mut self, r: &mut Resolver<'_>, conventional: Conventional, raw: &raw::signal::Signal) -> Shape {
        for (key, place) in [
            ("quantile", raw.quantile.as_ref().map(|at| at.key)),
            ("aggregate", raw.aggregate.as_ref().map(|at| at.key)),
            ("unit", raw.unit.as_ref().map(|at| at.key)),
            ("prometheus", raw.prometheus.as_ref().map(|at| at.key)),
        ] {
            if let Some(place) = place {
                r.problems
                    .wrong(place, format!("`{key}` without series"))
                    .hint("the convention says it; name the series as well to replace the convention");
            }
        }
        Shape {
            unit: Some(conventional.unit()),
            candidates: conventional.candidates(&mut self.operands).unwrap_or_default(),
            counts_requests: conventional.counts_requests(),
            needs: Needs::Scrape,
        }
    }

    fn add_spelt(
        &mut self,
        r: &mut Resolver<'_>,
        entry: &Entry<raw::signal::Signal>,
        prometheus: Option<&At<Prometheus>>,
        interval: Span,
    ) {
        let name = &entry.name;
        name::check_word(r, "a signal", name, entry.key);
        if RESERVED.contains(&&**name) {
            r.problems
                .wrong(entry.key, format!("a signal can't be called `{name}`"))
                .hint("`verify` uses that name itself");
        }
        match self.spelt(r, entry, prometheus) {
            Some(shape) => self.add(r, name, &entry.value, shape, WINDOW, interval),
            None => {
                check_terms(r, &entry.value, interval);
                self.known.insert(name.clone(), None);
            }
        }
    }

    /// The formula that a section spells out.
    fn spelt(
        &mut self,
        r: &mut Resolver<'_>,
        entry: &Entry<raw::signal::Signal>,
        prometheus: Option<&At<Prometheus>>,
    ) -> Option<Shape> {
        let raw = &entry.value;
        let ways = ways(raw);
        let Some((first_key, way)) = ways.first().copied() else {
            if !raw.lost.may_be(&WAYS) {
                let builtin = BUILTINS.iter().map(|(name, ..)| *name);
                let tunable = builtin.chain(convention::SIGNALS.iter().map(|(name, _)| *name));
                let hint = match suggest::nearest(&entry.name, tunable) {
                    Some(nearest) => format!("`{nearest}` exists by itself; did you mean that?"),
                    None => {
                        "write `bad` and `total`, `histogram`, `summary`, `gauge`, `counter` or `promql`".to_owned()
                    }
                };
                r.problems.absent(entry.key, format!("nothing says how `{}` is computed", entry.name)).hint(hint);
            }
            return None;
        };
        let damaged = raw.lost.among(&WAYS).into_iter().map(|(key, name)| (key, Way::of(name)));
        let mut all: Vec<_> = ways.iter().copied().chain(damaged).collect();
        all.sort_unstable();
        all.dedup_by_key(|(_, way)| *way);
        if let [(_, way), (key, second), ..] = all.as_slice() {
            r.problems
                .wrong(*key, format!("`{}` beside `{}`", second.key(), way.key()))
                .hint("a signal is computed in one way: keep one of them");
            return None;
        }
        self.check_companions(r, raw, way);
        match way {
            Way::Ratio => self.ratio(r, raw, first_key),
            Way::Histogram => {
                let family = raw.histogram.as_ref()?;
                check_family(r, family);
                let buckets = self.operand(r, family, OperandKind::Buckets)?;
                let quantile = quantile(r, raw, family.key)?;
                Some(Shape::measured(r, raw, family, Formula::Histogram { buckets, quantile }, true))
            }
            Way::Summary => {
                let summary = raw.summary.as_ref()?;
                let quantiles = self.operand(r, summary, OperandKind::Quantiles)?;
                let quantile = quantile(r, raw, summary.key)?;
                Some(Shape::measured(r, raw, summary, Formula::Summary { quantiles, quantile }, false))
            }
            Way::Gauge => {
                let written = raw.gauge.as_ref()?;
                let gauge = self.operand(r, written, OperandKind::Value)?;
                let aggregate = value(&raw.aggregate).unwrap_or(Aggregate::Sum);
                Some(Shape::measured(r, raw, written, Formula::Gauge { gauge, aggregate }, false))
            }
            Way::Rate => {
                let counter = self.operand(r, raw.counter.as_ref()?, OperandKind::Value)?;
                Some(Shape::fixed(Unit::PerSecond, Formula::Rate { counter }, false))
            }
            Way::Query => self.query(r, entry, prometheus),
        }
    }

    fn query(
        &mut self,
        r: &mut Resolver<'_>,
        entry: &Entry<raw::signal::Signal>,
        prometheus: Option<&At<Prometheus>>,
    ) -> Option<Shape> {
        let raw = &entry.value;
        let expression = raw.promql.as_ref()?;
        let Some(server) = raw.prometheus.as_ref().or(prometheus) else {
            if !raw.lost.may_be(&["prometheus"]) {
                r.problems
                    .absent(expression.key, "`promql` without `prometheus`")
                    .hint("add prometheus = \"http://…\" here or to the workload: the server that evaluates it");
            }
            return None;
        };
        let server = &server.value.0;
        let measure: Option<Measure> = value(&raw.unit);
        let candidate = Candidate {
            convention: None,
            formula: Formula::Query,
            scale: measure.map_or(1.0, |measure| measure.scale),
        };
        self.queries.push(Query {
            signal: SignalName::new(&entry.name),
            expression: expression.value.asked(),
            server: value(&server.url)?,
            http: Arc::new(http::resolve(r, &server.http)),
        });
        let unit = measure.map(|measure| measure.unit);
        Some(Shape { unit, candidates: vec![candidate], counts_requests: false, needs: Needs::Nothing })
    }

    fn ratio(&mut self, r: &mut Resolver<'_>, raw: &raw::signal::Signal, key: Place) -> Option<Shape> {
        let (Some(bad), Some(total)) = (&raw.bad, &raw.total) else {
            if !raw.lost.may_be(&["bad", "total"]) {
                let (there, missing) = if raw.bad.is_some() { ("bad", "total") } else { ("total", "bad") };
                r.problems
                    .absent(key, format!("`{there}` without `{missing}`"))
                    .hint("a ratio is the increase of `bad` over the increase of `total`");
            }
            return None;
        };
        // Both are looked at, whatever is wrong with the first.
        let (bad, total) = (self.operand(r, bad, OperandKind::Value), self.operand(r, total, OperandKind::Value));
        let (bad, total) = (bad?, total?);
        Some(Shape::fixed(Unit::Ratio, Formula::Ratio { bad, total }, true))
    }

    /// Keys that go with some ways of computing a signal only.
    fn check_companions(&self, r: &mut Resolver<'_>, raw: &raw::signal::Signal, way: Way) {
        let quantile = matches!(way, Way::Histogram | Way::Summary);
        let unit = matches!(way, Way::Histogram | Way::Summary | Way::Gauge | Way::Query);
        let requests = matches!(way, Way::Ratio | Way::Histogram);
        for (key, place, fits, with) in [
            ("quantile", raw.quantile.as_ref().map(|at| at.key), quantile, "`histogram` and `summary`"),
            ("aggregate", raw.aggregate.as_ref().map(|at| at.key), way == Way::Gauge, "`gauge`"),
            ("unit", raw.unit.as_ref().map(|at| at.key), unit, "`histogram`, `summary`, `gauge` and `promql`"),
            (
                "min_requests",
                raw.min_requests.as_ref().map(|at| at.key),
                requests,
                "`bad` and `total`, and `histogram`",
            ),
            ("confidence", raw.confidence.as_ref().map(|at| at.key), way == Way::Ratio, "`bad` and `total`"),
            ("prometheus", raw.prometheus.as_ref().map(|at| at.key), way == Way::Query, "`promql`"),
            (
                "window",
                raw.window.as_ref().map(|at| at.key),
                way != Way::Query,
                "series; an expression has its own ranges",
            ),
        ] {
            if let Some(place) = place.filter(|_| !fits) {
                r.problems.wrong(place, format!("`{key}` beside `{}`", way.key())).hint(format!("it goes with {with}"));
            }
        }
    }

    fn operand(&mut self, r: &mut Resolver<'_>, written: &At<Selector>, kind: OperandKind) -> Option<OperandId> {
        let id = self.operands.intern(Operand { selector: written.value.clone(), kind });
        if id.is_none() {
            r.problems.wrong(written.at, "a workload reads at most 65,536 different selectors");
        }
        id
    }

    /// The signal as its section tunes it.
    fn add(
        &mut self,
        r: &mut Resolver<'_>,
        name: &str,
        raw: &raw::signal::Signal,
        shape: Shape,
        window: Span,
        interval: Span,
    ) {
        check_terms(r, raw, interval);
        let shortest = interval.times(SAMPLES_IN_WINDOW);
        let signal = Signal {
            name: SignalName::new(name),
            unit: shape.unit.unwrap_or(Unit::Plain),
            candidates: shape.candidates,
            window: value(&raw.window).unwrap_or(window.max(shortest)),
            min_requests: value(&raw.min_requests).unwrap_or(if shape.counts_requests { MIN_REQUESTS } else { 0 }),
            no_data: value(&raw.no_data).unwrap_or(NoData::Hold),
            confidence: value(&raw.confidence).unwrap_or(CONFIDENCE),
        };
        self.known.insert(name.to_owned(), Some(Known { signal, unit: shape.unit, needs: shape.needs }));
    }
}

/// What is asked of a signal's samples, however it is computed.
fn check_terms(r: &mut Resolver<'_>, raw: &raw::signal::Signal, interval: Span) {
    let shortest = interval.times(SAMPLES_IN_WINDOW);
    if let Some(written) = &raw.window {
        if written.value < shortest {
            r.problems
                .wrong(written.at, format!("a window of {} with an interval of {interval}", written.value))
                .hint(format!("a window holds at least two samples: write \"{shortest}\" or more"));
        }
        r.within("window", written, (Span::ZERO, LONGEST_WINDOW));
    }
    if let Some(confidence) = raw.confidence.as_ref().filter(|at| !(at.value > 0.5 && at.value < 1.0)) {
        r.problems
            .wrong(confidence.at, "`confidence` is not between 0.5 and 1")
            .hint("0.95 means that one verdict in twenty may be chance");
    }
}

/// The signals of the convention table as no policy tunes them.
pub(crate) fn conventional() -> (Vec<Signal>, Operands) {
    let mut operands = Operands::default();
    let signals = convention::SIGNALS.into_iter().map(|(name, conventional)| Signal {
        name: SignalName::new(name),
        unit: conventional.unit(),
        candidates: conventional.candidates(&mut operands).unwrap_or_default(),
        window: WINDOW,
        min_requests: if conventional.counts_requests() { MIN_REQUESTS } else { 0 },
        no_data: NoData::Hold,
        confidence: CONFIDENCE,
    });
    let signals = signals.collect();
    (signals, operands)
}

/// How a signal is computed, and what follows from that.
struct Shape {
    unit: Option<Unit>,
    candidates: Vec<Candidate>,
    counts_requests: bool,
    needs: Needs,
}

impl Shape {
    fn fixed(unit: Unit, formula: Formula, counts_requests: bool) -> Self {
        let candidates = vec![Candidate { convention: None, formula, scale: 1.0 }];
        Self { unit: Some(unit), candidates, counts_requests, needs: Needs::Scrape }
    }

    /// In the unit that the section or the metric's name says.
    fn measured(
        r: &mut Resolver<'_>,
        raw: &raw::signal::Signal,
        series: &At<Selector>,
        formula: Formula,
        counts_requests: bool,
    ) -> Self {
        let by_name = series.value.name().and_then(units::measure_of_name);
        if let (Some(said), Some(named)) = (&raw.unit, by_name)
            && said.value != named
        {
            r.problems
                .wrong(said.at, "`unit` contradicts the metric's name")
                .hint("leave it out: the name's suffix says what the series is in");
        }
        let measure: Option<Measure> = value(&raw.unit).or(by_name);
        let scale = measure.map_or(1.0, |measure| measure.scale);
        let candidates = vec![Candidate { convention: None, formula, scale }];
        Self { unit: measure.map(|measure| measure.unit), candidates, counts_requests, needs: Needs::Scrape }
    }
}

/// The ways to compute a signal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Ratio,
    Histogram,
    Summary,
    Gauge,
    Rate,
    Query,
}

impl Way {
    const fn key(self) -> &'static str {
        match self {
            Way::Ratio => "bad / total",
            Way::Histogram => "histogram",
            Way::Summary => "summary",
            Way::Gauge => "gauge",
            Way::Rate => "counter",
            Way::Query => "promql",
        }
    }

    /// The way that one of [`WAYS`] belongs to.
    fn of(key: &str) -> Self {
        match key {
            "histogram" => Way::Histogram,
            "summary" => Way::Summary,
            "gauge" => Way::Gauge,
            "counter" => Way::Rate,
            "promql" => Way::Query,
            _ => Way::Ratio,
        }
    }
}

/// The keys of all of them.
const WAYS: [&str; 7] = ["bad", "total", "histogram", "summary", "gauge", "counter", "promql"];

/// Those that a section uses, in the order of the file.
fn ways(raw: &raw::signal::Signal) -> Vec<(Place, Way)> {
    let key = |at: &Option<At<Selector>>| at.as_ref().map(|at| at.key);
    let mut ways: Vec<_> = [
        (key(&raw.bad).or(key(&raw.total)), Way::Ratio),
        (key(&raw.histogram), Way::Histogram),
        (key(&raw.summary), Way::Summary),
        (key(&raw.gauge), Way::Gauge),
        (key(&raw.counter), Way::Rate),
        (raw.promql.as_ref().map(|at| at.key), Way::Query),
    ]
    .into_iter()
    .filter_map(|(key, way)| key.map(|key| (key, way)))
    .collect();
    ways.sort_unstable();
    ways
}

/// Built-in signals can be tuned, not redefined.
fn refuse_formula(r: &mut Resolver<'_>, name: &str, raw: &raw::signal::Signal) {
    for (place, way) in ways(raw) {
        r.problems
            .wrong(place, format!("`{}` in the section of `{name}`, which is built in", way.key()))
            .hint("choose another name for a signal of your own");
    }
    for (key, place) in [
        ("quantile", raw.quantile.as_ref().map(|at| at.key)),
        ("aggregate", raw.aggregate.as_ref().map(|at| at.key)),
        ("unit", raw.unit.as_ref().map(|at| at.key)),
        ("prometheus", raw.prometheus.as_ref().map(|at| at.key)),
        ("min_requests", raw.min_requests.as_ref().map(|at| at.key)),
        ("confidence", raw.confidence.as_ref().map(|at| at.key)),
    ] {
        if let Some(place) = place {
            r.problems
                .wrong(place, format!("`{key}` in the section of `{name}`, which is built in"))
                .hint("`window` and `no_data` can be set there");
        }
    }
}

/// A histogram is named by its family.
fn check_family(r: &mut Resolver<'_>, family: &At<Selector>) {
    let Some(stem) = family.value.name().and_then(|name| name.strip_suffix("_bucket")) else { return };
    r.problems.wrong(family.at, "`histogram` names the buckets").hint(format!("name the family: `{stem}`"));
}

fn quantile(r: &mut Resolver<'_>, raw: &raw::signal::Signal, key: Place) -> Option<f64> {
    let Some(quantile) = &raw.quantile else {
        if !raw.lost.may_be(&["quantile"]) {
            r.problems
                .absent(key, "`quantile` is missing")
                .hint("quantile = 0.99 is the value that 99 % of requests stay below");
        }
        return None;
    };
    if !(0.0..=1.0).contains(&quantile.value) {
        let hint = match quantile.value {
            percent if (1.0..=100.0).contains(&percent) => format!("write {}", percent / 100.0),
            _ => "0.99 is the value that 99 % of requests stay below".to_owned(),
        };
        r.problems.wrong(quantile.at, "`quantile` is not between 0 and 1").hint(hint);
    }
    Some(quantile.value)
}
