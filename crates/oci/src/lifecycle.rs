//! The commands of a runtime (runtime-spec, runtime.md, "Operations").

mod control;
mod exec;
mod launch;
mod terminal;

use std::fs;
use std::path::Path;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use oci_spec::runtime::Spec;
use podwright_sys::process;

use crate::error::{ConfigError, Error, Result, kernel};

pub use control::{Listed, delete, kill, list, start, state};
pub use exec::{Command, ExecOptions, exec};
pub use launch::{CreateOptions, create, run};

/// Reads the configuration of a bundle.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn load_config(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let spec = fs::read(&path)
        .map_err(ConfigError::from)
        .and_then(|text| serde_json::from_slice(&text).map_err(ConfigError::from));
    spec.map_err(|source| Error::Config { path, source })
}

/// Keeps signals for [`wait_and_forward`]. To be called before the process that they are for is made.
fn hold_signals() -> Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).map_err(kernel("block signals"))
}

/// Waits for the end of a process, passing on the signals that this one gets; gives its exit status, 128 + n for signal n.
fn wait_and_forward(pidfd: &impl std::os::fd::AsFd) -> Result<i32> {
    let all = SigSet::all();
    loop {
        match all.wait().map_err(kernel("wait for signals"))? {
            Signal::SIGCHLD => {
                let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
                match waitid(Id::PIDFd(pidfd.as_fd()), flags).map_err(kernel("wait for the process"))? {
                    WaitStatus::Exited(_, code) => return Ok(code),
                    WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as i32),
                    _ => {}
                }
            }
            // Its own pipes break for it, too.
            Signal::SIGPIPE => {}
            signal => match process::pidfd_send_signal(pidfd, signal as i32) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(errno) => return Err(kernel(format!("send {signal}"))(errno)),
            },
        }
    }
}
