//! The command line `podwright`.
fn main() {}
