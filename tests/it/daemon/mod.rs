//! The real binary as a process: told to stop, to read its policy anew, or to be one of two; and the commands that ask it.

mod asking;
pub(crate) mod host;
mod journal;
mod life;
mod process;
