//! Whole observations in, assessments out.

mod lifecycle;
mod signals;
