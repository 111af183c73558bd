//! Calls of the OCI runtime's command line (runc(8), crun(1)), and what comes back: a pid file and a log in JSON.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use podwright_shim::machine::Process;
use podwright_sys::child::{Ended, ProcStat, Program, read_stat, spawn};
use podwright_sys::own::{Links, MAX_STATE, read_regular, read_text};
use serde::Deserialize;

/// All of a runtime's environment. Nothing of the agent's may leak into it: runc, for one, acts on NOTIFY_SOCKET.
const ENVIRONMENT: [&str; 1] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/// What every call of a runtime names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runtime<'a> {
    /// Its binary.
    pub(crate) path: &'a Path,
    /// Where it keeps its state.
    pub(crate) root: &'a Path,
    /// The container's id.
    pub(crate) id: &'a str,
    /// Log file of this call.
    pub(crate) log: &'a Path,
}

/// Standard output and error of a container or command.
type Output<'a> = (BorrowedFd<'a>, BorrowedFd<'a>);

impl Runtime<'_> {
    /// `run --detach`: creates and starts the container. Returns the pid of the runtime.
    pub(crate) fn run(&self, bundle: &Path, pid_file: &Path, output: Output<'_>) -> nix::Result<i32> {
        let args = ["run", "--detach", "--bundle"].map(OsStr::new);
        let rest = [bundle.as_os_str(), OsStr::new("--pid-file"), pid_file.as_os_str(), OsStr::new(self.id)];
        self.call(&[&args[..], &rest[..]].concat(), Some(output))
    }

    /// `exec --detach`: starts a process in the container. Returns the pid of the runtime.
    pub(crate) fn exec(&self, process: &Path, pid_file: &Path, output: Output<'_>) -> nix::Result<i32> {
        let args = ["exec", "--detach", "--pid-file"].map(OsStr::new);
        let rest = [pid_file.as_os_str(), OsStr::new("--process"), process.as_os_str(), OsStr::new(self.id)];
        self.call(&[&args[..], &rest[..]].concat(), Some(output))
    }

    /// `delete --force`: removes what the runtime keeps. Returns the pid of the runtime.
    pub(crate) fn delete(&self) -> nix::Result<i32> {
        self.call(&["delete", "--force", self.id].map(OsStr::new), None)
    }

    fn call(&self, command: &[&OsStr], output: Option<Output<'_>>) -> nix::Result<i32> {
        let (root, log) = (self.root.as_os_str(), self.log.as_os_str());
        let flag = OsStr::new;
        let mut args = vec![flag("--root"), root, flag("--log"), log, flag("--log-format"), flag("json")];
        args.extend_from_slice(command);
        let (stdout, stderr) = (output.map(|o| o.0), output.map(|o| o.1));
        spawn(&Program { path: self.path, args: &args, env: &ENVIRONMENT, stdout, stderr })
    }
}

/// What a finished `run` or `exec` has left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// A process, which is the shim's child from now on, or was.
    Process(Process),
    /// A process whose parent still is this child of the shim: crun's `--detach` returns a moment before the process that it
    /// forked for the work ends.
    Behind(i32),
    /// It cannot be found out now: there are no descriptors left, say. What runs already must not be taken for refused.
    Unknown,
}

/// What a finished `run` or `exec` has left, or the reason why it has left nothing.
pub(crate) fn outcome(runtime: &Path, ended: Ended, pid_file: &Path, log: &Path) -> Result<Left, String> {
    if ended != Ended::Exited(0) {
        return Err(failure(runtime, ended, log));
    }
    let text = match read_text(pid_file, MAX_STATE, Links::Refuse) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error().is_none() => String::new(),
        Err(_) => return Ok(Left::Unknown),
    };
    let pid: i32 = text
        .trim()
        .parse()
        .map_err(|_| format!("{} wrote no pid into {}, but reported success", runtime.display(), pid_file.display()))?;
    Ok(left(pid).unwrap_or(Left::Unknown))
}

/// What is to be said of the process that a runtime named.
fn left(pid: i32) -> io::Result<Left> {
    let is_ours = |stat: &ProcStat| u32::try_from(stat.ppid) == Ok(std::process::id());
    let found = read_stat(pid)?;
    if let Some(stat) = found.as_ref().filter(|stat| !is_ours(stat))
        && read_stat(stat.ppid)?.is_some_and(|parent| is_ours(&parent))
    {
        return Ok(Left::Behind(stat.ppid));
    }
    let ours = match found.filter(is_ours) {
        Some(ours) => Some(ours),
        // The one between may have ended meanwhile.
        None => read_stat(pid)?.filter(is_ours),
    };
    Ok(Left::Process(Process { pid, start: ours.map(|stat| stat.start) }))
}

/// One line of a runtime's JSON log.
#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// Why a runtime failed: the last error in its log, or how it ended.
pub(crate) fn failure(runtime: &Path, ended: Ended, log: &Path) -> String {
    let text = read_regular(log, MAX_STATE).unwrap_or_default();
    let lines: Vec<LogLine> =
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let is_error = |line: &&LogLine| matches!(line.level.as_str(), "error" | "fatal" | "panic");
    if let Some(line) = lines.iter().rev().find(is_error).or(lines.last()) {
        return line.msg.trim().to_owned();
    }
    match ended {
        Ended::Exited(code) => {
            format!("{} left with status {code} and wrote no reason into its log", runtime.display())
        }
        Ended::Signaled(signal) => format!("{} was ended by signal {signal}", runtime.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_error_of_the_log_is_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let (log, pid_file, path) = (dir.path().join("log"), dir.path().join("pid"), Path::new("/bin/rt"));
        let fail = |text: &str| {
            fs::write(&log, text).unwrap();
            outcome(path, Ended::Exited(1), &pid_file, &log).unwrap_err()
        };
        let error = r#"{"level":"error","msg":"exec: \"x\": not found\n","time":"t"}"#;
        let warning = r#"{"level":"warning","msg":"odd"}"#;
        assert_eq!(fail(&format!("{warning}\n{error}\n{warning}\n")), "exec: \"x\": not found");
        assert_eq!(fail(warning), "odd");
        assert_eq!(fail("panic: no JSON\n"), "/bin/rt left with status 1 and wrote no reason into its log");
        let killed = outcome(path, Ended::Signaled(9), &pid_file, Path::new("/proc/nonexistent")).unwrap_err();
        assert_eq!(killed, "/bin/rt was ended by signal 9");
    }

    #[test]
    fn only_children_of_ours_count_as_present() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let get = || outcome(Path::new("/bin/rt"), Ended::Exited(0), &pid_file, &pid_file);
        assert!(get().unwrap_err().contains("wrote no pid"));
        fs::write(&pid_file, "1\n").unwrap();
        assert_eq!(get(), Ok(Left::Process(Process { pid: 1, start: None })));
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id().cast_signed();
        fs::write(&pid_file, pid.to_string()).unwrap();
        assert!(matches!(get(), Ok(Left::Process(Process { start: Some(_), .. }))));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(get(), Ok(Left::Process(Process { pid, start: None })));
    }

    #[test]
    fn a_pid_that_cannot_be_read_now_is_no_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        // Reading below a file fails with ENOTDIR; without descriptors it would be EMFILE, for the whole test process.
        let found = outcome(Path::new("/bin/rt"), Ended::Exited(0), &file.join("pid"), &file);
        assert_eq!(found, Ok(Left::Unknown));
    }

    #[test]
    fn a_child_of_a_child_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = "sleep 100 & echo $! >\"$1\"; read line; kill $!";
        let mut between = std::process::Command::new("sh")
            .args(["-c", script, "sh", pid_file.to_str().unwrap()])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let begin = std::time::Instant::now();
        while fs::read(&pid_file).map_or(true, |text| !text.ends_with(b"\n")) {
            assert!(begin.elapsed().as_secs() < 10, "no pid was written");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let found = outcome(Path::new("/bin/rt"), Ended::Exited(0), &pid_file, &pid_file);
        assert_eq!(found, Ok(Left::Behind(between.id().cast_signed())));
        drop(between.stdin.take());
        between.wait().unwrap();
    }
}
