//! The poll loop: waits for descriptors and deadlines, turns what happens into inputs of the machine, and has its actions done.

use std::collections::VecDeque;
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use podwright_proto::{Event, InstanceId, MAX_MEMO, MAX_REQUEST, Request, SandboxConfig, Stamp, VERSION};
use podwright_shim::machine::{Input, MAX_LAUNCHES, Machine};
use podwright_sys::child::{self, Change, Ended};
use podwright_sys::error::chain;

use crate::clock;
use crate::connection::{Connection, Lost};
use crate::direct_exec::SpawnFiles;
use crate::execs::{Command, Purpose};
use crate::records::Unwritten;
use crate::site::Site;

/// Taken by descriptor. All but SIGCHLD are read and forgotten: only the agent ends a pod.
pub(crate) const SIGNALS: [Signal; 5] =
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// The shim gives memory back when nothing has happened for this long: what it does in between would only fetch it again.
const QUIET_NS: i64 = 1_000_000_000;

/// How long the shim waits after an error of the kernel's that may pass (want of memory or descriptors) before it tries again.
const ERROR_PAUSE: Duration = Duration::from_nanos(PAUSE_NS.unsigned_abs());
const PAUSE_NS: i64 = 500_000_000;

/// Children that are collected before the loop looks at descriptors again: a container may end threads that it has made the shim trace
/// as fast as they are collected.
const REAPED_PER_TURN: u32 = 256;

/// A process that works for the shim itself.
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) pid: i32,
    pub(crate) task: Task,
}

/// What a helper does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// The runtime's `run`.
    Run(InstanceId),
    /// The runtime's `exec`, for the command with this number.
    Exec(u64),
    /// The runtime's `delete`.
    Delete(InstanceId),
    /// Removal of a layer.
    Remove(InstanceId),
}

/// The shim: what it knows, and what it holds.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) config: SandboxConfig,
    pub(crate) machine: Machine,
    /// What happened and has not been given to the machine yet.
    pub(crate) inputs: VecDeque<Input>,
    pub(crate) sites: Vec<Site>,
    pub(crate) commands: Vec<Command>,
    pub(crate) spawn_files: SpawnFiles,
    commands_asked: u64,
    pub(crate) helpers: Vec<Helper>,
    /// Helpers that have ended, and what they left cannot be seen yet.
    pub(crate) unseen: Vec<(Helper, Ended)>,
    /// When it is looked at again.
    pub(crate) look_at: Option<i64>,
    /// Mount points of the tmpfs volumes.
    pub(crate) volumes: Vec<PathBuf>,
    /// Runtimes that were covered by a read-only mount.
    pub(crate) covered: Vec<PathBuf>,
    pub(crate) connection: Option<Connection>,
    /// Until when no connection is accepted, since the last one could not be.
    deaf_until: Option<i64>,
    /// Records that could not be written, to be tried again.
    pub(crate) unwritten: Unwritten,
    pub(crate) leaving: bool,
    /// Whether there may be more children to collect.
    unreaped: bool,
    /// Whether more was done than a usual wake-up does, so that memory is worth giving back.
    pub(crate) slack: bool,
    memo: Option<String>,
    created: Stamp,
}

/// What a polled descriptor stands for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Agent,
    Stream(usize, usize),
    Cgroup(usize),
    Command(usize),
}

/// Serves until the machine leaves.
pub(crate) fn run(config: SandboxConfig, listener: UnixListener, signals: SignalFd) -> Result<(), Box<dyn Error>> {
    let mut shim = Shim {
        machine: Machine::new(config.number, config.boot_id.clone(), MAX_LAUNCHES),
        config,
        inputs: VecDeque::new(),
        sites: Vec::new(),
        commands: Vec::new(),
        spawn_files: SpawnFiles::new()?,
        commands_asked: 0,
        helpers: Vec::new(),
        unseen: Vec::new(),
        look_at: None,
        volumes: Vec::new(),
        covered: Vec::new(),
        connection: None,
        deaf_until: None,
        unwritten: Unwritten::default(),
        leaving: false,
        unreaped: false,
        slack: true,
        memo: None,
        created: clock::now(),
    };
    // An end that is nowhere but here would go with it.
    while !(shim.leaving && shim.unwritten.is_empty()) {
        let ready = shim.wait(&listener, &signals);
        if ready.is_empty() && shim.slack && shim.machine.deadline().is_none() {
            child::become_idle();
            shim.slack = false;
        }
        for (source, flags) in ready {
            shim.handle(source, flags, &listener, &signals);
        }
        if shim.unreaped {
            shim.reap();
        }
        shim.inputs.push_back(Input::Tick);
        shim.settle();
        shim.look_again(clock::now().boot_ns);
        shim.retry_writes(clock::now().boot_ns);
    }
    Ok(crate::sandbox::leave(&shim.config)?)
}

impl Shim {
    /// Sleeps until something is to be done; for ever when nothing is going on. Whatever the kernel answers, the pod is looked after.
    fn wait(&mut self, listener: &UnixListener, signals: &SignalFd) -> Vec<(Source, PollFlags)> {
        self.deaf_until.take_if(|until| *until <= clock::now().boot_ns);
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        // Streams come first: what follows may remove instances and commands, and with that shift their indices.
        for (index, site) in self.sites.iter().enumerate() {
            let streams = site.streams.iter().enumerate();
            sources.extend(streams.filter_map(|(n, s)| Some((Source::Stream(index, n), s.fd()?, PollFlags::POLLIN))));
            sources.extend(site.events().map(|fd| (Source::Cgroup(index), fd, PollFlags::POLLPRI)));
        }
        for (index, command) in self.commands.iter().enumerate() {
            sources.extend(command.fd().map(|fd| (Source::Command(index), fd, PollFlags::POLLIN)));
        }
        sources.push((Source::Signals, signals.as_fd(), PollFlags::POLLIN));
        if let Some(agent) = &self.connection {
            let output = if agent.has_output() { PollFlags::POLLOUT } else { PollFlags::empty() };
            sources.push((Source::Agent, agent.fd(), PollFlags::POLLIN | output));
        }
        if self.deaf_until.is_none() {
            sources.push((Source::Listener, listener.as_fd(), PollFlags::POLLIN));
        }
        let mut fds: Vec<PollFd<'_>> = sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Without memory for its tables, say.
            Err(errno) => {
                crate::say(format_args!("cannot poll: {}", errno.desc()));
                std::thread::sleep(ERROR_PAUSE);
                return vec![(Source::Signals, PollFlags::POLLIN)];
            }
        }
        let flags = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let ready = sources.iter().map(|(source, ..)| *source).zip(flags);
        ready.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn timeout(&self) -> PollTimeout {
        if self.unreaped {
            return PollTimeout::ZERO;
        }
        let quiet = self.slack.then(|| clock::now().boot_ns + QUIET_NS);
        let all = [self.machine.deadline(), self.look_at, self.unwritten.retry_at(), self.deaf_until, quiet];
        let Some(at) = all.into_iter().flatten().min() else { return PollTimeout::NONE };
        // Rounded up: waking early would only mean to sleep once more.
        let millis = (at - clock::now().boot_ns).max(0).saturating_add(999_999) / 1_000_000;
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    }

    fn handle(&mut self, source: Source, flags: PollFlags, listener: &UnixListener, signals: &SignalFd) {
        match source {
            Source::Signals => {
                // Children are looked for whether it can be read or not.
                while let Ok(Some(_)) = signals.read_signal() {}
                self.reap();
            }
            Source::Listener => self.accept(listener),
            Source::Agent => {
                let result = self.serve(flags);
                self.keep_connection(result);
            }
            Source::Stream(site, stream) => {
                if let Some(site) = self.sites.get_mut(site) {
                    site.read(stream);
                    self.inputs.extend(site.log_lost());
                }
            }
            Source::Cgroup(site) => self.check_end(site),
            Source::Command(index) => self.commands.get_mut(index).into_iter().for_each(Command::read),
        }
    }

    /// Gives the machine what happened, and does what it says, until both are done.
    pub(crate) fn settle(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            for action in self.machine.apply(input, clock::now()) {
                self.execute(action);
            }
        }
    }

    /// Collects the children that have ended, a turn's share of them. The runtimes among them come last: what they started may be among the
    /// others.
    fn reap(&mut self) {
        let mut helpers = Vec::new();
        self.unreaped = true;
        for _ in 0..REAPED_PER_TURN {
            // waitpid(2) knows no error that could pass.
            let Ok(Some((pid, change))) = child::reap() else {
                self.unreaped = false;
                break;
            };
            let Change::Ended(ended) = change else { continue };
            match self.helpers.iter().position(|helper| helper.pid == pid) {
                Some(index) => helpers.push((self.helpers.remove(index), ended)),
                None => self.inputs.push_back(Input::Reaped { pid, ended }),
            }
        }
        helpers.into_iter().for_each(|(helper, ended)| self.helped(helper, ended));
    }

    /// The newest connection is the agent; one before it belongs to an agent that is gone, or will be.
    fn accept(&mut self, listener: &UnixListener) {
        match listener.accept().and_then(|(stream, _)| Connection::new(stream)) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.commands.iter_mut().for_each(Command::forget_asker);
                self.inputs.push_back(Input::NewAgent);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // It stays in the queue: without a pause it would be tried all the time.
            Err(error) => {
                crate::say(format_args!("cannot accept a connection: {}", chain(&error)));
                self.deaf_until = Some(clock::now().boot_ns.saturating_add(PAUSE_NS));
            }
        }
    }

    fn serve(&mut self, flags: PollFlags) -> Result<(), Lost> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if flags.contains(PollFlags::POLLOUT) {
            connection.flush()?;
        }
        if !flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Ok(());
        }
        for request in connection.receive()? {
            self.take(request)?;
            // One after the other: the answer to a request does not depend on the ones behind it.
            self.settle();
        }
        Ok(())
    }

    fn take(&mut self, request: Request) -> Result<(), Lost> {
        match request {
            Request::Hello { .. } => {
                let state = self.state();
                self.slack = true;
                self.connection.as_mut().map_or(Ok(()), |connection| connection.send(&state))?;
            }
            Request::Start(request) => self.take_start(*request),
            Request::Signal { id, signal, cause } => self.inputs.push_back(Input::Signal { id, signal, cause }),
            Request::Hook { id, kind, command, cause } => {
                let seq = command.map(|command| self.new_command(Purpose::Hook(kind), id.clone(), command));
                self.inputs.push_back(Input::Hook { id, kind, seq, cause });
            }
            Request::HookDone { id, kind, failure } => self.inputs.push_back(Input::HookDone { id, kind, failure }),
            Request::Kill { id, cause } => self.inputs.push_back(Input::Kill { id, cause }),
            Request::Exec { seq, id, command, timeout_ms } => {
                let number = self.new_command(Purpose::Exec(Some(seq)), id.clone(), command);
                self.inputs.push_back(Input::Exec { seq: number, id, timeout_ms });
            }
            Request::Remember { memo, health } => {
                if memo.len() <= MAX_MEMO {
                    self.memo = Some(memo);
                } else {
                    crate::say(format_args!("a memo of {} bytes is too long and left out", memo.len()));
                }
                let fares = health.into_iter().map(|(container, (attempt, health))| Input::Fares {
                    id: InstanceId { container, attempt },
                    health,
                });
                self.inputs.extend(fares);
            }
            Request::Shutdown => self.inputs.push_back(Input::Shutdown),
        }
        Ok(())
    }

    /// Keeps a command that the machine will decide about; returns its number.
    fn new_command(&mut self, purpose: Purpose, id: InstanceId, argv: Vec<String>) -> u64 {
        let number = self.commands_asked;
        self.commands_asked += 1;
        let directory = self.config.run.join("execs");
        self.commands.push(Command::new(number, purpose, id, argv, &directory));
        number
    }

    fn state(&self) -> Event {
        let all = self.all_records();
        let instances = match &self.connection {
            Some(connection) => connection.fitting(all, self.memo.as_ref()),
            None => all,
        };
        Event::State {
            version: VERSION,
            sandbox: self.config.number,
            pid: std::process::id().cast_signed(),
            created: self.created,
            instances,
            memo: self.memo.clone(),
            max_request: MAX_REQUEST,
        }
    }

    /// Tells the agent, if there is one.
    pub(crate) fn send(&mut self, event: &Event) {
        let result = self.connection.as_mut().map_or(Ok(()), |connection| connection.send(event));
        self.keep_connection(result);
    }

    /// A connection that failed is closed; the agent comes back and asks for the state.
    fn keep_connection(&mut self, result: Result<(), Lost>) {
        if let Err(lost) = result {
            if !lost.is_the_agents_end() {
                crate::say(format_args!("connection dropped: {}", chain(&lost)));
            }
            self.connection = None;
            self.slack = true;
        }
    }
}
