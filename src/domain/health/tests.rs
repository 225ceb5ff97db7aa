//! Whole observations in, assessments out.

mod combined;
mod comparison;
mod departing;
mod lifecycle;
mod pauses;
mod proofs;
mod sight;
mod signals;
mod survey;
mod verification;
mod windows;
