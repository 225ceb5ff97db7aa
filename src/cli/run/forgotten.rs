//! What is open of workloads that left the policy while no daemon ran: it is closed, and all receivers are told, since the
//! workload's own are not known any more. Otherwise a page about it would stay open for ever. Where something that was begun
//! is not over, that is ended first.

use std::sync::Arc;

use crate::config::model::Config;
use crate::domain::controller;
use crate::domain::health::memory::Memory;
use crate::domain::id::{ReceiverName, WorkloadId};
use crate::domain::incident::state::WorkloadState;
use crate::domain::policy::WorkloadPolicy;
use crate::domain::time::Timestamp;
use crate::engine::Adoption;
use crate::engine::ports::{Batch, Journal, Notice};

/// Closes it, and gives those for which something is to be ended before. What can't be written now is tried at the next start.
pub(super) async fn close(
    journal: &impl Journal,
    states: &[(WorkloadId, WorkloadState)],
    is_known: impl Fn(&WorkloadId) -> bool,
    config: &Config,
    now: Timestamp,
) -> Vec<Adoption> {
    let receivers: Vec<ReceiverName> = config.receivers.keys().cloned().collect();
    let mut left = Vec::new();
    for (workload, state) in states.iter().filter(|(id, _)| !is_known(id)) {
        if controller::owes(state) {
            let policy = Arc::new(WorkloadPolicy::of_the_departed(workload.clone(), receivers.clone()));
            left.push(Adoption { policy, state: Ok(state.clone()), memory: Memory::default() });
            continue;
        }
        let Some((record, alert)) = controller::forgotten(workload, state.clone(), now) else { continue };
        let incident = alert.incident.clone();
        let notice = Notice { alert, receivers: receivers.clone() };
        match journal.commit(Batch { records: vec![record], notices: vec![notice] }).await {
            Ok(()) => tracing::info!(%workload, %incident, "closed: the workload is no longer in the policy"),
            Err(error) => {
                tracing::error!(%workload, %incident, %error, "an incident of a workload that left can't be closed")
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load};
    use crate::domain::incident::record::{Cause, Event, Record};
    use crate::domain::policy::{Mode, Strategy};
    use crate::engine::ports::Outbox;
    use crate::store::Store;

    /// `gone` was being watched and had an incident open; `api` is what is left.
    #[tokio::test]
    async fn what_is_open_of_a_workload_that_left_is_closed_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("p.toml");
        let text = "[notify.oncall]\nwebhook = \"http://127.0.0.1:9/\"\n[workload.api]\nrelease_dir = { path = \"/srv/api\", unit = \"api.service\" }\nhealth = { port = 8080 }\n";
        std::fs::write(&policy, text).unwrap();
        let config = load(&policy, Overrides::default()).unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        let at = Timestamp::from_millis(1_000);
        let event = Event::Suspected {
            cause: Cause::Blind { reason: "no route".to_owned() },
            from: None,
            goal: None,
            onset: at,
            mode: Mode::Enforce,
            strategy: Strategy::Direct,
        };
        let record = Record { workload: "gone".into(), sequence: 1, incident: Some("gone-1".into()), at, event };
        store.commit(Batch { records: vec![record], notices: Vec::new() }).await.unwrap();
        for _ in 0..2 {
            let states: Vec<_> =
                store.reader().fold().await.unwrap().into_iter().map(|(id, s)| (id, s.unwrap())).collect();
            let now = Timestamp::from_millis(2_000);
            let left = close(&store, &states, |id| config.workloads.contains_key(id), &config, now).await;
            assert!(left.is_empty(), "nothing was begun for it");
        }
        let due = store.due(&"oncall".into(), Timestamp::from_millis(3_000), 9).await.unwrap();
        let told: Vec<String> = due.into_iter().map(|delivery| delivery.alert.unwrap().reason).collect();
        assert_eq!(told, ["nothing is watched under this name any more"]);
    }
}
