//! Hands the listener of a seccomp filter to the agent that answers for the kernel (runtime-spec, config-linux.md, "The
//! Container Process State").

use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;

use podwright_sys::fdpass;
use serde::Serialize;

use super::terminal::connect_to;
use crate::error::{Error, Result, file};
use crate::plan::{Listener, PlanError};
use crate::sync;
use podwright_sys::error::chain;

/// What the agent is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: serde_json::Value,
}

/// Makes sure that there can be an agent, before anything is made.
///
/// # Errors
/// [`PlanError`] where there is no socket.
pub(super) fn check(listener: Option<&Listener>) -> std::result::Result<(), PlanError> {
    let Some(Listener { path, .. }) = listener else { return Ok(()) };
    let problem = match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => return Ok(()),
        Ok(_) => "is no socket".to_owned(),
        Err(err) => chain(&err),
    };
    Err(PlanError::new("linux.seccomp.listenerPath", format!("{}: {problem}", path.display())))
}

/// Serves [`sync::Said::Listener`]: sends the listener on with the container's state, and lets the process go on; as [`sync::send_go`].
///
/// # Errors
/// connect(2)'s and sendmsg(2)'s.
pub(super) fn hand_over(stream: &mut UnixStream, listener: &Listener, pid: i32, state: &str) -> Result<bool> {
    let fd = sync::receive_listener(stream).map_err(file("read from", "the container's process"))?;
    let agent = connect_to(&listener.path)?;
    let invalid = |err: serde_json::Error| Error::Container(format!("the container's state: {err}"));
    let message = ProcessState {
        oci_version: crate::OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: &listener.metadata,
        state: serde_json::from_str(state).map_err(invalid)?,
    };
    let text = serde_json::to_vec(&message).map_err(invalid)?;
    fdpass::send(&agent, &text, &[fd.as_fd()]).map_err(file("send the seccomp listener to", &listener.path))?;
    sync::send_go(stream).map_err(file("write to", "the container's process"))
}
