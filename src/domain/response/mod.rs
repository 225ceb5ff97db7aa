//! What to do about it: guards, decision, plan, verification, escalation.
