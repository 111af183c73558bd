//! Options of all commands.

use std::path::PathBuf;

/// What the options before the command say.
#[derive(Debug, Clone)]
pub(super) struct Global {
    pub(super) root: PathBuf,
    /// Let systemd make cgroups.
    pub(super) systemd: bool,
}
