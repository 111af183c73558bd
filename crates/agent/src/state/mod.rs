//! What is kept of objects on disk, whatever their kind: [`object`] is the one store. What fails to be written, and is tried again, is
//! [`crate::storage`]'s.

pub mod error;
pub mod identity;
mod legacy;
pub mod load;
pub mod object;
pub mod pods;
pub mod state_file;
pub mod unusable;
