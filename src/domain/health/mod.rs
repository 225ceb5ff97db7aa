//! Sample → counter increase → window → signal → verdict → trigger lifecycle → assessment.

pub mod selector;
pub mod verdict;
