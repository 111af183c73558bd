//! What the checks of a container need to know of its pod.

use std::time::Duration;

/// What a container's fields are checked against.
pub(super) struct PodFacts<'a> {
    pub(super) host_network: bool,
    /// Names that may be mounted.
    pub(super) volumes: Vec<&'a str>,
    /// `terminationGracePeriodSeconds`, as it was given or defaulted.
    pub(super) grace: Duration,
    /// `os.name` is there.
    pub(super) names_os: bool,
}
