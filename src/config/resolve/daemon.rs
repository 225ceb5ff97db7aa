//! `[daemon]` with its defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::{Resolver, name};
use crate::config::model::{Daemon, Lease};
use crate::config::raw;
use crate::config::raw::decode::value;
use crate::domain::policy::Mode;
use crate::domain::time::Span;

/// Loopback: whoever wants more says so.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9477);

/// Where systemd's `StateDirectory=rollbackd` is.
const STATE_DIR: &str = "/var/lib/rollbackd";

/// As the Lease is called where nothing else is said.
const LEASE_NAME: &str = "rollbackd";

/// Short enough for another replica to go on within 20 s, long enough for a slow API server.
const LEASE_DURATION: Span = Span::from_secs(12);

/// A shorter one is lost to a busy machine; with a longer one nobody acts for too long.
const LEASE_DURATIONS: (Span, Span) = (Span::from_secs(3), Span::from_secs(60));

pub(super) fn resolve(r: &mut Resolver<'_>, written: Option<&raw::daemon::Daemon>) -> Daemon {
    let raw = written.cloned().unwrap_or_default();
    if let Some(state_dir) = raw.state_dir.as_ref().filter(|at| !at.value.is_absolute()) {
        r.problems.wrong(state_dir.at, "`state_dir` is not an absolute path").hint("begin it with `/`");
    }
    let token_file = raw.token_file.as_ref().map(|at| r.secret("token_file", at));
    let keep_key_file = raw.keep_key_file.as_ref().map(|at| r.secret("keep_key_file", at));
    Daemon {
        listen: value(&raw.listen).unwrap_or(LISTEN),
        state_dir: value(&raw.state_dir).unwrap_or_else(|| PathBuf::from(STATE_DIR)),
        mode: value(&raw.mode).unwrap_or(Mode::Enforce),
        token_file,
        keep_key_file,
        external_url: raw.external_url.map(|at| at.value.to_string()),
        lease: raw.lease.map(|at| lease(r, &at.value)),
    }
}

fn lease(r: &mut Resolver<'_>, raw: &raw::daemon::Lease) -> Lease {
    if let Some(at) = &raw.name {
        name::check_label(r, "a Lease", &at.value, at.at);
    }
    if let Some(at) = &raw.namespace {
        name::check_label(r, "a namespace", &at.value, at.at);
    }
    let (shortest, longest) = LEASE_DURATIONS;
    if let Some(at) = raw.duration.as_ref().filter(|at| !(shortest..=longest).contains(&at.value)) {
        r.problems.wrong(at.at, format!("`duration` of a lease is {shortest} to {longest}"));
    }
    Lease {
        name: value(&raw.name).unwrap_or_else(|| LEASE_NAME.to_owned()),
        namespace: value(&raw.namespace),
        duration: value(&raw.duration).unwrap_or(LEASE_DURATION),
    }
}
