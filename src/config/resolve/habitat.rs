//! Where a workload runs: paths that stay beneath the root, instances that don't share a symlink, commands that name the
//! release.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::Url;

use super::{Resolver, is_beneath, kubernetes, name};
use crate::config::raw;
use crate::config::raw::decode::{At, value};
use crate::config::raw::section::Lost;
use crate::config::raw::text::Argv;
use crate::config::source::Place;
use crate::config::suggest;
use crate::domain::id::InstanceId;
use crate::domain::policy::{CommandHabitat, Habitat, ReleaseDir, ReleaseInstance, Restart, Strategy};
use crate::domain::response::strategy::command::{INSTANCE, RELEASE};
use crate::domain::time::Span;

/// Where releases lie beneath the root, as Capistrano and its heirs have it.
const RELEASES: &str = "releases";

/// The symlink that names the current release, likewise.
const CURRENT: &str = "current";

/// The keys that say where a workload runs.
const PLACES: [&str; 3] = ["release_dir", "command", "kubernetes"];
/// How long one of the operator's commands may run; the limit for hooks.
const COMMAND_TIMEOUT: Span = Span::from_secs(60);

/// Shortest and longest time for a command.
const COMMAND_TIMEOUTS: (Span, Span) = (Span::from_secs(1), Span::from_secs(3600));

/// What a unit's name ends with.
const UNIT_SUFFIX: &str = ".service";

/// A habitat and what the policy says of each of its instances.
pub(super) struct Resolved {
    pub(super) habitat: Habitat,
    pub(super) instances: Vec<Instance>,
    /// The host can tell restarts and OOM kills of every instance.
    pub(super) watched: bool,
}

/// One running copy and its own addresses.
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) scrape: Option<At<Url>>,
    pub(super) health: Option<At<Url>>,
}

pub(super) fn resolve(
    r: &mut Resolver<'_>,
    workload: &str,
    key: Place,
    raw: &raw::workload::Workload,
    strategy: Strategy,
) -> Option<Resolved> {
    let mut places = raw.lost.among(&PLACES);
    places.extend(raw.release_dir.as_ref().map(|at| (at.key, "release_dir")));
    places.extend(raw.command.as_ref().map(|at| (at.key, "command")));
    places.extend(raw.kubernetes.as_ref().map(|at| (at.key, "kubernetes")));
    places.sort_unstable();
    if let [_, (later, name), ..] = places.as_slice() {
        r.problems
            .wrong(*later, format!("`{name}` is a second place for this workload"))
            .hint("a workload runs in one place: keep one of `release_dir`, `command` and `kubernetes`");
        return None;
    }
    if let Some(release_dir) = &raw.release_dir {
        return Some(self::release_dir(r, workload, release_dir, strategy, raw));
    }
    if let Some(command) = &raw.command {
        return Some(self::command(r, command));
    }
    if let Some(kubernetes) = &raw.kubernetes {
        return kubernetes::resolve(r, kubernetes, strategy);
    }
    if !raw.lost.may_be(&PLACES) {
        r.problems
            .absent(key, format!("nothing says where the workload `{workload}` runs"))
            .hint("write `release_dir = { path = \"/srv/…\", unit = \"….service\" }`, `command = { … }` or `kubernetes = { … }`");
    }
    None
}

fn release_dir(
    r: &mut Resolver<'_>,
    workload: &str,
    at: &At<raw::habitat::ReleaseDir>,
    strategy: Strategy,
    around: &raw::workload::Workload,
) -> Resolved {
    let raw = &at.value;
    if matches!(strategy, Strategy::BlueGreen | Strategy::Canary) {
        let place = around.policy.strategy.as_ref().map_or(at.key, |strategy| strategy.at);
        r.problems.wrong(place, format!("the strategy {strategy} with `release_dir`")).hint(format!(
            "release directories go back by direct or rolling; for {strategy} use `command` with the commands that switch the traffic"
        ));
    }
    if let Some(path) = raw.path.as_ref().filter(|path| !path.value.is_absolute()) {
        r.problems.wrong(path.at, "`path` is not an absolute path").hint("begin it with `/`");
    }
    for (key, field) in [("releases", &raw.releases), ("current", &raw.current)] {
        relative(r, key, field.as_ref());
    }
    let instances = match &raw.instances {
        Some(written) => several(r, raw, written),
        None => vec![one(r, workload, at)],
    };
    let (instances, addresses): (Vec<_>, Vec<_>) = instances.into_iter().unzip();
    let watched =
        instances.iter().all(|instance| instance.cgroup.is_some() || matches!(instance.restart, Restart::Unit(_)));
    let habitat = Habitat::ReleaseDir(ReleaseDir {
        root: value(&raw.path).unwrap_or_default(),
        releases: value(&raw.releases).unwrap_or_else(|| PathBuf::from(RELEASES)),
        instances,
    });
    Resolved { habitat, instances: addresses, watched }
}

fn one(r: &mut Resolver<'_>, workload: &str, at: &At<raw::habitat::ReleaseDir>) -> (ReleaseInstance, Instance) {
    let raw = &at.value;
    let id = InstanceId::new(workload);
    let instance = ReleaseInstance {
        id: id.clone(),
        current: value(&raw.current).unwrap_or_else(|| PathBuf::from(CURRENT)),
        restart: restart(r, at.key, &raw.restart, &raw.unit, &raw.lost),
        cgroup: cgroup(r, raw.cgroup.as_ref()),
    };
    (instance, Instance { id, scrape: None, health: None })
}

fn several(
    r: &mut Resolver<'_>,
    raw: &raw::habitat::ReleaseDir,
    written: &At<Vec<At<raw::habitat::ReleaseInstance>>>,
) -> Vec<(ReleaseInstance, Instance)> {
    let own = [
        ("current", raw.current.as_ref().map(|at| at.key)),
        ("restart", raw.restart.as_ref().map(|at| at.key)),
        ("unit", raw.unit.as_ref().map(|at| at.key)),
        ("cgroup", raw.cgroup.as_ref().map(|at| at.key)),
    ];
    for (key, place) in own {
        if let Some(place) = place {
            r.problems.wrong(place, format!("`{key}` beside `instances`")).hint("each instance has its own");
        }
    }
    if written.value.is_empty() {
        r.problems.wrong(written.at, "`instances` is empty").hint("leave it out where there is one copy");
    }
    let mut links: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut units: BTreeMap<String, String> = BTreeMap::new();
    let mut names = Names::default();
    let mut instances = Vec::new();
    for at in &written.value {
        let raw = &at.value;
        let Some(name) = &raw.name else { continue };
        names.check(r, name);
        relative(r, "current", raw.current.as_ref());
        if let Some(current) = &raw.current {
            let link: PathBuf = current.value.components().collect();
            if let Some(first) = links.insert(link, name.value.clone()) {
                r.problems
                    .wrong(current.at, format!("`{}` and `{first}` share a symlink", name.value))
                    .hint("each instance has its own, so that one can be taken back before the other");
            }
        }
        if let Some(unit) = &raw.unit
            && let Some(first) = units.insert(unit.value.clone(), name.value.clone())
        {
            r.problems
                .wrong(unit.at, format!("`{}` and `{first}` share a unit", name.value))
                .hint("each instance has its own, so that one can be restarted while the other serves");
        }
        let id = InstanceId::new(&name.value);
        let instance = ReleaseInstance {
            id: id.clone(),
            current: value(&raw.current).unwrap_or_default(),
            restart: restart(r, at.key, &raw.restart, &raw.unit, &raw.lost),
            cgroup: cgroup(r, raw.cgroup.as_ref()),
        };
        instances.push((instance, Instance { id, scrape: raw.scrape.clone(), health: raw.health.clone() }));
    }
    instances
}

/// Instance names that were used already.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn check(&mut self, r: &mut Resolver<'_>, name: &At<String>) {
        name::check_word(r, "an instance", &name.value, name.at);
        if self.0.contains(&name.value) {
            r.problems
                .wrong(name.at, format!("the instance {} a second time", suggest::quoted(&name.value)))
                .hint("each has a name of its own: the record and the alerts tell them apart by it");
        }
        self.0.push(name.value.clone());
    }
}

fn relative(r: &mut Resolver<'_>, key: &str, path: Option<&At<PathBuf>>) {
    if let Some(path) = path.filter(|path| !is_beneath(&path.value)) {
        r.problems
            .wrong(path.at, format!("`{key}` leads out of `path`"))
            .hint("write it relative to `path`, without `..`");
    }
}

fn cgroup(r: &mut Resolver<'_>, path: Option<&At<PathBuf>>) -> Option<PathBuf> {
    let path = path?;
    if !path.value.is_absolute() {
        r.problems
            .wrong(path.at, "`cgroup` is not an absolute path")
            .hint("write the directory, for example \"/sys/fs/cgroup/system.slice/api.service\"");
    }
    Some(path.value.clone())
}

/// Exactly one of argv and unit.
fn restart(
    r: &mut Resolver<'_>,
    key: Place,
    argv: &Option<At<Argv>>,
    unit: &Option<At<String>>,
    lost: &Lost,
) -> Restart {
    let mut given = lost.among(&["restart", "unit"]);
    given.extend(argv.as_ref().map(|at| (at.key, "restart")));
    given.extend(unit.as_ref().map(|at| (at.key, "unit")));
    given.sort_unstable();
    if let [_, (later, _)] = given.as_slice() {
        r.problems.wrong(*later, "`restart` and `unit` together").hint("one of them restarts the process: keep that");
    }
    match (argv, unit) {
        (Some(argv), _) => return Restart::Command(argv.value.0.clone()),
        (None, Some(unit)) => {
            let name = &unit.value;
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
            if !name.ends_with(UNIT_SUFFIX) {
                r.problems
                    .wrong(unit.at, format!("{} is not a service unit", suggest::quoted(name)))
                    .hint(format!("did you mean \"{name}{UNIT_SUFFIX}\"?"));
            } else if name.starts_with('-') || !name.bytes().all(legal) {
                r.problems
                    .wrong(unit.at, format!("{} is not a unit's name", suggest::quoted(name)))
                    .hint("it is made of letters, digits and :-_.\\@");
            }
            return Restart::Unit(name.clone());
        }
        (None, None) if !lost.may_be(&["restart", "unit"]) => {
            r.problems
                .absent(key, "nothing says how the process is restarted")
                .hint("add `unit = \"….service\"` or `restart = [\"program\", \"argument\"]`");
        }
        (None, None) => {}
    }
    Restart::Unit(String::new())
}

fn command(r: &mut Resolver<'_>, at: &At<raw::habitat::Command>) -> Resolved {
    let raw = &at.value;
    let mut names = Names::default();
    let instances: Vec<Instance> = raw
        .instances
        .iter()
        .flat_map(|at| &at.value)
        .filter_map(|at| {
            let instance = &at.value.0;
            let name = instance.name.as_ref()?;
            names.check(r, name);
            Some(Instance {
                id: InstanceId::new(&name.value),
                scrape: instance.scrape.clone(),
                health: instance.health.clone(),
            })
        })
        .collect();
    for (name, argv, takes_release) in [
        ("current", &raw.current, false),
        ("releases", &raw.releases, false),
        ("rollback", &raw.rollback, true),
        ("status", &raw.status, true),
        ("check", &raw.check, true),
        ("retire", &raw.retire, true),
    ] {
        if let Some(argv) = argv {
            placeholders(r, name, argv, takes_release, !instances.is_empty());
        }
    }
    if let Some(timeout) = &raw.timeout {
        r.within("timeout", timeout, COMMAND_TIMEOUTS);
    }
    let argv = |field: &Option<At<Argv>>| field.as_ref().map(|at| at.value.0.clone());
    let habitat = Habitat::Command(CommandHabitat {
        current: argv(&raw.current).unwrap_or_default(),
        releases: argv(&raw.releases).unwrap_or_default(),
        rollback: argv(&raw.rollback).unwrap_or_default(),
        status: argv(&raw.status),
        check: argv(&raw.check),
        retire: argv(&raw.retire),
        instances: instances.iter().map(|instance| instance.id.clone()).collect(),
        timeout: value(&raw.timeout).unwrap_or(COMMAND_TIMEOUT),
    });
    Resolved { habitat, instances, watched: false }
}

/// Placeholders are whole arguments, and only those that are filled in.
fn placeholders(r: &mut Resolver<'_>, name: &str, argv: &At<Argv>, takes_release: bool, has_instances: bool) {
    let arguments = &argv.value.0;
    let whole = |placeholder: &str| arguments.iter().any(|argument| argument == placeholder);
    let parts = |placeholder: &str| {
        let found = arguments.iter().find(|argument| argument.contains(placeholder) && *argument != placeholder);
        found.cloned()
    };
    for placeholder in [RELEASE, INSTANCE] {
        if let Some(argument) = parts(placeholder) {
            r.problems
                .wrong(argv.at, format!("`{placeholder}` within {}", suggest::quoted(&argument)))
                .hint("it is only filled in as a whole argument, so that a name can't become an option");
        }
    }
    if arguments.first().is_some_and(|program| program == RELEASE || program == INSTANCE) {
        r.problems.wrong(argv.at, format!("the program of `{name}` is a placeholder")).hint("write the program itself");
    }
    if !takes_release && whole(RELEASE) {
        r.problems
            .wrong(argv.at, format!("`{name}` with `{RELEASE}`"))
            .hint("it is asked which releases there are, and is not given one");
    }
    if name == "rollback" && !whole(RELEASE) && parts(RELEASE).is_none() {
        r.problems
            .wrong(argv.at, "`rollback` does not name the release")
            .hint(format!("give it \"{RELEASE}\" as an argument of its own: the release to go back to"));
    }
    if !has_instances && whole(INSTANCE) {
        r.problems
            .wrong(argv.at, format!("`{name}` with `{INSTANCE}`, but there are no instances"))
            .hint("add `instances = [\"a\", \"b\"]`");
    }
}
