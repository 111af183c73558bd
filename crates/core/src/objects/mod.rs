//! What all objects have in common: their kinds, and how each is told from the others.

mod identity;
mod kind;

pub use identity::Identity;
pub use kind::Kind;
