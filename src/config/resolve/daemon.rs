//! `[daemon]` with its defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::Resolver;
use crate::config::model::Daemon;
use crate::config::raw;
use crate::config::raw::decode::value;
use crate::domain::policy::Mode;

/// Loopback: whoever wants more says so.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9477);

/// Where systemd's `StateDirectory=rollbackd` is.
const STATE_DIR: &str = "/var/lib/rollbackd";

pub(super) fn resolve(r: &mut Resolver<'_>, written: Option<&raw::daemon::Daemon>) -> Daemon {
    let raw = written.cloned().unwrap_or_default();
    if let Some(state_dir) = raw.state_dir.as_ref().filter(|at| !at.value.is_absolute()) {
        r.problems.wrong(state_dir.at, "`state_dir` is not an absolute path").hint("begin it with `/`");
    }
    let token_file = raw.token_file.as_ref().map(|at| r.secret("token_file", at));
    Daemon {
        listen: value(&raw.listen).unwrap_or(LISTEN),
        state_dir: value(&raw.state_dir).unwrap_or_else(|| PathBuf::from(STATE_DIR)),
        mode: value(&raw.mode).unwrap_or(Mode::Enforce),
        token_file,
        external_url: raw.external_url.map(|at| at.value.to_string()),
    }
}
