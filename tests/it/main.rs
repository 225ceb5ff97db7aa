//! Integration tests: one binary, real sockets, real files, real processes.

mod alert;
mod journal;
mod story;
mod world;
