//! What to do about it: guards, decision, plan, verification, escalation.

mod attribution;
pub mod ending;
pub mod goal;
pub mod guard;
pub mod hold;
pub mod ladder;
pub mod plan;
pub mod readiness;
pub mod strategy;
