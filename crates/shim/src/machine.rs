//! What the shim decides: inputs change what is known of instances and commands, and give actions for the loop to do.
//! No clock, no file, no process is touched here.
//!
//! ```text
//! Recording ─► Waiting ─► Preparing ─► Ready ─► Launching ─► Running ─► Draining ─► Deleting ─► Cleaning ─► Gone
//!     │           │            │          │         │          (exit recorded and told here ▲)      ▲
//!     ▼           │            │          │         └── the runtime refused ────────────────┘       │
//!  forgotten      └────────────┴──────────┴── killed before it was started, or not prepared ────────┘
//! ```
//!
//! A start that cannot be written down is refused: nothing is made for it, and its number is free.
//!
//! An instance waits until the one before it of the same container is gone: both use the same cgroup and mount points.

use podwright_proto::{
    Cause, Evidence, ExecResult, Exit, Health, HookKind, HookRun, InstanceId, LogLoss, Origin, Outcome, Record,
    SANDBOX_REMOVED, Stamp, StartStage, VERSION,
};
use podwright_sys::child::Ended;
use podwright_sys::durable::Durability;

mod commands;
mod room;
#[cfg(test)]
mod tests;

use commands::Command;

/// Runtimes that may start containers at the same time. Mains do not wait for each other, so those of one pod may as well
/// come up together.
pub const MAX_LAUNCHES: usize = 4;

pub use room::fitting;

/// Ended instances of one container that are kept for [`podwright_proto::Event::State`], the newest ones; the others have
/// their record on disk. Bounds memory and message size for a container that crashes for weeks.
pub const REMEMBERED: usize = 8;

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;

/// How long a runtime may go on after the instance that it starts was killed, or the command that it starts answered.
const LAUNCH_KILL_GRACE_NS: i64 = 2_000_000_000;

/// How long the pipes and the cgroup of an ended instance may take to become empty.
const DRAIN_LIMIT_NS: i64 = 5_000_000_000;

/// How long `delete --force` may take.
const DELETE_LIMIT_NS: i64 = 30_000_000_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// [`podwright_proto::Request::Start`].
    Start {
        /// Whom.
        id: InstanceId,
        /// Kept in the record.
        restart_delay_ms: u64,
        /// Kept in the record.
        stop_signal: Option<i32>,
        /// Kept in the record.
        origin: Option<Origin>,
        /// The record of this instance, if its file exists already.
        on_disk: Option<Box<Record>>,
    },
    /// [`podwright_proto::Request::Signal`].
    Signal {
        /// Whom.
        id: InstanceId,
        /// Signal number.
        signal: i32,
        /// Kept in the record.
        cause: Option<Cause>,
    },
    /// [`podwright_proto::Request::Hook`].
    Hook {
        /// Whose.
        id: InstanceId,
        /// Which.
        kind: HookKind,
        /// The shim's own number for its command, if there is one to run.
        seq: Option<u64>,
        /// Kept in the record.
        cause: Option<Cause>,
    },
    /// [`podwright_proto::Request::HookDone`], or the end of the command of a hook.
    HookDone {
        /// Whose.
        id: InstanceId,
        /// Which.
        kind: HookKind,
        /// Why it failed, for people.
        failure: Option<String>,
    },
    /// [`podwright_proto::Request::Kill`].
    Kill {
        /// Whom.
        id: InstanceId,
        /// Who asks.
        cause: Option<Cause>,
    },
    /// How an instance fares, from [`podwright_proto::Request::Remember`].
    Fares {
        /// Whose.
        id: InstanceId,
        /// All of it.
        health: Health,
    },
    /// Lines of an instance's log were lost, or can be written again.
    LogLost {
        /// Whose.
        id: InstanceId,
        /// All of them.
        loss: LogLoss,
    },
    /// [`podwright_proto::Request::Exec`].
    Exec {
        /// The shim's own number for it, never used twice: a new agent counts from the beginning again.
        seq: u64,
        /// Where.
        id: InstanceId,
        /// Time until it is killed.
        timeout_ms: u64,
    },
    /// Another agent, or a new connection of the same: nobody waits for the commands of the last one any more.
    NewAgent,
    /// [`podwright_proto::Request::Shutdown`].
    Shutdown,
    /// [`Action::Record`] is through.
    Recorded {
        /// Whose.
        id: InstanceId,
        /// The error is for people.
        result: Result<(), String>,
    },
    /// [`Action::Prepare`] is through.
    Prepared {
        /// Whose.
        id: InstanceId,
        /// The error is for people.
        result: Result<(), String>,
    },
    /// The runtime of [`Action::Launch`] has ended.
    Launched {
        /// Whose.
        id: InstanceId,
        /// The error is for people.
        result: Result<Process, String>,
    },
    /// The runtime of [`Action::Launch`] could not be called now, for want of descriptors, memory or processes.
    NotLaunched {
        /// Whose.
        id: InstanceId,
        /// Why, for people.
        message: String,
    },
    /// The runtime of [`Action::LaunchExec`] has ended.
    ExecLaunched {
        /// Which.
        seq: u64,
        /// The error is for people.
        result: Result<Process, String>,
    },
    /// A child that is no runtime was reaped: a first process, a command, or an orphan of theirs.
    Reaped {
        /// Its pid.
        pid: i32,
        /// How it ended.
        ended: Ended,
    },
    /// [`Action::Drain`] is through.
    Drained {
        /// Whose.
        id: InstanceId,
        /// Whether a process of it was killed for memory.
        oom: bool,
        /// What else was found.
        evidence: Box<Evidence>,
        /// Its termination message.
        message: String,
    },
    /// The runtime of [`Action::Delete`] has ended.
    Deleted {
        /// Whose.
        id: InstanceId,
    },
    /// [`Action::Clean`] is through.
    Cleaned {
        /// Whose.
        id: InstanceId,
    },
    /// [`Machine::deadline`] may have come.
    Tick,
}

/// A process that a runtime left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// From the pid file.
    pub pid: i32,
    /// Its start time, if it was still there as a child of ours (as a zombie too); `None` if it has been reaped.
    pub start: Option<u64>,
}

/// Something to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the record file of a start; answered by [`Input::Recorded`]. Not tried again.
    Record(Box<Record>),
    /// Write the record file, if need be later.
    Persist(Box<Record>, Durability),
    /// Tell the agent, if one is connected.
    Announce(Box<Record>),
    /// Make mounts, bundle, log and pipes; answered by [`Input::Prepared`].
    Prepare(InstanceId),
    /// Call the runtime's `run`; answered by [`Input::Launched`].
    Launch(InstanceId),
    /// SIGKILL the runtime that works for this instance.
    AbortRuntime(InstanceId),
    /// Send a signal to a first process that has not been reaped.
    Signal {
        /// The process.
        pid: i32,
        /// Signal number.
        signal: i32,
    },
    /// SIGKILL everything in the instance's cgroup, and its first process if it runs.
    KillAll {
        /// Whose.
        id: InstanceId,
        /// The first process, if it runs.
        pid: Option<i32>,
    },
    /// Read the pipes to their end and wait until the cgroup is empty; answered by [`Input::Drained`].
    Drain {
        /// Whose.
        id: InstanceId,
        /// Take what is there and stop waiting.
        give_up: bool,
        /// Whether it left with anything but 0: then the end of the log may be its termination message.
        failed: bool,
    },
    /// Call the runtime's `delete --force`; answered by [`Input::Deleted`].
    Delete(InstanceId),
    /// Undo what [`Action::Prepare`] made; answered by [`Input::Cleaned`].
    Clean(InstanceId),
    /// Call the runtime's `exec`; answered by [`Input::ExecLaunched`].
    LaunchExec {
        /// Which.
        seq: u64,
        /// Where.
        id: InstanceId,
    },
    /// SIGKILL a command with its descendants, or the runtime that starts it.
    KillExec {
        /// Which.
        seq: u64,
        /// Where.
        id: InstanceId,
        /// Its first process, if there is one already.
        pid: Option<i32>,
    },
    /// Tell the agent, with the output. The command is through, but for a runtime that may still be at work for it.
    FinishExec {
        /// Which.
        seq: u64,
        /// How it went.
        result: ExecResult,
    },
    /// Nothing is left: leave.
    Leave,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Recording,
    Waiting,
    Preparing,
    Ready,
    Launching { give_up_at: Option<i64> },
    Running { pid: i32 },
    Draining { outcome: Outcome, finished: Stamp, give_up_at: Option<i64> },
    Deleting { give_up_at: Option<i64> },
    Cleaning,
    Gone,
}

#[derive(Debug)]
struct Instance {
    record: Record,
    phase: Phase,
    /// A signal that came before there was a process.
    held_signal: Option<i32>,
}

/// All that a shim knows of its instances and commands.
#[derive(Debug)]
pub struct Machine {
    sandbox: u32,
    boot_id: String,
    instances: Vec<Instance>,
    commands: Vec<Command>,
    /// Children reaped while a runtime was at work: one may be the process that the runtime is about to name.
    strangers: Vec<(i32, Ended)>,
    leaving: bool,
    launches: usize,
}

impl Machine {
    /// For the sandbox with this number, on this boot; `launches` runtimes may start containers at the same time.
    pub fn new(sandbox: u32, boot_id: String, launches: usize) -> Self {
        let (instances, commands, strangers) = (Vec::new(), Vec::new(), Vec::new());
        Self { sandbox, boot_id, launches, instances, commands, strangers, leaving: false }
    }

    /// Records of all remembered instances, in the order of their start.
    pub fn records(&self) -> Vec<Record> {
        self.instances.iter().map(|instance| instance.record.clone()).collect()
    }

    /// Whether this instance is remembered.
    pub fn knows(&self, id: &InstanceId) -> bool {
        self.instances.iter().any(|instance| instance.record.id == *id)
    }

    /// The first process of an instance, if it has had one.
    pub fn pid(&self, id: &InstanceId) -> Option<i32> {
        self.instances.iter().find(|instance| instance.record.id == *id)?.record.pid
    }

    /// The first process of an instance that runs.
    pub fn first_process(&self, id: &InstanceId) -> Option<i32> {
        self.instances.iter().find(|instance| instance.record.id == *id).and_then(|instance| match instance.phase {
            Phase::Running { pid } => Some(pid),
            _ => None,
        })
    }

    /// Boot-time nanoseconds at which [`Input::Tick`] is due, if ever.
    pub fn deadline(&self) -> Option<i64> {
        let instances = self.instances.iter().filter_map(|instance| match instance.phase {
            Phase::Launching { give_up_at } | Phase::Draining { give_up_at, .. } | Phase::Deleting { give_up_at } => {
                give_up_at
            }
            Phase::Recording | Phase::Waiting | Phase::Preparing | Phase::Ready | Phase::Running { .. } => None,
            Phase::Cleaning | Phase::Gone => None,
        });
        let commands = self.commands.iter().filter_map(Command::deadline);
        instances.chain(commands).min()
    }

    /// Takes one input and says what to do.
    pub fn apply(&mut self, input: Input, now: Stamp) -> Vec<Action> {
        let mut todo = Vec::new();
        match input {
            Input::Start { id, restart_delay_ms, stop_signal, origin, on_disk } => {
                let record = self.requested(id, (restart_delay_ms, stop_signal), origin, now);
                self.start(record, on_disk, now, &mut todo);
            }
            Input::Signal { id, signal, cause } => self.signal(&id, signal, cause, now, &mut todo),
            Input::Hook { id, kind, seq, cause } => self.hook(id, kind, seq, cause, now, &mut todo),
            Input::HookDone { id, kind, failure } => self.hook_done(&id, kind, failure, now, &mut todo),
            Input::Kill { id, cause } => self.kill(&id, cause, now, &mut todo),
            Input::Fares { id, health } => self.fares(&id, health),
            Input::LogLost { id, loss } => self.log_lost(&id, loss, &mut todo),
            Input::Exec { seq, id, timeout_ms } => self.exec(seq, id, timeout_ms, now, &mut todo),
            Input::NewAgent => self.abandon_commands(now, &mut todo),
            Input::Shutdown => self.shutdown(now, &mut todo),
            Input::Recorded { id, result } => self.recorded(&id, result, now, &mut todo),
            Input::Prepared { id, result } => self.prepared(&id, result, now, &mut todo),
            Input::Launched { id, result } => self.launched(&id, result, now, &mut todo),
            Input::NotLaunched { id, message } => self.not_launched(&id, &message, now, &mut todo),
            Input::ExecLaunched { seq, result } => self.exec_launched(seq, result, now, &mut todo),
            Input::Reaped { pid, ended } => self.reaped(pid, ended, now, &mut todo),
            Input::Drained { id, oom, evidence, message } => {
                self.drained(&id, oom, (evidence, message), now, &mut todo)
            }
            Input::Deleted { id } => self.step(&id, Phase::Cleaning, Action::Clean(id.clone()), &mut todo),
            Input::Cleaned { id } => self.cleaned(&id),
            Input::Tick => self.tick(now, &mut todo),
        }
        self.advance(&mut todo);
        todo
    }

    fn find(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.record.id == *id)
    }

    fn requested(
        &self,
        id: InstanceId,
        (restart_delay_ms, stop_signal): (u64, Option<i32>),
        origin: Option<Origin>,
        now: Stamp,
    ) -> Record {
        Record {
            version: VERSION,
            id,
            sandbox: self.sandbox,
            boot_id: self.boot_id.clone(),
            restart_delay_ms,
            origin,
            requested: now,
            pid: None,
            pid_start: None,
            started: None,
            stop_signal,
            post_start: None,
            pre_stop: None,
            signaled: None,
            killed: None,
            cause: None,
            health: Health::default(),
            log_lost: None,
            exit: None,
            unsaved: None,
            refused: false,
        }
    }

    fn start(&mut self, record: Record, on_disk: Option<Box<Record>>, now: Stamp, todo: &mut Vec<Action>) {
        if let Some(known) = self.find(&record.id) {
            todo.push(Action::Announce(Box::new(known.record.clone())));
            return;
        }
        if let Some(record) = on_disk {
            todo.push(Action::Announce(record));
            return;
        }
        let mut instance = Instance { record, phase: Phase::Recording, held_signal: None };
        if self.leaving {
            instance.never_started("the sandbox is being removed", now, todo);
        } else {
            todo.push(Action::Record(Box::new(instance.record.clone())));
        }
        self.instances.push(instance);
    }

    fn recorded(&mut self, id: &InstanceId, result: Result<(), String>, now: Stamp, todo: &mut Vec<Action>) {
        let Some(index) = self.instances.iter().position(|i| i.record.id == *id && i.phase == Phase::Recording) else {
            return;
        };
        match result {
            Ok(()) => self.instances[index].phase = Phase::Waiting,
            Err(message) => {
                let mut record = self.instances.remove(index).record;
                let outcome = Outcome::StartFailed { stage: StartStage::Prepare, message };
                (record.refused, record.exit) = (true, Some(Exit::without_evidence(outcome, now)));
                todo.push(Action::Announce(Box::new(record)));
            }
        }
    }

    fn signal(&mut self, id: &InstanceId, signal: i32, cause: Option<Cause>, now: Stamp, todo: &mut Vec<Action>) {
        let Some(instance) = self.find(id) else { return };
        instance.asked(cause);
        match instance.phase {
            Phase::Recording | Phase::Waiting | Phase::Preparing | Phase::Ready | Phase::Launching { .. } => {
                instance.held_signal = Some(signal);
            }
            Phase::Running { pid } => instance.send(pid, signal, now, todo),
            Phase::Draining { .. } | Phase::Deleting { .. } | Phase::Cleaning | Phase::Gone => {}
        }
    }

    fn kill(&mut self, id: &InstanceId, cause: Option<Cause>, now: Stamp, todo: &mut Vec<Action>) {
        let Some(instance) = self.find(id) else { return };
        instance.asked(cause);
        match &mut instance.phase {
            Phase::Recording | Phase::Waiting | Phase::Preparing | Phase::Ready => {
                instance.record.killed = Some(now);
                instance.never_started("killed before it was started", now, todo);
            }
            Phase::Launching { give_up_at } => {
                // What is in the cgroup goes now; what the runtime is about to put there goes when it returns.
                give_up_at.get_or_insert(now.boot_ns + LAUNCH_KILL_GRACE_NS);
                instance.record.killed.get_or_insert(now);
                todo.push(Action::KillAll { id: id.clone(), pid: None });
                instance.tell(todo);
            }
            Phase::Running { pid } => {
                todo.push(Action::KillAll { id: id.clone(), pid: Some(*pid) });
                instance.record.killed.get_or_insert(now);
                instance.tell(todo);
            }
            Phase::Draining { .. } | Phase::Deleting { .. } | Phase::Cleaning | Phase::Gone => {}
        }
    }

    fn shutdown(&mut self, now: Stamp, todo: &mut Vec<Action>) {
        self.leaving = true;
        let all: Vec<InstanceId> = self.instances.iter().map(|instance| instance.record.id.clone()).collect();
        for id in all {
            let cause = Cause { kind: SANDBOX_REMOVED.to_owned(), message: String::new() };
            self.kill(&id, Some(cause), now, todo);
        }
    }

    /// Told at once; written with the end: the disk that has no room for a log may have none for a record.
    fn log_lost(&mut self, id: &InstanceId, loss: LogLoss, todo: &mut Vec<Action>) {
        let known = self.instances.iter_mut().find(|instance| instance.record.id == *id);
        if let Some(instance) = known.filter(|instance| instance.record.exit.is_none()) {
            instance.record.log_lost = Some(loss);
            todo.push(Action::Announce(Box::new(instance.record.clone())));
        }
    }

    fn fares(&mut self, id: &InstanceId, health: Health) {
        if let Some(instance) = self.find(id).filter(|instance| instance.record.exit.is_none()) {
            instance.record.health = health.bounded();
        }
    }

    fn prepared(&mut self, id: &InstanceId, result: Result<(), String>, now: Stamp, todo: &mut Vec<Action>) {
        let Some(instance) = self.find(id) else { return };
        if instance.phase != Phase::Preparing {
            return;
        }
        match result {
            Ok(()) => instance.phase = Phase::Ready,
            Err(message) => instance.never_started(&message, now, todo),
        }
    }

    fn launched(&mut self, id: &InstanceId, result: Result<Process, String>, now: Stamp, todo: &mut Vec<Action>) {
        let gone = self.ended_already(&result);
        let Some(instance) = self.find(id) else { return };
        match result.and_then(|process| present(process, gone)) {
            Ok(process) => {
                instance.phase = Phase::Running { pid: process.pid };
                instance.record.pid = Some(process.pid);
                instance.record.pid_start = process.start;
                instance.record.started = Some(now);
                instance.tell(todo);
                let killed = instance.record.killed.is_some();
                if let (Some(signal), None) = (instance.held_signal.take(), gone) {
                    instance.send(process.pid, signal, now, todo);
                }
                if let Some(ended) = gone {
                    instance.ended(ended, now, todo);
                } else if killed {
                    todo.push(Action::KillAll { id: id.clone(), pid: Some(process.pid) });
                }
            }
            Err(message) => {
                todo.push(Action::KillAll { id: id.clone(), pid: None });
                let outcome = Outcome::StartFailed { stage: StartStage::Runtime, message };
                instance.finish(Exit::without_evidence(outcome, now), todo);
                todo.push(Action::Delete(id.clone()));
                instance.phase = Phase::Deleting { give_up_at: Some(now.boot_ns + DELETE_LIMIT_NS) };
            }
        }
    }

    /// As if it could not be prepared: nothing has run, and it is tried again under every restart policy.
    fn not_launched(&mut self, id: &InstanceId, message: &str, now: Stamp, todo: &mut Vec<Action>) {
        let Some(instance) = self.find(id) else { return };
        if matches!(instance.phase, Phase::Launching { .. }) {
            instance.never_started(message, now, todo);
        }
    }

    fn reaped(&mut self, pid: i32, ended: Ended, now: Stamp, todo: &mut Vec<Action>) {
        if let Some(instance) = self.instances.iter_mut().find(|instance| instance.phase == Phase::Running { pid }) {
            instance.ended(ended, now, todo);
            let id = instance.record.id.clone();
            self.end_commands(&id, now, todo);
            return;
        }
        if let Some(index) = self.commands.iter().position(|command| command.pid() == Some(pid)) {
            return self.command_ended(index, ended, now, todo);
        }
        self.strangers.push((pid, ended));
    }

    fn drained(
        &mut self,
        id: &InstanceId,
        oom: bool,
        (evidence, message): (Box<Evidence>, String),
        now: Stamp,
        todo: &mut Vec<Action>,
    ) {
        let Some(instance) = self.find(id) else { return };
        if let Phase::Draining { outcome, finished, .. } = &instance.phase {
            let exit = Exit { outcome: outcome.clone(), oom, finished: *finished, evidence: Some(evidence), message };
            instance.finish(exit, todo);
            todo.push(Action::Delete(id.clone()));
            instance.phase = Phase::Deleting { give_up_at: Some(now.boot_ns + DELETE_LIMIT_NS) };
        }
    }

    fn step(&mut self, id: &InstanceId, phase: Phase, action: Action, todo: &mut Vec<Action>) {
        if let Some(instance) = self.find(id) {
            instance.phase = phase;
            todo.push(action);
        }
    }

    fn cleaned(&mut self, id: &InstanceId) {
        let Some(instance) = self.find(id) else { return };
        instance.phase = Phase::Gone;
        let of_it = |i: &Instance| i.record.id.container == id.container && i.phase == Phase::Gone;
        if self.instances.iter().filter(|i| of_it(i)).count() > REMEMBERED {
            let oldest = self.instances.iter().position(of_it);
            oldest.map(|index| self.instances.remove(index));
        }
    }

    fn tick(&mut self, now: Stamp, todo: &mut Vec<Action>) {
        for instance in &mut self.instances {
            let id = &instance.record.id;
            match &mut instance.phase {
                Phase::Launching { give_up_at } | Phase::Deleting { give_up_at } => {
                    if give_up_at.take_if(|at| *at <= now.boot_ns).is_some() {
                        todo.push(Action::AbortRuntime(id.clone()));
                    }
                }
                Phase::Draining { outcome, give_up_at, .. } => {
                    if give_up_at.take_if(|at| *at <= now.boot_ns).is_some() {
                        let failed = *outcome != Outcome::Exited { code: 0 };
                        todo.push(Action::KillAll { id: id.clone(), pid: None });
                        todo.push(Action::Drain { id: id.clone(), give_up: true, failed });
                    }
                }
                Phase::Recording | Phase::Waiting | Phase::Preparing | Phase::Ready | Phase::Running { .. } => {}
                Phase::Cleaning | Phase::Gone => {}
            }
        }
        self.tick_commands(now, todo);
    }

    /// What follows by itself: instances that can go on now, memory that is of no use any more, the end.
    fn advance(&mut self, todo: &mut Vec<Action>) {
        let launching = |i: &Instance| matches!(i.phase, Phase::Launching { .. });
        let mut launches = self.instances.iter().filter(|i| launching(i)).count();
        for index in 0..self.instances.len() {
            let (earlier, rest) = self.instances.split_at_mut(index);
            let Some(instance) = rest.first_mut() else { break };
            let id = &instance.record.id;
            let alone = !earlier.iter().any(|e| e.record.id.container == id.container && e.phase != Phase::Gone);
            if instance.phase == Phase::Waiting && alone {
                todo.push(Action::Prepare(id.clone()));
                instance.phase = Phase::Preparing;
            } else if instance.phase == Phase::Ready && launches < self.launches {
                todo.push(Action::Launch(id.clone()));
                instance.phase = Phase::Launching { give_up_at: None };
                launches += 1;
            }
        }
        let commands_wait = self.commands.iter().any(Command::has_runtime);
        if launches == 0 && !commands_wait {
            self.strangers = Vec::new();
        }
        if self.leaving && self.commands.is_empty() && self.instances.iter().all(|i| i.phase == Phase::Gone) {
            todo.push(Action::Leave);
        }
    }

    /// How a process that a runtime names has ended, if it was reaped before the runtime was.
    fn ended_already(&mut self, result: &Result<Process, String>) -> Option<Ended> {
        let process = result.as_ref().ok().filter(|process| process.start.is_none())?;
        let index = self.strangers.iter().rposition(|(pid, _)| *pid == process.pid)?;
        Some(self.strangers.remove(index).1)
    }
}

fn present(process: Process, ended: Option<Ended>) -> Result<Process, String> {
    if process.start.is_some() || ended.is_some() {
        return Ok(process);
    }
    Err(format!("the runtime named process {} in its pid file, which is no child of the shim", process.pid))
}

impl Instance {
    fn hook(&mut self, kind: HookKind) -> &mut Option<HookRun> {
        match kind {
            HookKind::PostStart => &mut self.record.post_start,
            HookKind::PreStop => &mut self.record.pre_stop,
        }
    }

    /// Whether its first process has ended.
    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Recording | Phase::Waiting | Phase::Preparing | Phase::Ready => false,
            Phase::Launching { .. } | Phase::Running { .. } => false,
            Phase::Draining { .. } | Phase::Deleting { .. } | Phase::Cleaning | Phase::Gone => true,
        }
    }

    /// Writes and tells a change that may be lost in a power cut.
    fn tell(&self, todo: &mut Vec<Action>) {
        todo.push(Action::Persist(Box::new(self.record.clone()), Durability::Rename));
        todo.push(Action::Announce(Box::new(self.record.clone())));
    }

    fn send(&mut self, pid: i32, signal: i32, now: Stamp, todo: &mut Vec<Action>) {
        todo.push(Action::Signal { pid, signal });
        let sent = if signal == SIGKILL { &mut self.record.killed } else { &mut self.record.signaled };
        sent.get_or_insert(now);
        self.tell(todo);
    }

    /// The first who asked is the cause; one that has ended already did so by itself, and stays so.
    fn asked(&mut self, cause: Option<Cause>) {
        if self.is_over() {
            return;
        }
        if let Some(cause) = cause {
            self.record.cause.get_or_insert_with(|| cause.bounded());
        }
    }

    fn ended(&mut self, ended: Ended, now: Stamp, todo: &mut Vec<Action>) {
        let outcome = match ended {
            Ended::Exited(code) => Outcome::Exited { code },
            Ended::Signaled(signal) => Outcome::Signaled { signal },
        };
        let id = self.record.id.clone();
        let failed = outcome != Outcome::Exited { code: 0 };
        todo.push(Action::KillAll { id: id.clone(), pid: None });
        todo.push(Action::Drain { id, give_up: false, failed });
        self.phase = Phase::Draining { outcome, finished: now, give_up_at: Some(now.boot_ns + DRAIN_LIMIT_NS) };
    }

    fn never_started(&mut self, message: &str, now: Stamp, todo: &mut Vec<Action>) {
        let outcome = Outcome::StartFailed { stage: StartStage::Prepare, message: message.to_owned() };
        self.finish(Exit::without_evidence(outcome, now), todo);
        todo.push(Action::Clean(self.record.id.clone()));
        self.phase = Phase::Cleaning;
    }

    /// The end is durable before anyone hears of it, or told as one that is not.
    fn finish(&mut self, exit: Exit, todo: &mut Vec<Action>) {
        self.record.exit = Some(exit);
        todo.push(Action::Persist(Box::new(self.record.clone()), Durability::Synced));
        todo.push(Action::Announce(Box::new(self.record.clone())));
    }
}
