//! Commands in running containers: probes and hooks.

use super::{Action, Instance, LAUNCH_KILL_GRACE_NS, Machine, Phase, Process, SIGKILL, present};
use podwright_proto::{Cause, ExecResult, HookKind, HookRun, InstanceId, Stamp};
use podwright_sys::child::Ended;

/// How long the end of a container may take to be seen after that of its other processes.
const END_FOLLOWS_NS: i64 = 1_000_000_000;

/// A command that was asked for and has not come to its end.
#[derive(Debug)]
pub(super) struct Command {
    seq: u64,
    id: InstanceId,
    phase: CommandPhase,
    /// A hook's, and not a probe's: it outlives the agent's connection.
    hook: bool,
}

#[derive(Debug)]
enum CommandPhase {
    Launching {
        give_up_at: Option<i64>,
    },
    /// Answered before it had a process. The runtime is let finish, for a while: killed half-way it might leave a process
    /// that nobody knows.
    Abandoned {
        give_up_at: Option<i64>,
    },
    Running {
        pid: i32,
        give_up_at: Option<i64>,
    },
    /// SIGKILL has ended it, and nobody here has sent that: likely its container is ending, which takes its processes along
    /// and is seen a moment later. Then the command says nothing.
    Struck {
        until: i64,
    },
}

impl Machine {
    /// A hook is run once in an instance's life, whatever becomes of the agent. The record tells before it is run.
    pub(super) fn hook(
        &mut self,
        id: InstanceId,
        kind: HookKind,
        seq: Option<u64>,
        cause: Option<Cause>,
        now: Stamp,
        todo: &mut Vec<Action>,
    ) {
        let refuse = |todo: &mut Vec<Action>| {
            let result = ExecResult::Error { message: "the hook is not run".to_owned() };
            todo.extend(seq.map(|seq| Action::FinishExec { seq, result }));
        };
        let Some(instance) = self.find(&id).filter(|instance| matches!(instance.phase, Phase::Running { .. })) else {
            return refuse(todo);
        };
        if instance.hook(kind).is_some() {
            todo.push(Action::Announce(Box::new(instance.record.clone())));
            return refuse(todo);
        }
        *instance.hook(kind) = Some(HookRun { begun: now, ended: None, failure: None });
        instance.asked(cause);
        instance.tell(todo);
        if let Some(seq) = seq {
            todo.push(Action::LaunchExec { seq, id: id.clone() });
            let phase = CommandPhase::Launching { give_up_at: None };
            self.commands.push(Command { seq, id, phase, hook: true });
        }
    }

    /// What a hook leaves undone at the end of its container is not told.
    pub(super) fn hook_done(
        &mut self,
        id: &InstanceId,
        kind: HookKind,
        failure: Option<String>,
        now: Stamp,
        todo: &mut Vec<Action>,
    ) {
        let Some(instance) = self.find(id).filter(|instance| matches!(instance.phase, Phase::Running { .. })) else {
            return;
        };
        if let Some(run) = instance.hook(kind).as_mut().filter(|run| run.ended.is_none()) {
            (run.ended, run.failure) = (Some(now), failure);
            instance.tell(todo);
        }
    }

    pub(super) fn exec(&mut self, seq: u64, id: InstanceId, timeout_ms: u64, now: Stamp, todo: &mut Vec<Action>) {
        let refusal = match self.find(&id).map(|instance| &instance.phase) {
            Some(Phase::Running { .. }) => None,
            Some(Phase::Draining { .. } | Phase::Deleting { .. } | Phase::Cleaning | Phase::Gone) => {
                Some(ExecResult::InstanceEnded)
            }
            Some(Phase::Recording | Phase::Waiting | Phase::Preparing | Phase::Ready | Phase::Launching { .. })
            | None => Some(ExecResult::Error { message: format!("container {} does not run", id.container) }),
        };
        if let Some(result) = refusal {
            todo.push(Action::FinishExec { seq, result });
            return;
        }
        let timeout_ns = i64::try_from(timeout_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let phase = CommandPhase::Launching { give_up_at: Some(now.boot_ns.saturating_add(timeout_ns)) };
        todo.push(Action::LaunchExec { seq, id: id.clone() });
        self.commands.push(Command { seq, id, phase, hook: false });
    }

    pub(super) fn exec_launched(
        &mut self,
        seq: u64,
        result: Result<Process, String>,
        now: Stamp,
        todo: &mut Vec<Action>,
    ) {
        let gone = self.ended_already(&result);
        let Some(index) = self.commands.iter().position(|command| command.seq == seq) else { return };
        let command = &mut self.commands[index];
        let finished = match (&command.phase, result.and_then(|process| present(process, gone)), gone) {
            (CommandPhase::Launching { .. }, Ok(_), Some(ended)) => return self.command_ended(index, ended, now, todo),
            (CommandPhase::Launching { .. }, Err(message), _) => Some(ExecResult::Error { message }),
            (CommandPhase::Launching { give_up_at }, Ok(process), None) => {
                command.phase = CommandPhase::Running { pid: process.pid, give_up_at: *give_up_at };
                return;
            }
            (CommandPhase::Abandoned { .. }, Ok(process), None) => {
                todo.push(Action::KillExec { seq, id: command.id.clone(), pid: Some(process.pid) });
                None
            }
            (CommandPhase::Abandoned { .. } | CommandPhase::Running { .. } | CommandPhase::Struck { .. }, _, _) => None,
        };
        todo.extend(finished.map(|result| Action::FinishExec { seq, result }));
        self.commands.remove(index);
    }

    /// The process of a command has ended. SIGKILL that nobody here has sent comes with the end of its container, most
    /// likely: that is waited for.
    pub(super) fn command_ended(&mut self, index: usize, ended: Ended, now: Stamp, todo: &mut Vec<Action>) {
        let id = self.commands[index].id.clone();
        let runs = |instance: &Instance| instance.record.id == id && matches!(instance.phase, Phase::Running { .. });
        let result = match (ended, self.instances.iter().any(runs)) {
            (Ended::Signaled(SIGKILL), true) => return self.commands[index].strike(now),
            (Ended::Signaled(SIGKILL), false) => ExecResult::InstanceEnded,
            (ended, _) => exec_result(ended),
        };
        let seq = self.commands.remove(index).seq;
        todo.push(Action::FinishExec { seq, result });
    }

    /// The container has ended: commands that run there are being killed with it and will be reaped; one whose runtime is
    /// still at work must not get in afterwards.
    pub(super) fn end_commands(&mut self, id: &InstanceId, now: Stamp, todo: &mut Vec<Action>) {
        let struck = |command: &Command| matches!(command.phase, CommandPhase::Struck { .. }) && command.id == *id;
        let gone = self.commands.extract_if(.., |command| struck(command));
        todo.extend(gone.map(|command| Action::FinishExec { seq: command.seq, result: ExecResult::InstanceEnded }));
        for command in self.commands.iter_mut().filter(|command| command.id == *id) {
            match command.phase {
                CommandPhase::Launching { .. } => {
                    command.abandon(None, ExecResult::InstanceEnded, now, todo);
                }
                CommandPhase::Running { pid, .. } => {
                    todo.push(Action::KillExec { seq: command.seq, id: id.clone(), pid: Some(pid) });
                }
                CommandPhase::Abandoned { .. } | CommandPhase::Struck { .. } => {}
            }
        }
    }

    pub(super) fn abandon_commands(&mut self, now: Stamp, todo: &mut Vec<Action>) {
        self.commands.retain_mut(|command| {
            let result = ExecResult::Error { message: "the agent is gone".to_owned() };
            let pid = match command.phase {
                _ if command.hook => return true,
                CommandPhase::Launching { .. } => None,
                CommandPhase::Running { pid, .. } => Some(pid),
                CommandPhase::Abandoned { .. } => return true,
                CommandPhase::Struck { .. } => {
                    todo.push(Action::FinishExec { seq: command.seq, result });
                    return false;
                }
            };
            command.abandon(pid, result, now, todo)
        });
    }

    /// What is due by the time.
    pub(super) fn tick_commands(&mut self, now: Stamp, todo: &mut Vec<Action>) {
        self.commands.retain_mut(|command| {
            let pid = match &mut command.phase {
                CommandPhase::Launching { give_up_at: Some(at) } if *at <= now.boot_ns => None,
                CommandPhase::Running { pid, give_up_at: Some(at) } if *at <= now.boot_ns => Some(*pid),
                CommandPhase::Launching { .. } | CommandPhase::Running { .. } => return true,
                CommandPhase::Struck { until } if *until <= now.boot_ns => {
                    let result = exec_result(Ended::Signaled(SIGKILL));
                    todo.push(Action::FinishExec { seq: command.seq, result });
                    return false;
                }
                CommandPhase::Struck { .. } => return true,
                CommandPhase::Abandoned { give_up_at } => {
                    if give_up_at.take_if(|at| *at <= now.boot_ns).is_some() {
                        todo.push(Action::KillExec { seq: command.seq, id: command.id.clone(), pid: None });
                    }
                    return true;
                }
            };
            command.abandon(pid, ExecResult::TimedOut, now, todo)
        });
    }
}

fn exec_result(ended: Ended) -> ExecResult {
    match ended {
        Ended::Exited(code) => ExecResult::Exited { code },
        Ended::Signaled(signal) => ExecResult::Exited { code: 128 + signal },
    }
}

impl Command {
    /// When it is to be looked at again.
    pub(super) fn deadline(&self) -> Option<i64> {
        match self.phase {
            CommandPhase::Launching { give_up_at }
            | CommandPhase::Running { give_up_at, .. }
            | CommandPhase::Abandoned { give_up_at } => give_up_at,
            CommandPhase::Struck { until } => Some(until),
        }
    }

    /// Its process, while it runs.
    pub(super) fn pid(&self) -> Option<i32> {
        match self.phase {
            CommandPhase::Running { pid, .. } => Some(pid),
            CommandPhase::Launching { .. } | CommandPhase::Abandoned { .. } | CommandPhase::Struck { .. } => None,
        }
    }

    /// Whether a runtime may be about to name its process.
    pub(super) fn has_runtime(&self) -> bool {
        matches!(self.phase, CommandPhase::Launching { .. } | CommandPhase::Abandoned { .. })
    }

    fn strike(&mut self, now: Stamp) {
        self.phase = CommandPhase::Struck { until: now.boot_ns + END_FOLLOWS_NS };
    }

    /// Answers, and kills its process if it has one. Returns whether it has to be kept: its runtime may still name one.
    fn abandon(&mut self, pid: Option<i32>, result: ExecResult, now: Stamp, todo: &mut Vec<Action>) -> bool {
        if pid.is_some() {
            todo.push(Action::KillExec { seq: self.seq, id: self.id.clone(), pid });
        }
        todo.push(Action::FinishExec { seq: self.seq, result });
        self.phase = CommandPhase::Abandoned { give_up_at: Some(now.boot_ns + LAUNCH_KILL_GRACE_NS) };
        pid.is_none()
    }
}
