//! The steps into a user namespace.

use std::fs;

use podwright_inside as inside;
use podwright_sys::ids;

use super::{Progress, Result, StepError, errno_of, kernel};
use crate::plan::{Mappings, Step};
use crate::sync;

pub(super) fn apply(progress: &mut Progress<'_>, step: &Step) -> Result<()> {
    match step {
        Step::AwaitMappings => sync::wait_for_go(&mut progress.init.report).map_err(|_| StepError::RuntimeGone),
        Step::CheckMappings(wanted) => check(wanted),
        Step::BecomeRoot { uid, gid } => become_root(*uid, *gid),
        _ => Err(StepError::Misplaced),
    }
}

/// Compares the mappings of the namespace that this process has entered, seen from the one it came from.
fn check(wanted: &Mappings) -> Result<()> {
    for (field, file, wanted) in [
        ("linux.uidMappings", "/proc/self/uid_map", wanted.uids.to_string()),
        ("linux.gidMappings", "/proc/self/gid_map", wanted.gids.to_string()),
    ] {
        let found = fs::read_to_string(file).map_err(|err| kernel(format!("read {file}"))(errno_of(&err)))?;
        let lines = |text: &str| {
            let line = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let mut lines: Vec<Vec<String>> = text.lines().map(line).collect();
            lines.sort();
            lines
        };
        if lines(&found) != lines(&wanted) {
            let found = lines(&found).iter().map(|line| line.join(" ")).collect::<Vec<_>>().join(", ");
            return Err(StepError::WrongMappings(field, found));
        }
    }
    Ok(())
}

fn become_root(uid: u32, gid: u32) -> Result<()> {
    inside::set_groups(&[])?;
    ids::set_group(gid).map_err(kernel(format!("become group {gid} of the user namespace")))?;
    ids::set_user(uid).map_err(kernel(format!("become user {uid} of the user namespace")))
}
