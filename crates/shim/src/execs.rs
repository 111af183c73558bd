//! Commands in running containers: their process description, their output, their files.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use podwright_proto::{HookKind, InstanceId};
use podwright_sys::durable::{Durability, write_atomic};
use podwright_sys::error::chain;
use podwright_sys::own::{MAX_STATE, read_regular};
use serde::Deserialize;

use crate::direct_exec::DirectCommand;

/// Bytes of output that are kept, as kubelet keeps of a probe's.
const MAX_OUTPUT: usize = 10 << 10;

/// Reads before the loop looks at other descriptors again.
const READS_PER_TURN: usize = 16;

/// A command that was asked for and has not been answered.
#[derive(Debug)]
pub(crate) struct Command {
    /// The shim's number.
    pub(crate) seq: u64,
    pub(crate) purpose: Purpose,
    pub(crate) id: InstanceId,
    /// Its files are `BASE.json`, `BASE.pid` and `BASE.log`.
    base: PathBuf,
    pub(crate) argv: Vec<String>,
    pub(crate) pipe: Option<File>,
    /// Set when it runs without its runtime's help.
    pub(crate) direct: Option<DirectCommand>,
    output: Vec<u8>,
    /// Only its runtime is still at work, and only that is waited for.
    pub(crate) answered: bool,
}

/// What a command is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The agent asked, and gave it this number; `None`: that agent is gone.
    Exec(Option<u64>),
    /// A hook.
    Hook(HookKind),
}

/// The part of a bundle's config that a command inherits.
#[derive(Deserialize)]
struct Bundle {
    process: serde_json::Map<String, serde_json::Value>,
}

impl Command {
    /// A command with its files in `directory`. That is not the bundle: its runtime may outlast the container.
    pub(crate) fn new(seq: u64, purpose: Purpose, id: InstanceId, argv: Vec<String>, directory: &Path) -> Self {
        let base = directory.join(seq.to_string());
        Self { seq, purpose, id, base, argv, pipe: None, direct: None, output: Vec::new(), answered: false }
    }

    /// The agent that asked is gone; a hook is nobody's.
    pub(crate) fn forget_asker(&mut self) {
        if let Purpose::Exec(asked_as) = &mut self.purpose {
            *asked_as = None;
        }
    }

    /// One of its files, by extension.
    pub(crate) fn file(&self, extension: &str) -> PathBuf {
        self.base.with_extension(extension)
    }

    /// Writes the OCI process: that of the container with other arguments and no terminal. Returns the file.
    pub(crate) fn write_process(&mut self, bundle: &Path) -> Result<PathBuf, String> {
        let config = bundle.join("config.json");
        let tell = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", config.display());
        let text = read_regular(&config, MAX_STATE).map_err(|error| tell(&error))?;
        let mut process = serde_json::from_slice::<Bundle>(&text).map_err(|error| tell(&error))?.process;
        process.insert("args".into(), std::mem::take(&mut self.argv).into());
        process.insert("terminal".into(), false.into());
        let path = self.file("json");
        let directory = path.parent().unwrap_or(&path);
        fs::create_dir_all(directory).map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        let bytes = serde_json::to_vec(&process).map_err(|error| tell(&error))?;
        write_atomic(&path, &bytes, Durability::Rename).map_err(|error| chain(&error))?;
        Ok(path)
    }

    /// What to poll, until its end.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there; what is too much is thrown away, so that the command does not block.
    pub(crate) fn read(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..READS_PER_TURN {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    let room = MAX_OUTPUT.saturating_sub(self.output.len()).min(length);
                    self.output.extend_from_slice(buffer.get(..room).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// Its output until now, at its end: what its first process wrote is in the pipe by then. Others that hold the pipe
    /// are not waited for.
    pub(crate) fn take_output(&mut self) -> String {
        self.read();
        self.pipe = None;
        String::from_utf8_lossy(&std::mem::take(&mut self.output)).into_owned()
    }

    /// Removes its files.
    pub(crate) fn remove_files(&self) {
        for extension in ["json", "pid", "log"] {
            if let Err(error) = fs::remove_file(self.file(extension))
                && error.kind() != ErrorKind::NotFound
            {
                crate::say(format_args!("cannot remove {}: {error}", self.file(extension).display()));
            }
        }
    }
}
