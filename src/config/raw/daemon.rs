//! `[daemon]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::Url;

use super::section::section;
use crate::domain::policy::Mode;
use crate::domain::time::Span;

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
        /// File that holds the key with which Secrets are sealed that workloads `keep`; read at the start.
        keep_key_file: PathBuf,
        /// The address at which people reach it, for links in alerts.
        external_url: Url,
        /// Several replicas in a cluster: only the one that holds this Lease acts. Without it there is only one daemon.
        lease: Lease,
    }
    refused {
        "token": "secrets are read only from files: use `token_file`",
    }
}

section! {
    /// The Lease by which replicas agree on who acts. Open incidents are then kept in ConfigMaps beside it as well.
    Lease {
        /// Its name; the ConfigMaps' names begin with it.
        name: String,
        /// Its namespace; by default that of the daemon's pod.
        namespace: String,
        /// Seen unchanged for this long, it may be taken by another replica. Its holder acts for two thirds of it.
        duration: Span,
    }
}
