//! The pure heart: what is observed, how it is judged, what is decided, and how it is told.
//!
//! Nothing here is asynchronous, reads a clock, draws a random number, opens a file or logs.
//! Time arrives as a [`time::Timestamp`] argument; effects leave as values.

pub mod controller;
pub mod fleet;
pub mod health;
pub mod id;
pub mod incident;
pub mod observation;
pub mod policy;
pub mod response;
pub mod settings;
pub mod time;
pub mod units;

#[cfg(test)]
pub(crate) mod testing;
