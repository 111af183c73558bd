//! What all objects have in common: their kinds, how each is told from the others, where they come from, what outlives the agent.

mod identity;
mod kind;
mod origin;
mod state;

pub use identity::Identity;
pub use kind::Kind;
pub use origin::{FileOrigin, Origin, OwnerReference};
pub use state::DurableState;
