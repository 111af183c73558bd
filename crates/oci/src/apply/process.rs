//! The steps from the new root to execve(2).

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::prctl;
use nix::sys::stat::{Mode, SFlag, fstat, stat, umask};
use nix::unistd::{AccessFlags, Uid, execve, faccessat, fchdir, fchown, isatty, setsid};
use podwright_sys::caps::CapSet;
use podwright_sys::path::{Root, file_type, is_dir};
use podwright_sys::{caps, ids, process as sys_process, sched, stdio};

use super::{Result, StepError, kernel, show, user};
use crate::lifecycle::Passed;
use crate::plan::{self, Program, Step};

/// Where programs are looked up when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of the container's `/etc/passwd` is read in search of a home directory.
const MAX_PASSWD: u64 = 1 << 20;

pub(super) fn apply(step: &Step, passed: &Passed) -> Result<()> {
    match step {
        Step::Rlimit { resource, soft, hard } => sys_process::set_rlimit(*resource, *soft, *hard)
            .map_err(kernel(format!("process.rlimits: {}", plan::rlimit_name(*resource)))),
        Step::RaiseLimit { resource, hard } => sys_process::raise_hard_limit(0, *resource, *hard)
            .map_err(kernel(format!("process.rlimits: {}", plan::rlimit_name(*resource)))),
        Step::Scheduler(attributes) => sched::set_attributes(*attributes).map_err(kernel("process.scheduler")),
        Step::IoPriority { class, level } => {
            sched::set_io_priority(*class, *level).map_err(kernel("process.ioPriority"))
        }
        Step::Affinity(list) => sched::set_affinity(list).map_err(kernel("process.execCPUAffinity.final")),
        Step::MemoryPolicy { mode, nodes } => {
            sched::set_memory_policy(*mode, nodes).map_err(kernel("linux.memoryPolicy"))
        }
        Step::Personality(persona) => sched::set_personality(*persona).map_err(kernel("linux.personality")),
        Step::NewSession => setsid().map(drop).map_err(kernel("setsid")),
        Step::ResetSignals => sys_process::reset_signals().map_err(kernel("reset signals")),
        Step::Chdir(path) => chdir(path).map_err(kernel(format!("process.cwd: {}", show(path)))),
        Step::Umask(mask) => {
            umask(Mode::from_bits_truncate(*mask));
            Ok(())
        }
        Step::LimitBounding(keep) => caps::limit_bounding(*keep).map_err(kernel("process.capabilities.bounding")),
        Step::SwitchUser { uid, gid, groups } => switch_user(*uid, *gid, groups),
        Step::Capabilities { effective, permitted, inheritable, ambient } => {
            set_capabilities(*effective, *permitted, *inheritable, *ambient).map_err(kernel("process.capabilities"))
        }
        Step::KeepCapabilities(kept) => keep_capabilities(*kept).map_err(kernel("capset")),
        Step::NoNewPrivileges => prctl::set_no_new_privs().map_err(kernel("process.noNewPrivileges")),
        Step::FindProgram { program, cwd } => find_program(program, cwd),
        Step::Exec(program) => Err(exec(program, passed)),
        _ => Err(StepError::Misplaced),
    }
}

/// Gives pipes, sockets and terminals to the user. Some cannot be given away (a read-only file system, a socket of another
/// user namespace): the program can use them all the same, just not open them anew. Files, directories and other devices
/// stay their owner's: they are the host's, and the container was given a descriptor and no more. A terminal that will take their
/// place is given to the user as well.
pub(super) fn own_stdio(uid: u32, terminal: Option<&OwnedFd>) -> Result<()> {
    let null = own_root().and_then(|root| stdio::use_null_of(&root));
    null.map_err(kernel("open the container's /dev/null for stdio"))?;
    let stdio = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdio.0.as_fd(), stdio.1.as_fd(), stdio.2.as_fd()].into_iter().chain(terminal.map(AsFd::as_fd)) {
        own(fd, uid).map_err(kernel("give stdio to process.user"))?;
    }
    Ok(())
}

fn own(fd: BorrowedFd<'_>, uid: u32) -> nix::Result<()> {
    let stat = match fstat(fd) {
        Err(Errno::EBADF) => return Ok(()),
        other => other?,
    };
    let kind = file_type(&stat);
    let is_channel =
        matches!(kind, SFlag::S_IFIFO | SFlag::S_IFSOCK) || kind == SFlag::S_IFCHR && isatty(fd).unwrap_or(false);
    if stat.st_uid == uid || !is_channel {
        return Ok(());
    }
    match fchown(fd, Some(Uid::from_raw(uid)), None) {
        Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        other => other,
    }
}

/// Enters a directory below the root, never through a magic link to one outside (CVE-2024-21626).
fn chdir(path: &Path) -> nix::Result<()> {
    let dir = own_root()?.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    fchdir(dir)
}

/// The root directory, for lookups that stay below it.
pub(super) fn own_root() -> nix::Result<Root> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map(Root::new)
}

/// Changes the ids. The permitted capabilities stay, and the effective ones become all of them again, since the steps that
/// follow need some.
fn switch_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    user::change_groups(groups)?;
    change_ids(uid, gid).map_err(kernel("process.user"))
}

fn change_ids(uid: u32, gid: u32) -> nix::Result<()> {
    ids::set_group(gid)?;
    if uid == 0 {
        return ids::set_user(uid);
    }
    prctl::set_keepcaps(true)?;
    ids::set_user(uid)?;
    prctl::set_keepcaps(false)?;
    // The kernel sets this anew with every change of ids, to what fs.suid_dumpable says.
    prctl::set_dumpable(false)?;
    caps::raise_permitted()
}

/// What this runtime does not have itself cannot be granted; the container runs without it (runtime-spec, config.md, "Linux
/// Process": a runtime should not fail then).
fn set_capabilities(effective: CapSet, permitted: CapSet, inheritable: CapSet, ambient: CapSet) -> nix::Result<()> {
    let own = caps::permitted()?;
    let [effective, permitted, inheritable, ambient] =
        [effective, permitted, inheritable, ambient].map(|set| set.intersection(own));
    caps::set(effective, permitted, inheritable)?;
    caps::set_ambient(ambient)
}

fn keep_capabilities(kept: CapSet) -> nix::Result<()> {
    let kept = kept.intersection(caps::permitted()?);
    caps::set(kept, kept, CapSet::default())
}

fn find_program(program: &Program, cwd: &Path) -> Result<()> {
    let name = program_name(program);
    let mut found = StepError::NotInPath(name.to_owned());
    for candidate in candidates(program) {
        let candidate = cwd.join(candidate);
        match is_executable(&candidate) {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) if !name.contains('/') => {}
            Err(source) => found = StepError::Exec { name: name.to_owned(), source },
        }
    }
    Err(found)
}

/// Whether execve(2) would take it for a program, but for its content.
fn is_executable(path: &Path) -> nix::Result<()> {
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::empty())?;
    if is_dir(&stat(path)?) { Err(Errno::EACCES) } else { Ok(()) }
}

/// Becomes the program, or tells why not.
fn exec(program: &Program, passed: &Passed) -> StepError {
    let name = program_name(program);
    let strings = |list: &[String]| {
        list.iter().map(|text| CString::new(text.as_str())).collect::<std::result::Result<Vec<_>, _>>()
    };
    let mut env = program.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", home_of(nix::unistd::getuid().as_raw())));
    }
    if !passed.env.is_empty() {
        env.extend(passed.env.iter().cloned());
        env.push(format!("LISTEN_PID={}", std::process::id()));
    }
    let (Ok(args), Ok(env)) = (strings(&program.args), strings(&env)) else {
        return StepError::Exec { name: name.to_owned(), source: Errno::EINVAL };
    };
    let mut failed = StepError::NotInPath(name.to_owned());
    for candidate in candidates(program) {
        let Ok(path) = CString::new(candidate) else { continue };
        let Err(source) = execve(&path, &args, &env);
        match source {
            Errno::ENOENT | Errno::ENOTDIR if !name.contains('/') => {}
            // As execvp(3): remembered, and the next directory is tried.
            Errno::EACCES if !name.contains('/') => failed = StepError::Exec { name: name.to_owned(), source },
            source => return StepError::Exec { name: name.to_owned(), source },
        }
    }
    failed
}

fn program_name(program: &Program) -> &str {
    program.args.first().map_or("", String::as_str)
}

/// Paths to try, in order: the name itself if it has a slash, else its places in the program's own `PATH`.
fn candidates(program: &Program) -> Vec<String> {
    let name = program_name(program);
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = program.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':').map(|dir| if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") }).collect()
}

/// The user's home directory as the container's `/etc/passwd` has it, else `/`.
fn home_of(uid: u32) -> String {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let Ok(file) = own_root().and_then(|root| root.open(Path::new("/etc/passwd"), flags)) else { return "/".into() };
    if !fstat(&file).is_ok_and(|stat| file_type(&stat) == SFlag::S_IFREG) {
        return "/".into();
    }
    let lines = BufReader::new(File::from(file).take(MAX_PASSWD)).lines().map_while(std::result::Result::ok);
    lines.filter_map(|line| home_in(&line, uid)).next().unwrap_or_else(|| "/".into())
}

fn home_in(line: &str, uid: u32) -> Option<String> {
    let mut fields = line.split(':').skip(2);
    let found: u32 = fields.next()?.parse().ok()?;
    let home = fields.nth(2)?;
    (found == uid && !home.is_empty()).then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_the_programs_own_path() {
        let program = |name: &str, env: &[&str]| Program {
            args: vec![name.into()],
            env: env.iter().map(|&entry| entry.to_owned()).collect(),
        };
        assert_eq!(candidates(&program("./x", &["PATH=/a"])), ["./x"]);
        assert_eq!(candidates(&program("x", &["PATH=/old", "PATH=/a::/b"])), ["/a/x", "./x", "/b/x"]);
        assert_eq!(candidates(&program("x", &[])).len(), 6);
    }

    #[test]
    fn homes_come_from_passwd() {
        assert_eq!(home_in("user:x:1000:1000:A User:/home/user:/bin/sh", 1000), Some("/home/user".into()));
        assert_eq!(home_in("user:x:1000:1000::/home/user:/bin/sh", 1001), None);
        assert_eq!(home_in("user:x:1000:1000:::/bin/sh", 1000), None);
        assert_eq!(home_in("garbage", 0), None);
    }
}
