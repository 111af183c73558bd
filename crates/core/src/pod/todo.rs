//! What is to be done next, as it is gathered.

use super::plan::Step;
use crate::time::Time;

/// Steps and the earliest moment to look again, as they are gathered.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) steps: Vec<Step>,
    pub(super) wake_at: Option<Time>,
}

impl Todo {
    /// Looks again at `at`, unless that has passed.
    pub(super) fn wake(&mut self, at: Time, now: Time) {
        if at > now {
            self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
        }
    }
}
