//! What to do about it: guards, decision, plan, verification, escalation.

pub mod hold;
pub mod plan;
