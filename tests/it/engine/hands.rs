//! What changes the world in these tests: nothing, when it is let.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rollbackd::domain::id::WorkloadId;
use rollbackd::domain::incident::recording::{Recording, Wanted};
use rollbackd::domain::policy::{Habitat, Owner, SmokeTest, WorkloadPolicy};
use rollbackd::domain::response::plan::{Finding, Outcome, Plan, StepKind};
use rollbackd::domain::settings::{Setting, ToKeep};
use rollbackd::domain::time::Span;
use rollbackd::engine::ports::Actuator;
use tokio::sync::Semaphore;

/// Looks plans over, and ends steps, when it is let.
pub(super) struct Hands {
    /// Plans that may be looked over.
    pub(super) plans: Semaphore,
    pub(super) looked_over: AtomicUsize,
    pub(super) begun: AtomicUsize,
    pub(super) held: Mutex<BTreeSet<WorkloadId>>,
    /// Steps that may end.
    pub(super) steps: Semaphore,
    /// Held by each step under way.
    pub(super) under_way: Arc<()>,
}

impl Hands {
    pub(super) fn new() -> Self {
        Self {
            plans: Semaphore::new(0),
            looked_over: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            held: Mutex::default(),
            steps: Semaphore::new(0),
            under_way: Arc::default(),
        }
    }
}

impl Actuator for Hands {
    async fn preflight(&self, _: &WorkloadPolicy, _: &Plan) -> Vec<Finding> {
        self.plans.acquire().await.unwrap().forget();
        self.looked_over.fetch_add(1, Ordering::SeqCst);
        Vec::new()
    }

    async fn survey(&self, _: &WorkloadPolicy, _: Option<&Plan>, _: &[Owner], _: &[Setting]) -> Vec<Finding> {
        Vec::new()
    }

    fn hold(&self, workload: &WorkloadId, is_held: bool) {
        let mut held = self.held.lock().unwrap();
        if is_held {
            held.insert(workload.clone())
        } else {
            held.remove(workload)
        };
    }

    async fn execute(&self, _: &WorkloadId, _: &StepKind, _: Span) -> Outcome {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _under_way = Arc::clone(&self.under_way);
        self.steps.acquire().await.unwrap().forget();
        Outcome::Applied
    }

    async fn keep(&self, _: &WorkloadId, _: &ToKeep) -> Result<BTreeMap<Setting, String>, String> {
        Ok(BTreeMap::new())
    }

    async fn record(&self, _: &WorkloadPolicy, _: &Wanted) -> Recording {
        Recording::default()
    }

    async fn smoke(&self, _: &WorkloadId, _: &Habitat, _: &SmokeTest) -> (bool, String) {
        std::future::pending().await
    }
}
