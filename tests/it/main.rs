//! Integration tests: one binary, real sockets, real files, real processes.

mod alert;
mod architecture;
mod journal;
mod shipped;
mod story;
mod world;
