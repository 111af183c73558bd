//! What one instance has on the host while it lives: mounts, bundle, log, pipes, cgroup. Made in [`Site::prepare`], undone in
//! [`Site::clean`].

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use podwright_proto::{Evidence, LogLoss, PodMount, SandboxConfig, StartRequest};
use podwright_shim::machine::Input;
use podwright_sys::cgroup::{Cgroup, CgroupError};
use podwright_sys::durable::{Durability, WriteError, write_atomic};
use podwright_sys::error::chain;
use podwright_sys::podmount::{self, PodMountError};
use podwright_sys::tree::{self, RemoveError};

use crate::clock;
use crate::direct_exec::DirectExec;
use crate::evidence::{self, Ooms};
use crate::log::{Batch, Log};
use crate::message;
use crate::stdio::{Stream, pipe};

/// At the end of an instance, how often at most each pipe is read: all that a pipe can hold, and a bound for a process
/// that escaped with the other end and goes on writing.
const FINAL_READS: usize = 16;

/// How commands get into a container, found out when the first one comes.
#[derive(Debug)]
pub(crate) enum ExecPath {
    Unknown,
    Direct(DirectExec),
    /// The runtime's `exec` is called.
    Runtime,
}

/// An instance and what it uses.
#[derive(Debug)]
pub(crate) struct Site {
    /// The request; its config is null once it is in the bundle.
    pub(crate) request: StartRequest,
    /// The container's id for the runtime.
    pub(crate) runtime_id: String,
    /// Its bundle directory; the files of runtime calls are there too.
    pub(crate) bundle: PathBuf,
    pub(crate) cgroup: Cgroup,
    log: Option<Log>,
    /// News of the closed log.
    lost: Option<LogLoss>,
    pub(crate) streams: Vec<Stream>,
    /// The container's ends of its pipes, until the runtime has them.
    pub(crate) outputs: Option<(OwnedFd, OwnedFd)>,
    /// How many of the request's mounts have been begun.
    mounts_begun: usize,
    /// `cgroup.events`, while the instance is drained and processes of it are left.
    events: Option<File>,
    pub(crate) exec_path: ExecPath,
    /// The instance has ended with anything but 0.
    failed: bool,
    /// The container's memory limit, bytes.
    memory_limit: Option<i64>,
    /// How often the pod had been out of memory before the runtime was called.
    ooms_before: Ooms,
}

/// Why an instance could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("cannot remove the leftover cgroup of an earlier instance")]
    Cgroup(#[source] CgroupError),
    #[error(transparent)]
    Remove(#[from] RemoveError),
    #[error(transparent)]
    Mount(#[from] PodMountError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot make the pipes of the container")]
    Pipe(#[source] nix::Error),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    move |source| PrepareError::File { action, path: path.to_owned(), source }
}

impl Site {
    /// Nothing is made yet.
    pub(crate) fn new(request: StartRequest, sandbox: &SandboxConfig) -> Self {
        let id = &request.id;
        Self {
            runtime_id: format!("{}-{}-{}", sandbox.uid, id.container, id.attempt),
            bundle: sandbox.run.join("bundles").join(&id.container),
            cgroup: Cgroup::at(&request.cgroup),
            request,
            log: None,
            lost: None,
            streams: Vec::new(),
            outputs: None,
            mounts_begun: 0,
            events: None,
            exec_path: ExecPath::Unknown,
            failed: false,
            memory_limit: None,
            ooms_before: Ooms::default(),
        }
    }

    /// Makes all that the runtime needs. `volumes` are the tmpfs volumes that stand in the sandbox already.
    pub(crate) fn prepare(&mut self, volumes: &mut Vec<PathBuf>) -> Result<(), PrepareError> {
        // A leftover would carry the counters of an earlier instance, its OOM kills too.
        if self.cgroup.exists() {
            self.cgroup.kill().and_then(|()| self.cgroup.remove()).map_err(PrepareError::Cgroup)?;
        }
        for mount in &self.request.mounts {
            self.mounts_begun += 1;
            match mount {
                PodMount::Overlay { lower, layer, target } => {
                    tree::remove(layer)?;
                    podmount::overlay(lower, layer, target)?;
                }
                PodMount::Tmpfs { target, .. } if volumes.contains(target) => {}
                PodMount::Tmpfs { target, size } => {
                    podmount::tmpfs(target, *size)?;
                    volumes.push(target.clone());
                }
                PodMount::Subpath { volume, path, target } => podmount::subpath(volume, path, target)?,
            }
        }
        tree::remove(&self.bundle)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.bundle)
            .map_err(failed("create the bundle", &self.bundle))?;
        let mut config = self.request.config.take();
        if let Some(process) = config.get_mut("process").and_then(serde_json::Value::as_object_mut) {
            // Else it would inherit the shim's own.
            process.entry("oomScoreAdj").or_insert(0.into());
        }
        self.memory_limit = config.pointer("/linux/resources/memory/limit").and_then(serde_json::Value::as_i64);
        self.ooms_before = evidence::ooms(&self.pod());
        let config = serde_json::to_vec(&config).map_err(|error| failed("encode", &self.bundle)(error.into()))?;
        write_atomic(&self.bundle.join("config.json"), &config, Durability::Rename)?;
        let request = &self.request;
        if let Some(from) = &request.message {
            message::create(from).map_err(failed("create the termination message's file", &from.file))?;
        }
        let log = Log::open(&request.log, request.log_max_bytes, request.log_max_files);
        self.log = Some(log.map_err(failed("open the log file", &request.log))?);
        let (stdout, stdout_end) = pipe().map_err(PrepareError::Pipe)?;
        let (stderr, stderr_end) = pipe().map_err(PrepareError::Pipe)?;
        self.streams = vec![Stream::new("stdout", stdout), Stream::new("stderr", stderr)];
        self.outputs = Some((stdout_end, stderr_end));
        Ok(())
    }

    /// How commands are started without the runtime in the container, with first process `pid`; `root` is where the runtime keeps
    /// its state. `None`: not at all.
    pub(crate) fn direct_exec(&mut self, root: &Path, pid: i32) -> Option<&mut DirectExec> {
        if matches!(self.exec_path, ExecPath::Unknown) {
            let found = DirectExec::find(&root.join(&self.runtime_id), pid, &self.cgroup);
            self.exec_path = found.map_or(ExecPath::Runtime, ExecPath::Direct);
        }
        match &mut self.exec_path {
            ExecPath::Direct(direct) => Some(direct),
            ExecPath::Unknown | ExecPath::Runtime => None,
        }
    }

    /// The pod's cgroup.
    fn pod(&self) -> Cgroup {
        Cgroup::at(self.cgroup.path().parent().unwrap_or(self.cgroup.path()))
    }

    /// Which memory limit kept the runtime from starting the container, for people; `None`: none did.
    pub(crate) fn starved(&self) -> Option<String> {
        evidence::starved(&self.cgroup, self.memory_limit, &self.pod(), self.ooms_before)
    }

    /// A file beside the bundle's config.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.bundle.join(name)
    }

    /// Reads one stream and logs what is through.
    pub(crate) fn read(&mut self, stream: usize) {
        let now = clock::now();
        let mut batch = Batch::default();
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.read(&clock::rfc3339(now.wall_ns), &mut batch);
        }
        if let Some(log) = &mut self.log {
            log.write(&batch, now);
        }
    }

    /// What of the output has been lost, if there is news of it.
    pub(crate) fn log_lost(&mut self) -> Option<Input> {
        let loss = self.lost.take().or_else(|| self.log.as_mut()?.lost_since_told())?;
        Some(Input::LogLost { id: self.request.id.clone(), loss })
    }

    /// Starts waiting until no process of the instance is left. Returns whether that is so already.
    pub(crate) fn watch_end(&mut self, failed: bool) -> bool {
        self.failed = failed;
        self.events = self.cgroup.events().ok();
        self.is_empty()
    }

    /// What to poll (POLLPRI) until [`Site::is_empty`].
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// Whether no process is left in the cgroup. Reading through the polled descriptor makes it quiet until the next change.
    pub(crate) fn is_empty(&mut self) -> bool {
        let mut text = String::new();
        let Some(events) = &mut self.events else { return true };
        // A cgroup that has been removed cannot be read, and is empty.
        let read = events.rewind().and_then(|()| events.read_to_string(&mut text));
        read.is_err() || !text.lines().any(|line| line == "populated 1")
    }

    /// Takes what is left in the pipes and closes them; then says whether the kernel killed a process for memory, and what
    /// else is to be found. `pid` is the first process's.
    pub(crate) fn finish(&mut self, pid: Option<i32>) -> (bool, Box<Evidence>) {
        self.events = None;
        for index in 0..self.streams.len() {
            for _ in 0..FINAL_READS {
                self.read(index);
            }
        }
        let now = clock::now();
        let mut batch = Batch::default();
        self.streams.iter_mut().for_each(|stream| stream.close(&clock::rfc3339(now.wall_ns), &mut batch));
        let mut rotated = None;
        if let Some(mut log) = self.log.take() {
            log.write(&batch, now);
            log.close(now);
            self.lost = log.lost_since_told();
            rotated = log.rotated_last;
        }
        let figures = evidence::figures(&self.cgroup);
        // Without the memory controller there is no count, and no limit that could kill.
        let oom = figures.memory_events.is_some_and(|events| events.oom_kill > 0);
        let victim = if oom { evidence::victim(&self.cgroup, pid) } else { None };
        let tail = evidence::tail(&self.request.log, rotated.as_deref());
        (oom, Box::new(Evidence { victim, figures, tail }))
    }

    /// The termination message, once its log is closed.
    pub(crate) fn message(&self) -> String {
        let request = &self.request;
        let message = request.message.as_ref().map(|from| message::read(from, self.failed, &request.log));
        message.unwrap_or_default()
    }

    /// Undoes [`Site::prepare`], as far as it came. What fails is reported and left: the agent removes the pod's directories
    /// with the sandbox. Returns the layer's directory if it holds too much to be removed here.
    pub(crate) fn clean(&mut self) -> Option<PathBuf> {
        (self.streams, self.outputs, self.log) = (Vec::new(), None, None);
        let mut big_layer = None;
        for mount in self.request.mounts.iter().take(self.mounts_begun).rev() {
            match mount {
                PodMount::Overlay { layer, target, .. } => {
                    report(podmount::unmount(target));
                    report(remove_empty(target));
                    // rmdir(2) of the upper directory fails exactly when the container wrote to its root.
                    match fs::remove_dir(layer.join("upper")) {
                        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                            big_layer = Some(layer.clone())
                        }
                        _ => report(tree::remove(layer)),
                    }
                }
                PodMount::Subpath { target, .. } => {
                    report(podmount::unmount(target));
                    report(remove_empty(target));
                }
                // A volume stays as long as the sandbox.
                PodMount::Tmpfs { .. } => {}
            }
        }
        report(tree::remove(&self.bundle));
        if let Some(from) = &self.request.message {
            report(message::remove(from));
        }
        // With processes in it, it cannot be removed, and waiting here would hold up the other containers.
        if self.cgroup.populated().is_ok_and(|populated| !populated) {
            report(self.cgroup.remove());
        }
        big_layer
    }
}

/// Removes a mount point: an empty directory, or a file.
fn remove_empty(path: &Path) -> Result<(), PrepareError> {
    let removed = match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove the mount point", path)(error)),
        _ => Ok(()),
    }
}

fn report<E: std::error::Error + 'static>(result: Result<(), E>) {
    if let Err(error) = result {
        crate::say(chain(&error));
    }
}
