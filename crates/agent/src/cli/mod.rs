//! The command line `podwright`.
