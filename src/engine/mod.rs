//! The one event loop. Its edges are [`ports`]; what it decides comes from the domain.

pub mod ports;
