//! What the agent needs of its host, and the locks that keep a second agent away from its directories.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use podwright_sys::cgroup::{self, Cgroup};
use podwright_sys::error::chain;
use podwright_sys::own::open_own;

use crate::config::Fixed;

/// The oldest kernel that has all that podwright cannot do without: `cgroup.kill` (5.14) is the newest of
/// `CLONE_INTO_CGROUP` (5.7), openat2(2) (5.6), pidfd_open(2) (5.3) and itself.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// Controllers that pods' limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Something the host lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    what: String,
    remedy: String,
}

impl Lack {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Lack {
        Lack { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// What was found and taken.
#[derive(Debug)]
pub struct Host {
    /// The cgroup all pods live below; it exists.
    pub cgroup_root: Cgroup,
    /// Where the cgroup v2 file system is mounted.
    pub cgroup_mount: PathBuf,
    /// Those of cpu, memory and pids that pods' cgroups have.
    pub controllers: Vec<&'static str>,
    /// Held until the agent ends.
    _locks: [File; 3],
}

/// Checks the host, makes the directories and takes the locks.
///
/// # Errors
/// Everything that is lacking, not only the first.
pub fn check(fixed: &Fixed) -> Result<Host, Vec<Lack>> {
    // Everybody else is refused everything below, which would only hide the reason.
    root().map_err(|lack| vec![lack])?;
    let mut lacks = Vec::new();
    let mut note = |result: Result<(), Lack>| lacks.extend(result.err());
    note(kernel(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()));
    note(program(&fixed.shim, "the shim", "--shim FILE"));
    for (name, path) in &fixed.runtimes {
        note(program(path, &format!("the OCI runtime {name:?}"), "--runtime NAME=PATH"));
    }
    let [state, run] = [(&fixed.state_dir, "stateDir"), (&fixed.run_dir, "runDir")]
        .map(|(path, key)| directory(path, key, 0o700).and_then(|()| lock(&path.join("podwright.lock"))));
    for (path, key) in [(&fixed.log_dir, "logDir"), (&fixed.bundle_dir, "bundleDir")] {
        note(directory(path, key, 0o755));
    }
    let locks = match (state, run) {
        (Ok(state), Ok(run)) => Some([state, run]),
        (state, run) => {
            lacks.extend(state.err());
            lacks.extend(run.err());
            None
        }
    };
    if locks.is_some() {
        [&fixed.state_dir, &fixed.run_dir].into_iter().for_each(|directory| keep_private(&directory.join("pods")));
    }
    // Only who holds the locks may touch the cgroups.
    let cgroups = locks.as_ref().and_then(|_| cgroups(fixed).map_err(|more| lacks.extend(more)).ok());
    // What is in there and belongs to no pod of this agent is killed: it must be no other agent's.
    let own = cgroups.as_ref().and_then(|(root, ..)| lock_cgroup(root).map_err(|lack| lacks.push(lack)).ok());
    match (locks, own, cgroups, lacks.is_empty()) {
        (Some([state, run]), Some(own), Some((cgroup_root, cgroup_mount, controllers)), true) => {
            Ok(Host { cgroup_root, cgroup_mount, controllers, _locks: [state, run, own] })
        }
        _ => Err(lacks),
    }
}

fn root() -> Result<(), Lack> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Lack::new(
        format!("podwrightd runs as user {}, and namespaces, mounts and cgroups need root", nix::unistd::geteuid()),
        "start it as root (sudo podwrightd, or its systemd unit)",
    ))
}

fn kernel(release: &str) -> Result<(), Lack> {
    let release = release.trim();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST_KERNEL => Err(Lack::new(
            format!(
                "the kernel is {release}, and podwright needs {}.{} or newer (cgroup.kill)",
                OLDEST_KERNEL.0, OLDEST_KERNEL.1
            ),
            "update the kernel; Debian 12, Ubuntu 22.04 and RHEL 9 have a new enough one",
        )),
        _ => Ok(()),
    }
}

fn program(path: &Path, what: &str, flag: &str) -> Result<(), Lack> {
    let remedy = || format!("install it there, or name another with {flag}");
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(Lack::new(format!("{what}, {}, is not an executable file", path.display()), remedy())),
        Err(error) => Err(Lack::new(format!("{what} is not at {}: {error}", path.display()), remedy())),
    }
}

/// Makes the directory of all pods, if need be, and lets nobody but root through, whoever made it and whoever may pass what is above it: a
/// container makes programs with another user's rights and nodes of devices in its volumes and its root, which must be of no use to a user
/// of the node.
fn keep_private(path: &Path) {
    let made = match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    let kept = made.and_then(|()| {
        let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if directory.metadata()?.permissions().mode() & 0o7777 == 0o700 {
            return Ok(());
        }
        directory.set_permissions(fs::Permissions::from_mode(0o700))
    });
    // A disk that takes no writes is no reason to leave its pods alone.
    if let Err(error) = kept {
        tracing::error!(directory = %path.display(), %error, "users of this node cannot be kept out");
    }
}

fn directory(path: &Path, key: &str, mode: u32) -> Result<(), Lack> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Lack::new(format!("{key}: {} is not a directory", path.display()), "name a directory");
        }
        Lack::new(format!("{key}: {} cannot be made: {error}", path.display()), "make it, or name another directory")
    })
}

/// How long a lock may outlive its holder: a child of a killed agent has it until it has executed its program.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries. flock(2) knows no wait that ends.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Most bytes of a lock's file that can be a pid.
const MAX_PID: u64 = 20;

/// Takes the lock on `path` for the life of the returned file.
fn lock(path: &Path) -> Result<File, Lack> {
    let io = |error: std::io::Error| {
        Lack::new(
            format!("{} cannot be locked: {error}", path.display()),
            "see that it is a plain file on a local file system",
        )
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = open_own(path, &mut options).map_err(io)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(io(error)),
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file).map_err(io)?;
                // A dead agent's lock goes with its last child; a living one's stays.
                if holder.is_none() && begun.elapsed() < LOCK_PATIENCE {
                    std::thread::sleep(LOCK_PAUSE);
                    continue;
                }
                let who = match holder {
                    Some(pid) => format!("another podwrightd (pid {pid}) uses"),
                    None => "another process, which is no podwrightd that runs, keeps the lock of".to_owned(),
                };
                return Err(Lack::new(format!("{who} {}", path.parent().unwrap_or(path).display()), OTHERS_REMEDY));
            }
        }
    }
    // Who holds it is only for people; on a full disk it is locked all the same.
    let told = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    told.unwrap_or_else(|error| tracing::warn!(file = %path.display(), %error, "who holds the lock cannot be written"));
    Ok(file)
}

/// Takes the lock on the directory of a cgroup for the life of the returned file.
fn lock_cgroup(root: &Cgroup) -> Result<File, Lack> {
    let path = root.path();
    let io = |error: std::io::Error| {
        Lack::new(format!("cgroupRoot: {} cannot be locked: {error}", path.display()), "see that it is a directory")
    };
    let file = File::open(path).map_err(io)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(io(error)),
            // As that of a directory: a dead agent's goes with its last child.
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                let what = format!("cgroupRoot: another podwrightd runs its pods in {}", path.display());
                return Err(Lack::new(what, OTHERS_REMEDY));
            }
        }
    }
}

/// What two agents must not share.
const OTHERS_REMEDY: &str = "stop it first (systemctl stop podwright), or give this one its own --state-dir, --run-dir, --log-dir and \
                             --cgroup-root";

/// The agent that wrote its pid into the lock's file, if it lives and has the file open.
fn holder(file: &mut File) -> std::io::Result<Option<u32>> {
    let mut text = String::new();
    file.rewind()?;
    if (&*file).take(MAX_PID).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let own = file.metadata()?;
    let is_it = |found: fs::Metadata| (found.dev(), found.ino()) == (own.dev(), own.ino());
    let Ok(pid) = text.trim().parse::<u32>() else { return Ok(None) };
    // A pid may be another process's by now, and in a container often this one's.
    if pid == std::process::id() {
        return Ok(None);
    }
    let mut open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    Ok(open.any(|fd| fs::metadata(fd.path()).is_ok_and(is_it)).then_some(pid))
}

type Cgroups = (Cgroup, PathBuf, Vec<&'static str>);

fn cgroups(fixed: &Fixed) -> Result<Cgroups, Vec<Lack>> {
    let mount = cgroup::v2_mount().map_err(|error| {
        // What the error of the library advises is told in full here.
        let what = match error {
            cgroup::CgroupError::NoV2Mount => "no cgroup v2 file system is mounted".to_owned(),
            other => chain(&other),
        };
        let mount_it = "mount it: mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        vec![Lack::new(what, format!("boot with systemd.unified_cgroup_hierarchy=1, or {mount_it}"))]
    })?;
    let root = Cgroup::at(fixed.cgroup_root.clone().unwrap_or_else(|| default_root(&mount)));
    let absent = |error: &dyn fmt::Display| {
        vec![Lack::new(
            format!("cgroupRoot: {} cannot be made: {error}", root.path().display()),
            format!("name a directory below {} with --cgroup-root", mount.display()),
        )]
    };
    let climbs = root.path().components().any(|part| part == Component::ParentDir);
    if climbs || !root.path().starts_with(&mount) {
        return Err(absent(&"it is not in the cgroup v2 file system"));
    }
    let was_there = root.path().exists();
    root.create().map_err(|error| absent(&chain(&error)))?;
    match controllers(&root, fixed.allow_missing_controllers) {
        Ok(have) => {
            if cgroup::limits_hold_in_namespaces().is_ok_and(|hold| !hold) {
                tracing::warn!(
                    remedy = format!("mount -o remount,nsdelegate {}", mount.display()),
                    "root in a container without seccomp can change the limits of that container (not of its pod): cgroup v2 is mounted \
                     without nsdelegate"
                );
            }
            Ok((root, mount, have))
        }
        Err(lack) => {
            if !was_there {
                // An empty cgroup harms nobody.
                drop(fs::remove_dir(root.path()));
            }
            Err(vec![lack])
        }
    }
}

/// Makes the controllers available below `root`; those that are.
fn controllers(root: &Cgroup, may_be_missing: bool) -> Result<Vec<&'static str>, Lack> {
    let enable = |c: &'static str| root.require_controllers(&[c]).and_then(|()| root.enable_controllers(&[c]));
    let tried: Vec<_> = CONTROLLERS.into_iter().map(|c| (c, enable(c))).collect();
    let have = tried.iter().filter(|(_, result)| result.is_ok()).map(|(c, _)| *c).collect();
    let missing: Vec<&str> = tried.iter().filter(|(_, result)| result.is_err()).map(|(c, _)| *c).collect();
    let Some(first) = tried.iter().find_map(|(_, result)| result.as_ref().err()) else { return Ok(have) };
    if may_be_missing {
        tracing::warn!(
            missing = missing.join(", "),
            error = chain(first),
            "limits that need these controllers are not applied"
        );
        return Ok(have);
    }
    Err(Lack::new(
        format!("cgroup v2 controllers that are missing: {} ({})", missing.join(", "), chain(first)),
        "boot with systemd.unified_cgroup_hierarchy=1 (or cgroup_no_v1=all), \
         or start with --allow-missing-controllers and do without the limits that need them",
    ))
}

/// The name systemd is asked to give the agent's own leaf (`DelegateSubgroup=`), so that its unit's cgroup can have children.
const OWN_LEAF: &str = "_agent";

/// Beside the agent's own leaf in its unit's delegated subtree (systemd 254 and newer), else `podwright.slice` at the top. A unit without
/// `DelegateSubgroup=` (systemd before 254) cannot be used: once it has controllers for its children, systemd could not
/// put a restarted agent back into it.
fn default_root(mount: &Path) -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    match own.strip_suffix(OWN_LEAF).and_then(|unit| unit.strip_suffix('/')) {
        Some(unit) if unit.ends_with(".service") => mount.join(unit.trim_start_matches('/')),
        _ => mount.join("podwright.slice"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn kernels() {
        for old in ["4.19.0-26-amd64", "5.10.0", "5.13.19-foo"] {
            assert!(kernel(old).unwrap_err().to_string().contains(old), "{old}");
        }
        for new in ["5.14.0-427.el9", "6.1.0-21-amd64", "6.18.5", "unheard-of"] {
            assert_eq!(kernel(new), Ok(()), "{new}");
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = directory(file.path(), "stateDir", 0o700).unwrap_err().to_string();
        assert!(said.starts_with("stateDir: ") && said.contains("is not a directory"), "{said}");
    }

    #[test]
    fn nobody_passes_the_directory_of_all_pods() {
        let dir = tempfile::tempdir().unwrap();
        let (pods, link) = (dir.path().join("pods"), dir.path().join("link"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        keep_private(&pods);
        assert_eq!(mode(&pods), 0o700);
        fs::set_permissions(&pods, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&pods, &link).unwrap();
        keep_private(&link);
        assert_eq!(mode(&pods), 0o755, "a link is not followed");
        keep_private(&pods);
        assert_eq!(mode(&pods), 0o700);
    }

    #[test]
    fn a_second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("podwright.lock");
        let held = lock(&path).unwrap();
        let mut holder = inherit(&held, "60");
        drop(held);
        fs::write(&path, format!("{}\n", holder.id())).unwrap();
        let begun = Instant::now();
        let refused = lock(&path).unwrap_err().to_string();
        assert!(begun.elapsed() < LOCK_PATIENCE, "one that lives is not waited for");
        assert!(refused.contains(&format!("pid {}", holder.id())), "{refused}");
        assert!(refused.contains(dir.path().to_str().unwrap()), "{refused}");
        holder.kill().unwrap();
        holder.wait().unwrap();
        lock(&path).unwrap();
    }

    /// A process that has the lock's description and is no agent, as a child between fork and exec is.
    fn inherit(file: &File, seconds: &str) -> std::process::Child {
        let inherited = file.try_clone().unwrap();
        Command::new("sleep").arg(seconds).stdin(inherited).spawn().unwrap()
    }

    #[test]
    fn a_lock_that_outlives_its_holder_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("podwright.lock");
        let held = lock(&path).unwrap();
        let mut gone = Command::new("true").spawn().unwrap();
        let dead = gone.id();
        gone.wait().unwrap();
        fs::write(&path, format!("{dead}\n")).unwrap();
        let mut child = inherit(&held, "0.3");
        drop(held);
        let probe = OpenOptions::new().read(true).open(&path).unwrap();
        assert!(matches!(probe.try_lock(), Err(TryLockError::WouldBlock)), "the child has it");
        drop(probe);
        lock(&path).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_lock_that_stays_is_refused_in_time_and_names_no_dead_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("podwright.lock");
        let held = lock(&path).unwrap();
        // Another process has that pid, and never had the lock.
        fs::write(&path, "1\n").unwrap();
        let mut child = inherit(&held, "60");
        drop(held);
        let begun = Instant::now();
        let refused = lock(&path).unwrap_err().to_string();
        assert!(begun.elapsed() >= LOCK_PATIENCE && !refused.contains("pid"), "{refused}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_lock_is_a_plain_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("podwright.lock"), dir.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let refused = lock(&path).unwrap_err().to_string();
        assert!(refused.contains("symbolic link") && !elsewhere.exists(), "{refused}");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(lock(&path).unwrap_err().to_string().contains("a fifo"));
    }

    #[test]
    fn programs_that_are_not_there_or_not_executable_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shim");
        assert!(program(&file, "the shim", "--shim FILE").unwrap_err().to_string().contains("--shim FILE"));
        fs::write(&file, "").unwrap();
        assert!(program(&file, "the shim", "--shim FILE").unwrap_err().to_string().contains("not an executable"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program(&file, "the shim", "--shim FILE"), Ok(()));
    }
}
