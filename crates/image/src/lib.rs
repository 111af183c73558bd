//! Images as root file system + config.
//!
//! An image is looked up as a bundle: a directory `NAME` with an OCI `config.json` and a root file system, made by hand or
//! by a recipe. Nothing here writes to it.

mod bundle;

pub use bundle::{Bundle, BundleStore, LookupError};
