//! Hooks of the configuration (runtime-spec, config.md, "POSIX-platform Hooks"): programs that get the state on stdin.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::Pid;
use oci_spec::runtime::Hook;
use podwright_sys::process::{pidfd_open, wait_end};
use serde::Serialize;

use crate::error::{Error, Result};

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

/// Runs hooks one after the other; the first that fails ends it.
pub(crate) fn run_all(kind: &'static str, hooks: &[Hook], state: &str) -> Result<()> {
    hooks.iter().try_for_each(|hook| {
        run(hook, state).map_err(|problem| Error::Hook { kind, path: hook.path().clone(), problem })
    })
}

fn run(hook: &Hook, state: &str) -> std::result::Result<(), String> {
    let mut command = Command::new(hook.path());
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    if let Some((name, args)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(args);
    }
    for entry in hook.env().iter().flatten() {
        let (key, value) = entry.split_once('=').ok_or_else(|| format!("env {entry:?} has no ="))?;
        command.env(key, value);
    }
    let mut child = command.spawn().map_err(|err| err.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state.
        stdin.write_all(state.as_bytes()).ok();
    }
    if let Some(seconds) = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()) {
        let pidfd = pidfd_open(Pid::from_raw(child.id().cast_signed())).map_err(|errno| errno.to_string())?;
        if !wait_end(&pidfd, Duration::from_secs(seconds)).map_err(|errno| errno.to_string())? {
            child.kill().and_then(|()| child.wait()).map_err(|err| err.to_string())?;
            return Err(format!("did not end within its timeout of {seconds} s"));
        }
    }
    let status = child.wait().map_err(|err| err.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}
