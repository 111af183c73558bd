//! `pause` and `resume`: the freezer of cgroup v2.

use std::path::Path;
use std::time::Duration;

use podwright_sys::cgroup::Cgroup;

use super::{change, wrong_status};
use crate::error::{Error, Result};
use crate::state::Status;

/// How long processes get to stop. One in an uninterruptible wait can outlast it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Stops all processes of a container that is created or running, and returns when they have stopped.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; [`Error::Freezer`], and then they go on.
pub fn pause(root: &Path, id: &str) -> Result<()> {
    let (_lock, state, status) = change(root, id)?;
    let state = state
        .filter(|_| matches!(status, Status::Created | Status::Running))
        .ok_or_else(|| wrong_status(id, status, "pause"))?;
    let cgroup = Cgroup::at(&state.cgroup);
    cgroup.freeze(true)?;
    if cgroup.wait_frozen(true, TIMEOUT)? {
        return Ok(());
    }
    cgroup.freeze(false)?;
    Err(Error::Freezer { id: id.into(), wanted: "paused", seconds: TIMEOUT.as_secs() })
}

/// Lets all processes of a paused container go on.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; [`Error::Freezer`] in a cgroup below one that is frozen.
pub fn resume(root: &Path, id: &str) -> Result<()> {
    let (_lock, state, status) = change(root, id)?;
    let state = state.filter(|_| status == Status::Paused).ok_or_else(|| wrong_status(id, status, "resume"))?;
    let cgroup = Cgroup::at(&state.cgroup);
    cgroup.freeze(false)?;
    if cgroup.wait_frozen(false, TIMEOUT)? {
        return Ok(());
    }
    Err(Error::Freezer { id: id.into(), wanted: "resumed", seconds: TIMEOUT.as_secs() })
}
