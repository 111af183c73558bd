//! What a plan depends on besides config.json.

use std::path::Path;

use super::step::Gate;

/// What comes from the command line and not from config.json.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle directory, absolute.
    pub bundle: &'a Path,
    /// What the first process waits for.
    pub gate: Gate,
    /// Make a session keyring.
    pub keyring: bool,
    /// Change the root with pivot_root(2), which the initial ramfs does not allow.
    pub pivot: bool,
    /// Let systemd make the cgroup.
    pub systemd: bool,
}
