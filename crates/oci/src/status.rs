//! Where a container is in its life, and the version of what is kept of it.

/// Version of `state.json`.
pub const STATE_VERSION: u32 = 1;

/// runtime-spec, runtime.md, "State".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Being made, or left behind half-made.
    Creating,
    /// Waits for `start`.
    Created,
    /// Runs.
    Running,
    /// All of its processes are stopped by `pause`, whether it was started or only created.
    Paused,
    /// Has ended.
    Stopped,
}

impl Status {
    /// The specification's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}
