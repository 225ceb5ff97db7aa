//! Policy files: read whole, checked whole, every error at once.
//!
//! [`model`] is what the rest of the program sees: everything resolved, nothing optional that has a default.

pub mod model;
