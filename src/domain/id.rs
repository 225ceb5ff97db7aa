//! Names as types, so that a target is never passed where a revision is meant.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name; the caller has validated it where a grammar applies.
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(Arc::from(name.as_ref()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    };
}

name_type!(
    /// What is watched and rolled back. `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most 63 bytes.
    WorkloadId
);
name_type!(
    /// One version of a workload: template hash, image digest or release directory; never "previous".
    RevisionId
);
name_type!(
    /// One running copy of a workload on a host, or one pod.
    InstanceId
);
name_type!(
    /// An address that is scraped or probed: `host:port`.
    TargetId
);
name_type!(
    /// A signal's name, unique within its workload.
    SignalName
);
name_type!(
    /// A trigger's name, unique within its workload.
    TriggerName
);
name_type!(
    /// A notification receiver's name.
    ReceiverName
);
name_type!(
    /// An incident: `<workload>-<UTC time of first suspicion>`, unique because a workload has one open incident at a time.
    IncidentId
);
