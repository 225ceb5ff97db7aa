//! The demo's policy file: what an operator would write, with times short enough to watch.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use super::control::address;
use super::proxy::CANARY_HEADER;
use super::stage::{RELEASES, Stage};
use super::supervisor::Spec;
use super::{GOOD, WORKLOAD};
use crate::domain::policy::Strategy;

/// What the policy says of the daemon and of the receiver of its alerts.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where the daemon answers.
    pub listen: SocketAddr,
    /// Where its journal lies.
    pub state_dir: &'a Path,
    /// The bearer token for calls that change something.
    pub token_file: Option<&'a Path>,
    /// Where alerts go.
    pub webhook: &'a str,
    /// What they are signed with.
    pub secret_file: Option<&'a Path>,
}

/// Signals and triggers that every strategy has.
const JUDGEMENT: &str = r#"
[workload.shop.signal.error_rate]
window = "5s"
min_requests = 20

[workload.shop.signal.p99_latency]
window = "5s"
min_requests = 20

[workload.shop.signal.p95_latency]
window = "5s"
min_requests = 20

[workload.shop.signal.crash_loops]
window = "15s"

[[workload.shop.trigger]]
name = "error rate"
signal = "error_rate"
above = "10%"
for = "1s"

[[workload.shop.trigger]]
name = "latency"
signal = "p99_latency"
above = "5s"
for = "1s"

[[workload.shop.trigger]]
name = "health"
signal = "health"
above = "50%"
for = "1s"

[[workload.shop.trigger]]
name = "crash loops"
signal = "crash_loops"
above = 0
for = "0s"
"#;

/// Where the kernel's count of deaths for memory can be read.
const MEMORY: &str = r#"
[workload.shop.signal.oom_kills]
window = "15s"

[[workload.shop.trigger]]
name = "memory"
signal = "oom_kills"
above = 0
for = "0s"
"#;

impl Stage {
    /// The policy file for a daemon that watches this stage.
    #[must_use]
    pub fn policy_toml(&self, around: &Surroundings<'_>) -> String {
        let mut text = daemon(around);
        text.push_str(&self.workload());
        text.push_str(JUDGEMENT);
        if self.proxy.is_none() {
            text.push_str(MEMORY);
        }
        let smoke = quoted(&self.control_command(&["smoke"]));
        section(&mut text, "workload.shop.verify", &[("stable_for", "\"2s\"".to_owned()), ("smoke", smoke)]);
        text
    }

    fn workload(&self) -> String {
        let mut text = String::new();
        section(
            &mut text,
            &format!("workload.{WORKLOAD}"),
            &[
                ("strategy", quoted(&self.strategy.to_string())),
                ("interval", "\"500ms\"".to_owned()),
                // The story's processes answer as fast in their first second as later.
                ("warmup", "\"0s\"".to_owned()),
                ("known_good_after", "\"2s\"".to_owned()),
                ("deadline", "\"40s\"".to_owned()),
                ("notify", "[\"local\"]".to_owned()),
            ],
        );
        match self.proxy {
            Some(proxy) => self.behind(proxy, &mut text),
            None => self.on_a_host(&mut text),
        }
        text
    }

    /// The traffic is switched by the operator's own commands, and the service is observed where it is used: at the proxy.
    fn behind(&self, proxy: SocketAddr, text: &mut String) {
        let commands = [
            ("current", vec!["current"]),
            ("releases", vec!["releases"]),
            ("check", vec!["check", "{release}"]),
            ("rollback", vec!["rollback", "{release}"]),
            ("status", vec!["status", "{release}"]),
            ("retire", vec!["retire", "{release}"]),
        ];
        let commands = commands.map(|(key, action)| (key, quoted(&self.control_command(&action))));
        section(text, "workload.shop.command", &commands);
        // The header leads to the canary while there is one, so that its page is judged and not now one, now the other.
        let headers = match self.strategy {
            Strategy::Canary => vec![("headers", format!("{{ {CANARY_HEADER} = \"always\" }}"))],
            Strategy::Direct | Strategy::Rolling | Strategy::BlueGreen => Vec::new(),
        };
        let scrape = [("url", quoted(&page(proxy, "metrics")))];
        let health = [("url", quoted(&page(proxy, "health")))];
        section(text, "workload.shop.scrape", &[&scrape, &headers[..]].concat());
        section(text, "workload.shop.health", &[&health, &answer()[..], &headers[..]].concat());
    }

    fn on_a_host(&self, text: &mut String) {
        let place = [("path", quoted(&self.root)), ("releases", quoted(RELEASES))];
        section(text, "workload.shop.release_dir", &place);
        match self.specs.as_slice() {
            [only] => {
                let keys = self.instance(only);
                for (key, value) in keys {
                    line(text, key, &value);
                }
                section(text, "workload.shop.scrape", &[("url", quoted(&page(only.listen, "metrics")))]);
                let health = [("url", quoted(&page(only.listen, "health")))];
                section(text, "workload.shop.health", &[&health, &answer()[..]].concat());
            }
            several => {
                for spec in several {
                    let addresses = [
                        ("name", quoted(&spec.name)),
                        ("scrape", quoted(&page(spec.listen, "metrics"))),
                        ("health", quoted(&page(spec.listen, "health"))),
                    ];
                    let keys = [&addresses[..], &self.instance(spec)[..]].concat();
                    section(text, "[workload.shop.release_dir.instances]", &keys);
                }
                section(text, "workload.shop.health", &answer());
            }
        }
    }

    fn instance(&self, spec: &Spec) -> [(&'static str, String); 3] {
        let link = spec.link.strip_prefix(&self.root).unwrap_or(&spec.link);
        [
            ("current", quoted(link)),
            ("restart", quoted(&self.control_command(&["restart", &spec.name]))),
            ("cgroup", quoted(&spec.cgroup)),
        ]
    }
}

fn daemon(around: &Surroundings<'_>) -> String {
    let mut text = format!("# rollbackd's demo: {WORKLOAD} in two releases, of which {GOOD} is good.\n");
    let path = |key, path: Option<&Path>| path.map(|path| (key, quoted(path)));
    let mut keys = vec![("listen", quoted(&around.listen.to_string())), ("state_dir", quoted(around.state_dir))];
    keys.extend(path("token_file", around.token_file));
    section(&mut text, "daemon", &keys);
    let mut keys = vec![("webhook", quoted(around.webhook))];
    keys.extend(path("secret_file", around.secret_file));
    section(&mut text, "notify.local", &keys);
    text
}

/// What a health answer must say, and where it says which release gave it.
fn answer() -> [(&'static str, String); 2] {
    [("expect", "{ status = \"Healthy\" }".to_owned()), ("revision_json", "\"version\"".to_owned())]
}

fn page(of: SocketAddr, path: &str) -> String {
    format!("{}{path}", address(of))
}

fn section(text: &mut String, name: &str, keys: &[(&str, String)]) {
    // Writing to a string can't fail.
    let _written = write!(text, "\n[{name}]\n");
    for (key, value) in keys {
        line(text, key, value);
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    let _written = writeln!(text, "{key} = {value}");
}

/// A string or a list of strings; JSON's way to write these is TOML's too.
fn quoted<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
