//! `[daemon]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::Url;

use super::section::section;
use crate::domain::policy::Mode;

section! {
    /// The daemon itself.
    Daemon {
        /// Address and port that it answers on.
        listen: SocketAddr,
        /// Directory of the journal.
        state_dir: PathBuf,
        /// How far it may go: enforce, approve or observe. A workload may be stricter, never looser.
        mode: Mode,
        /// File that holds the bearer token for calls that change something. Without it they are refused.
        token_file: PathBuf,
        /// The address at which people reach it, for links in alerts.
        external_url: Url,
    }
    refused {
        "token": "secrets are read only from files: use `token_file`",
    }
}
