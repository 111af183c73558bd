//! Why there is no program.

use nix::errno::Errno;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The kernel refused.
    #[error("{what}")]
    Kernel {
        /// What was tried, beginning with the field that asks for it.
        what: String,
        /// Its answer.
        source: Errno,
    },
    /// The program cannot be executed.
    #[error("exec: {name:?}")]
    Exec {
        /// As it was called.
        name: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// There is no program of this name.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    /// A user namespace forbids setgroups(2), and there is a group to leave.
    #[error("process.user.additionalGids: the user namespace does not allow to leave groups, and there are some")]
    GroupsStay,
    /// Something else than procfs is there.
    #[error("{0}: is not in a proc file system")]
    NotProc(String),
    /// It needs something that is not there.
    #[error("a step of the plan comes before what it needs")]
    Misplaced,
}

pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(Errno) -> StepError {
    let what = what.into();
    move |source| StepError::Kernel { what, source }
}
