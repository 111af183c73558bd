//! `ps`: the processes of a container, in the numbering of the runtime's PID namespace.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use podwright_sys::cgroup::{Cgroup, CgroupError};
use podwright_sys::printable;

use crate::error::{Error, Result, file};
use crate::state::StateDir;

/// All processes in the container's cgroup and below, lowest pid first. A container that has ended usually has none.
///
/// # Errors
/// [`Error::NotFound`]; those of reading the cgroup.
pub fn pids(root: &Path, id: &str) -> Result<Vec<i32>> {
    let dir = StateDir::new(root, id)?;
    dir.load()?;
    let Some(cgroup) = dir.cgroup() else { return Ok(Vec::new()) };
    let mut pids = match Cgroup::at(cgroup).all_procs() {
        Ok(pids) => pids,
        Err(CgroupError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(err) => return Err(err.into()),
    };
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// A table of these processes: pid, parent, user and command line.
#[must_use]
pub fn table(pids: &[i32]) -> String {
    let mut table = format!("{:>7} {:>7} {:>7} CMD\n", "UID", "PID", "PPID");
    for pid in pids {
        // One that has just ended is left out.
        let Some((uid, parent, name)) = status(*pid) else { continue };
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let line = words.join(" ");
        let line = if line.trim().is_empty() { format!("[{name}]") } else { line.trim_end().to_owned() };
        table += &format!("{uid:>7} {pid:>7} {parent:>7} {}\n", printable::line(&line));
    }
    table
}

/// Effective user, parent and name, from proc_pid_status(5).
fn status(pid: i32) -> Option<(u32, i32, String)> {
    // A process names itself as it likes.
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    let uid = value("Uid")?.split('\t').nth(1)?.parse().ok()?;
    Some((uid, value("PPid")?.parse().ok()?, value("Name")?.to_owned()))
}

/// What ps(1) of the host prints with these options, but for the lines of other processes.
///
/// # Errors
/// [`Error::File`] when there is no ps(1); [`Error::Ps`] when it fails or shows no PIDs.
pub fn host_table(pids: &[i32], options: &[String]) -> Result<String> {
    let output = Command::new("ps").args(options).stdin(Stdio::null()).output().map_err(file("execute", "ps"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Ps(format!("{}: {said}", output.status)));
    }
    select(&String::from_utf8_lossy(&output.stdout), pids)
        .ok_or_else(|| Error::Ps("its output has no column PID; add one to the options".into()))
}

/// The header and the lines whose PID is wanted; `None` without such a column.
fn select(text: &str, pids: &[i32]) -> Option<String> {
    let header = text.lines().next()?;
    let column = header.split_whitespace().position(|title| title == "PID")?;
    let wanted = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid))
    };
    let lines = std::iter::once(header).chain(text.lines().skip(1).filter(wanted));
    Some(lines.flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_selected_by_pid() {
        let text = "UID  PID PPID CMD\nroot   1    0 init 7\nroot   7    1 sh\nroot  17    7 sleep\n";
        assert_eq!(select(text, &[7, 9]).unwrap(), "UID  PID PPID CMD\nroot   7    1 sh\n");
        assert_eq!(select("USER CMD\nroot sh\n", &[7]), None);
        assert_eq!(select("", &[7]), None);
    }

    #[test]
    fn our_own_line_is_in_the_table() {
        let own = std::process::id();
        let table = table(&[own.cast_signed(), i32::MAX]);
        assert_eq!(table.lines().count(), 2, "{table}");
        assert!(table.contains(&format!(" {own} ")), "{table}");
    }
}
