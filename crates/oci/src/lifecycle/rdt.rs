//! Groups of the resctrl file system (runtime-spec, config-linux.md, "IntelRdt"; Documentation/filesystems/resctrl.rst).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use crate::error::{Error, Result, file};
use crate::plan::Rdt;

/// Where resctrl is mounted.
///
/// # Errors
/// [`Error::NoResctrl`].
pub(super) fn mount_point() -> Result<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").map_err(file("read", "/proc/self/mountinfo"))?;
    // Anybody's mount points are among them, and need not be text.
    find_mount(&String::from_utf8_lossy(&table)).ok_or(Error::NoResctrl)
}

fn find_mount(table: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("resctrl ").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Makes the groups, sets them up and puts the process there. Gives the directories to remove with the container, the
/// innermost first.
///
/// # Errors
/// mkdir(2)'s and write(2)'s; [`Error::Rdt`] for a group that has other settings or is missing. What was made is removed again.
pub(super) fn enter(rdt: &Rdt, root: &Path, pid: Pid) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let entered = enter_groups(rdt, root, pid, &mut made);
    if let Err(err) = entered {
        remove(&made)?;
        return Err(err);
    }
    Ok(made)
}

fn enter_groups(rdt: &Rdt, root: &Path, pid: Pid, made: &mut Vec<PathBuf>) -> Result<()> {
    let group = root.join(&rdt.group);
    match (group.is_dir(), rdt.own || !rdt.schemata.is_empty()) {
        (true, _) if rdt.own => return Err(rdt_error(&group, "exists already, and would be the container's own")),
        (true, _) => check(&rdt.schemata, &group)?,
        (false, false) => return Err(rdt_error(&group, "does not exist, and there are no schemata to make it with")),
        (false, true) => {
            fs::create_dir(&group).map_err(file("make", &group))?;
            if rdt.own {
                made.push(group.clone());
            }
            if !rdt.schemata.is_empty() {
                let text = rdt.schemata.join("\n") + "\n";
                let written = write(&group.join("schemata"), &text);
                if let (Err(_), false) = (&written, rdt.own) {
                    // Nobody else can have used it yet.
                    fs::remove_dir(&group).map_err(file("remove", &group))?;
                }
                written?;
            }
        }
    }
    write(&group.join("tasks"), &pid.to_string())?;
    if let Some(name) = &rdt.monitor {
        let monitor = group.join("mon_groups").join(name);
        fs::create_dir(&monitor).map_err(file("make", &monitor))?;
        made.insert(0, monitor.clone());
        write(&monitor.join("tasks"), &pid.to_string())?;
    }
    Ok(())
}

/// Compares a group's settings with those that are asked for.
fn check(wanted: &[String], group: &Path) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let path = group.join("schemata");
    let found = fs::read_to_string(&path).map_err(file("read", &path))?;
    match wanted.iter().find(|line| !has(&found, line)) {
        Some(line) => Err(rdt_error(group, &format!("exists already, and its schemata do not have {line}"))),
        None => Ok(()),
    }
}

/// Whether a line of `schemata` says all that `wanted` says: the kernel aligns the names with blanks, writes masks with zeros before,
/// and lists caches that were not named.
fn has(schemata: &str, wanted: &str) -> bool {
    let parse = |line: &str| {
        let (resource, values) = line.trim().split_once(':')?;
        let pairs = values.split(';').filter_map(|pair| {
            let (cache, value) = pair.trim().split_once('=')?;
            let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
            Some((cache.trim().to_owned(), value))
        });
        Some((resource.trim().to_owned(), pairs.collect::<Vec<_>>()))
    };
    let Some((resource, pairs)) = parse(wanted) else { return false };
    let line = schemata.lines().filter_map(parse).find(|(name, _)| *name == resource);
    line.is_some_and(|(_, found)| pairs.iter().all(|pair| found.contains(pair)))
}

/// Removes groups that were made for a container. One that is gone is fine.
///
/// # Errors
/// rmdir(2)'s.
pub(super) fn remove(groups: &[PathBuf]) -> Result<()> {
    groups.iter().try_for_each(|group| match fs::remove_dir(group) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(file("remove", group)),
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(file("write", path))
}

fn rdt_error(group: &Path, problem: &str) -> Error {
    Error::Rdt { group: group.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found() {
        let table = "22 1 0:20 / /proc rw - proc proc rw\n30 1 0:30 / /sys/fs/resctrl rw,nosuid shared:9 - resctrl resctrl rw\n";
        assert_eq!(find_mount(table), Some("/sys/fs/resctrl".into()));
        assert_eq!(find_mount("22 1 0:20 / /resctrl rw - proc resctrl rw\n"), None);
    }

    #[test]
    fn settings_are_compared_by_meaning() {
        let found = "    MB:0=100;1=070\n    L3:0=007ff;1=01f\n";
        for wanted in ["L3:0=7ff", "L3:0=7FF;1=1f", "MB:1=70"] {
            assert!(has(found, wanted), "{wanted}");
        }
        for wanted in ["L3:0=7f", "L3:2=7ff", "L2:0=1", "nonsense"] {
            assert!(!has(found, wanted), "{wanted}");
        }
    }

    fn rdt(group: &str, own: bool, schemata: &[&str]) -> Rdt {
        let schemata = schemata.iter().map(|&line| line.to_owned()).collect();
        Rdt { group: group.into(), own, schemata, monitor: None }
    }

    /// A directory that plays the file system: files are there before they are written, directories come without any.
    fn root(groups: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for group in groups {
            fs::create_dir_all(dir.path().join(group).join("mon_groups")).unwrap();
            fs::write(dir.path().join(group).join("tasks"), "").unwrap();
            fs::write(dir.path().join(group).join("schemata"), "L3:0=7ff\n").unwrap();
        }
        dir
    }

    #[test]
    fn existing_groups_are_entered_and_left_alone() {
        let dir = root(&["", "gold"]);
        let pid = Pid::from_raw(7);
        for (group, tasks) in [("", "tasks"), ("gold", "gold/tasks")] {
            assert_eq!(enter(&rdt(group, false, &[]), dir.path(), pid).unwrap(), Vec::<PathBuf>::new());
            assert_eq!(fs::read_to_string(dir.path().join(tasks)).unwrap(), "7");
        }
        enter(&rdt("gold", false, &["L3:0=7ff"]), dir.path(), pid).unwrap();
        let wrong = enter(&rdt("gold", false, &["L3:0=1"]), dir.path(), pid).unwrap_err();
        assert!(wrong.to_string().contains("its schemata do not have L3:0=1"), "{wrong}");
    }

    #[test]
    fn groups_that_cannot_be_used_leave_nothing() {
        let dir = root(&["", "c1"]);
        let pid = Pid::from_raw(7);
        let missing = enter(&rdt("silver", false, &[]), dir.path(), pid).unwrap_err();
        assert!(missing.to_string().contains("silver does not exist"), "{missing}");
        let taken = enter(&rdt("c1", true, &[]), dir.path(), pid).unwrap_err();
        assert!(taken.to_string().contains("c1 exists already"), "{taken}");
        // A plain directory has no files to write to, as a file system that is full has none.
        for (own, schemata) in [(true, &[][..]), (true, &["L3:0=1"]), (false, &["L3:0=1"])] {
            assert!(enter(&rdt("new", own, schemata), dir.path(), pid).is_err());
            assert!(!dir.path().join("new").exists(), "own {own}, {schemata:?}");
        }
    }
}
