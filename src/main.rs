//! The `rollbackd` binary.

fn main() {}
