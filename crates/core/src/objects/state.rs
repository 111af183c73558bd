//! What outlives the agent of an object besides the object itself.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::time::Time;

/// What has become of an object, as it is kept on disk.
pub trait DurableState: fmt::Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Moves its moments `shift_ns` ahead: an agent counts them from an origin of its own, and reads them at `now`.
    fn shift(&mut self, shift_ns: i64, now: Time);
}
