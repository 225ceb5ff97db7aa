//! What a replica that stands by says of what would be done.

use std::collections::BTreeMap;

use rollbackd::domain::controller::Standby;
use rollbackd::engine::ports::Role;

use super::{STANDBY, known, stage_as};

/// What it would do is done by the replica that leads, if there is one.
#[tokio::test]
async fn a_plan_asked_of_a_replica_that_stands_by_says_who_would_act() {
    let stage = stage_as(Role::Standby { leader: Some("other".to_owned()) }, &["app"]).await;
    stage.hands.plans.add_permits(3);
    let mut told = Vec::new();
    for role in [Role::Standby { leader: Some("other".to_owned()) }, STANDBY, Role::Leader { term: 1 }] {
        let leads = role.term().is_some();
        stage.sits(role);
        assert_eq!(stage.engine.lead(1, known(), BTreeMap::new()).await.unwrap(), leads);
        let preview = stage.engine.preview("app".into()).await.unwrap().unwrap();
        told.push((preview.is_clear(), preview.standby));
    }
    let standby = |leader: Option<&str>, reason: &str| {
        Some(Standby { leader: leader.map(str::to_owned), reason: reason.to_owned() })
    };
    assert_eq!(
        told,
        [
            (true, standby(Some("other"), "this replica stands by, other leads")),
            (false, standby(None, "this replica stands by, and nobody leads at this moment")),
            (true, None),
        ]
    );
}
