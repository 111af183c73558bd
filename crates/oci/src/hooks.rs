//! Hooks of the configuration (runtime-spec, config.md, "POSIX-platform Hooks"): programs that get the state on stdin.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Hooks};
use podwright_sys::process::{Descendants, pidfd_open, wait_any_end};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::log::warn;
use crate::plan::PlanError;

/// Most of a failed hook's output that is told, in bytes.
const MAX_WORDS: u64 = 4096;

/// What hooks and the command `state` are told of a container, but for its status and pid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookState<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) annotations: Option<&'a HashMap<String, String>>,
}

/// The specification's state (runtime.md, "State").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StateJson<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a HashMap<String, String>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl HookState<'_> {
    pub(crate) fn json(&self, status: &str, pid: i32) -> String {
        let Self { id, bundle, annotations } = *self;
        let state = StateJson { oci_version: crate::OCI_VERSION, id, status, pid, bundle, annotations };
        serde_json::to_string(&state).unwrap_or_default()
    }
}

/// Where a hook runs, which decides what can be done about one that hangs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In the runtime's namespaces: all that the hook has started is looked for and killed.
    Runtime {
        /// Where it begins, as with runc and crun; if that is gone by then, in the runtime's working directory.
        bundle: &'a Path,
        /// A pidfd of the container's first process, which has yet to become the program: when it ends meanwhile, the hook is killed. Who
        /// kills a container that is being made does not want to wait for its hooks.
        first: Option<BorrowedFd<'a>>,
    },
    /// In the container's: the container is destroyed in consequence, and its cgroup takes them along.
    Container,
}

/// Refuses hooks that the specification does not allow.
///
/// # Errors
/// [`PlanError`] names the hook.
pub(crate) fn check(hooks: &Hooks) -> std::result::Result<(), PlanError> {
    for (kind, list) in [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        for (index, hook) in list.iter().flatten().enumerate() {
            let problem =
                |field: &str, text: String| Err(PlanError::new(format!("hooks.{kind}[{index}].{field}"), text));
            if !hook.path().is_absolute() {
                return problem("path", format!("{} is not absolute", hook.path().display()));
            }
            if let Some(seconds) = hook.timeout().filter(|seconds| *seconds <= 0) {
                return problem("timeout", format!("{seconds} found, a number of seconds above 0 accepted"));
            }
            if let Some(entry) = hook.env().iter().flatten().find(|entry| !entry.contains('=')) {
                return problem("env", format!("{entry:?} found, KEY=VALUE accepted"));
            }
        }
    }
    Ok(())
}

/// Runs hooks one after the other; the first that fails ends it. `env` is for those that name no environment.
///
/// # Errors
/// [`Error::Hook`].
pub(crate) fn run_all(kind: &'static str, hooks: &[Hook], state: &str, place: Place<'_>, env: &[String]) -> Result<()> {
    hooks.iter().try_for_each(|hook| {
        run(hook, state, place, env).map_err(|problem| Error::Hook { kind, path: hook.path().clone(), problem })
    })
}

/// Runs the poststop hooks, whose failure changes nothing: each is told of, and the next one runs.
pub(crate) fn run_poststop(hooks: &[Hook], state: &str, bundle: &Path) {
    for hook in hooks {
        run_all("poststop", std::slice::from_ref(hook), state, Place::Runtime { bundle, first: None }, &[])
            .unwrap_or_else(|err| warn(&err));
    }
}

fn run(hook: &Hook, state: &str, place: Place<'_>, env: &[String]) -> std::result::Result<(), String> {
    let text = |err: std::io::Error| err.to_string();
    let in_words = |errno: Errno| text(errno.into());
    // Files in memory instead of pipes: nothing waits for a hook that does not read, or for what it leaves running.
    let stdin = memory_file(state.as_bytes()).map_err(text)?;
    let mut said = memory_file(b"").map_err(text)?;
    let mut command = Command::new(hook.path());
    command.env_clear().stdin(stdin).stdout(said.try_clone().map_err(text)?).stderr(said.try_clone().map_err(text)?);
    if let Some((name, args)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(args);
    }
    if let Place::Runtime { bundle, .. } = place
        && bundle.is_dir()
    {
        command.current_dir(bundle);
    }
    let env = hook.env().as_deref().unwrap_or(env);
    command.envs(env.iter().filter_map(|entry| entry.split_once('=')));
    let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let first = if let Place::Runtime { first, .. } = place { first } else { None };
    if timeout.is_none() && first.is_none() {
        let status = command.status().map_err(text)?;
        return ended(status, &mut said);
    }
    command.process_group(0);
    let others =
        if let Place::Runtime { .. } = place { Descendants::adopt().map_err(in_words)? } else { Descendants::none() };
    let mut child = command.spawn().map_err(text)?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let waited = pidfd_open(pid).and_then(|pidfd| wait_any_end([Some(pidfd.as_fd()), first], timeout));
    if let Ok(Some(0)) = waited {
        let status = child.wait().map_err(text)?;
        return ended(status, &mut said);
    }
    // The group may have more members than descendants can be found.
    killpg(pid, Signal::SIGKILL).or_else(gone_is_fine).map_err(in_words)?;
    child.wait().map_err(text)?;
    others.kill_new().map_err(in_words)?;
    let why = match waited.map_err(in_words)? {
        Some(_) => "was ended, since the container's first process has ended".to_owned(),
        None => format!("did not end within its timeout of {} s", timeout.unwrap_or_default().as_secs()),
    };
    Err(why + &last_words(&mut said))
}

fn gone_is_fine(errno: Errno) -> nix::Result<()> {
    if errno == Errno::ESRCH { Ok(()) } else { Err(errno) }
}

fn ended(status: ExitStatus, said: &mut File) -> std::result::Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("{status}{}", last_words(said))) }
}

fn memory_file(content: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("podwright-hook", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// The end of what a hook has written, for its error; empty where it has written nothing.
fn last_words(said: &mut File) -> String {
    let mut text = Vec::new();
    let length = said.metadata().map_or(0, |found| found.len());
    let begin = SeekFrom::Start(length.saturating_sub(MAX_WORDS));
    let read = said.seek(begin).and_then(|_| said.take(MAX_WORDS).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    match (read, text.trim()) {
        (Ok(_), words) if !words.is_empty() => format!(": {words}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hooks(json: serde_json::Value) -> Hooks {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn hooks_are_checked_by_field() {
        for (given, field) in [
            (json!({"prestart": [{"path": "/h"}, {"path": "h"}]}), "hooks.prestart[1].path"),
            (json!({"poststop": [{"path": "/h", "timeout": 0}]}), "hooks.poststop[0].timeout"),
            (json!({"createContainer": [{"path": "/h", "env": ["A=b", "C"]}]}), "hooks.createContainer[0].env"),
        ] {
            assert_eq!(check(&hooks(given)).unwrap_err().field, field);
        }
        check(&hooks(json!({"startContainer": [{"path": "/h", "timeout": 1, "env": ["A="]}]}))).unwrap();
    }

    #[test]
    fn what_a_hook_says_is_in_its_error() {
        let list = hooks(
            json!({"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", "cat; echo out; echo err >&2; exit 3"]}]}),
        );
        let list = list.prestart().clone().unwrap();
        let error = run_all("prestart", &list, "state ", Place::Container, &[]).unwrap_err();
        assert_eq!(error.to_string(), "prestart hook /bin/sh: exit status: 3: state out\nerr");
    }
}
