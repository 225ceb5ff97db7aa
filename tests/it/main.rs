//! Integration tests: one binary, real sockets, real files, real processes.

mod story;
mod world;
