//! What the agent's API and its clients both know: where it is served, and the words of its own that objects bear.

/// The API's socket, in the agent's run directory.
pub const SOCKET: &str = "podwright.sock";
/// The agent's run directory unless it is told otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/podwright";
/// Where the API is served unless the agent is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/podwright/podwright.sock";

/// Annotation of a pod that has ended and was removed: since when.
pub const ENDED_AT: &str = "podwright.dev/ended-at";

/// `status.reason` of a pod, and type and reason of the condition of a job or cron job, whose state on disk cannot be used.
pub const STATE_UNUSABLE: &str = "StateUnusable";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_socket_is_in_the_default_run_directory() {
        assert_eq!(DEFAULT_SOCKET, format!("{DEFAULT_RUN_DIR}/{SOCKET}"));
    }
}
