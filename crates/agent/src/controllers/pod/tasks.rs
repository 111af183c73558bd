//! Tasks that end with whoever wants their answer.

use tokio::task::AbortHandle;

/// Ends a task when it is dropped.
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
