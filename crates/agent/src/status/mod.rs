//! What the agent knows, for whoever asks: pods and their last status, events, and the files of the manifest directory.
//!
//! Written by the workers and the source, read by [`crate::api`]. Nothing here reads a clock: moments are arguments.
//! [`Store`] is the whole interface; [`changes`] lets a watcher catch up, [`retention`] decides how long an ended
//! pod stays readable, [`events`] folds repeated events into one.

pub mod changes;
pub mod events;
pub mod files;
pub mod index;
pub mod node;
pub mod of_batch;
pub mod of_pod;
pub mod retention;
mod store;
mod wall;

pub use changes::{Change, Collection, Expired};
pub use events::{EventInput, Subject};
pub use files::{FileReport, FileState};
pub use index::Index;
pub use node::NodeReport;
pub use retention::Retention;
pub use store::{PodKey, Pruned, PutError, Snapshot, Store, StoredPod, Watcher};
