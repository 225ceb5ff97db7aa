//! What a short policy means.

use super::{parsed, refused};
use crate::domain::id::WorkloadId;
use crate::domain::policy::{Condition, Habitat, Mode, Severity};

const SHORT: &str = r#"
[workload.api]
release_dir = { path = "/srv/api", unit = "api.service" }
scrape = { port = 5000 }
health = { port = 5000, expect = { status = "Healthy", db.ok = true } }
"#;

#[test]
fn a_short_policy_has_the_critical_triggers() {
    let config = parsed(SHORT);
    let workload = &config.workloads[&WorkloadId::new("api")];
    let policy = &workload.policy;
    let triggers: Vec<_> = policy
        .triggers
        .iter()
        .map(|t| {
            assert_eq!(t.severity, Severity::Critical);
            let Condition::Above(bound) = t.condition else { panic!("{t:?}") };
            format!("{}: {} > {} for {}", t.name, t.signal, bound.get(), t.hold_for)
        })
        .collect();
    assert_eq!(
        triggers,
        [
            "error rate: error_rate > 0.1 for 5m",
            "p99 latency: p99_latency > 5 for 2m",
            "oom kills: oom_kills > 0 for 0s",
            "crash loops: crash_loops > 0 for 0s",
            "health: health > 0.5 for 2m",
        ]
    );
    assert_eq!(policy.mode, Mode::Enforce);
    let Habitat::ReleaseDir(dir) = &policy.habitat else { panic!("{:?}", policy.habitat) };
    assert_eq!(dir.instances[0].id.as_str(), "api");
    assert_eq!(workload.sources.scrape[0].url.as_str(), "http://127.0.0.1:5000/metrics");
    let health = &workload.sources.health[0];
    assert_eq!(health.endpoint.url.as_str(), "http://127.0.0.1:5000/health");
    let expect: Vec<_> = health.expect.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(expect, ["db.ok=true", "status=\"Healthy\""]);
}

#[test]
fn what_can_not_be_seen_is_not_judged_by_default() {
    let config = parsed("[workload.api]\nrelease_dir = { path = \"/srv/api\", unit = \"api.service\" }\n");
    let policy = &config.workloads[&WorkloadId::new("api")].policy;
    let triggers: Vec<_> = policy.triggers.iter().map(|trigger| trigger.signal.as_str()).collect();
    assert_eq!(triggers, ["oom_kills", "crash_loops"]);
    assert!(policy.verify.checks.is_empty());
    assert!(policy.operands.as_slice().is_empty());
    let signals: Vec<_> = policy.signals.keys().map(|name| name.as_str()).collect();
    let built_in =
        ["crash_loops", "health", "image_pull_failures", "oom_kills", "progress_deadline", "restarts", "unavailable"];
    assert_eq!(signals, built_in);
}

#[test]
fn a_deployment_is_protected_by_a_policy_of_one_line() {
    let config = parsed("[workload.api]\nkubernetes = { namespace = \"prod\", deployment = \"api\" }\n");
    let policy = &config.workloads[&WorkloadId::new("api")].policy;
    let triggers: Vec<_> = policy.triggers.iter().map(|trigger| trigger.signal.as_str()).collect();
    assert_eq!(triggers, ["oom_kills", "crash_loops", "image_pull_failures", "progress_deadline", "unavailable"]);
}

#[test]
fn every_error_is_reported_at_once() {
    let errors =
        refused("[workload.api]\nintervall = 5\nmode = \"dry\"\nrelease_dir = { path = \"srv\", unit = \"api\" }\n");
    assert_eq!(
        errors,
        [
            "test.toml:2:1: unknown key `intervall` (did you mean `interval`?)",
            "test.toml:3:8: `dry` is not a mode (known here: `enforce`, `approve`, `observe`)",
            "test.toml:4:24: `path` is not an absolute path (begin it with `/`)",
            "test.toml:4:38: `api` is not a service unit (did you mean \"api.service\"?)",
        ]
    );
}
