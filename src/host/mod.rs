//! What a plain host offers: release directories and programs, looked at and run with care.
//!
//! Observation reads here and action writes with what is here, so that the two agree on what a link or a command says
//! without knowing each other.

pub mod command;
pub mod disk;
pub mod process;
pub mod release_dir;
pub mod text;
