//! What a worker has tried and run in its containers: probes and hooks, by itself or by the shim.

use std::sync::Arc;

use podwright_core::bundle;
use podwright_core::ledger::Cause;
use podwright_core::pod::observe::{Event, HookKind, Instance, ProbeKind, ProbeOutcome};
use podwright_core::pod::spec::{Hook, Probe, ProbeAction};
use podwright_proto::{ExecResult, Record, Request};
use podwright_sys::error::chain;

use super::tasks::AbortOnDrop;
use super::{PodController, PodEvent, hook};
use crate::controllers::frame::Input;
use crate::node::{probes, records};

impl PodController {
    pub(crate) fn probe(&mut self, container: usize, attempt: u32, kind: ProbeKind) {
        let Some(probe) = self.probe_of(container, kind).cloned() else { return };
        let Some(id) = self.id(container, attempt) else { return };
        if let ProbeAction::Exec { command } = &probe.action {
            let Some(env) = self.machine.spec().containers.get(container).map(|c| &c.env) else { return };
            let command = match bundle::probe_command(command, env) {
                Ok(command) => command,
                Err(error) => {
                    let outcome = ProbeOutcome::Error(error.to_string());
                    self.answered = true;
                    return self.apply(Event::Probed { container, attempt, kind, outcome });
                }
            };
            let seq = self.next_exec;
            self.next_exec += 1;
            let timeout_ms = u64::try_from(probe.timeout.as_millis()).unwrap_or(u64::MAX);
            match self.try_to_say(&Request::Exec { seq, id, command, timeout_ms }) {
                Ok(()) => drop(self.execs.insert(seq, (container, attempt, kind))),
                Err(error) => {
                    self.answered = true;
                    let outcome = ProbeOutcome::Error(chain(&error));
                    self.apply(Event::Probed { container, attempt, kind, outcome });
                }
            }
            return;
        }
        let (pid, address, sender) = (self.network(), self.address(), self.desk.sender.clone());
        let notify = probes::Warn {
            ctx: Arc::clone(&self.desk.ctx),
            document: Arc::clone(self.desk.kept.document()),
            container,
        };
        tokio::spawn(async move {
            let outcome = probes::run(&probe, &address, pid, &notify).await;
            drop(sender.send(Input::Event(PodEvent::Probed { container, attempt, kind, outcome })));
        });
    }

    /// The shim is told of every hook before anything is done, so that none is run twice, whatever becomes of this agent.
    pub(crate) fn hook(&mut self, container: usize, attempt: u32, kind: HookKind, cause: Option<&Cause>) {
        self.begin_hook(container, attempt, kind, cause);
        let spec = self.machine.spec();
        let Some(Hook::HttpGet(get)) = hook::of(spec, container, kind) else { return };
        let target = hook::target(get, self.address());
        let (headers, pid, sender) = (get.headers.clone(), self.network(), self.desk.sender.clone());
        let task = tokio::spawn(async move {
            let failure = probes::hook(target, &headers, pid).await.err();
            drop(sender.send(Input::Event(PodEvent::Hooked { container, attempt, kind, failure })));
        });
        self.hooks.insert((container, attempt, kind), AbortOnDrop(task.abort_handle()));
    }

    fn begin_hook(&self, container: usize, attempt: u32, kind: HookKind, cause: Option<&Cause>) {
        let spec = self.machine.spec();
        let (Some(id), Some(hook)) = (self.id(container, attempt), hook::of(spec, container, kind)) else { return };
        let command = match hook {
            // As it is written: the kubelet expands no hook.
            Hook::Exec { command } => Some(command.clone()),
            Hook::HttpGet(_) | Hook::Sleep(_) | Hook::TcpSocket => None,
        };
        let (kind, cause) = (hook::wire(kind), cause.map(records::wire_cause));
        let request = Request::Hook { id: id.clone(), kind, command, cause: cause.clone() };
        if let Err(error) = self.try_to_say(&request) {
            // As one that failed at once.
            self.say(&Request::Hook { id: id.clone(), kind, command: None, cause });
            self.say(&Request::HookDone { id, kind, failure: Some(chain(&error)) });
        }
    }

    /// Where a probe or hook that names no host finds the pod.
    fn address(&self) -> String {
        match self.desk.ctx.host_ips.first() {
            Some(ip) if self.machine.spec().host_network => ip.clone(),
            _ => "127.0.0.1".to_owned(),
        }
    }

    /// A process in the pod's network; `None`: it is the host's.
    fn network(&self) -> Option<i32> {
        self.sandbox.as_ref().and_then(|s| s.pid).filter(|_| !self.machine.spec().host_network)
    }

    pub(crate) fn exec_done(&mut self, seq: u64, result: &ExecResult, output: &str) {
        let Some((container, attempt, kind)) = self.execs.remove(&seq) else { return };
        let outcome = match result {
            ExecResult::Exited { code: 0 } => ProbeOutcome::Success,
            ExecResult::Exited { code } => failure(format!("command exited with {code}"), output),
            ExecResult::TimedOut => {
                let timeout = self.probe_of(container, kind).map(|p| p.timeout).unwrap_or_default();
                failure(format!("command timed out after {timeout:?}"), output)
            }
            ExecResult::InstanceEnded => ProbeOutcome::Cut,
            ExecResult::Error { message } => ProbeOutcome::Error(message.clone()),
        };
        self.apply(Event::Probed { container, attempt, kind, outcome });
    }

    fn probe_of(&self, container: usize, kind: ProbeKind) -> Option<&Probe> {
        let container = self.machine.spec().containers.get(container)?;
        match kind {
            ProbeKind::Startup => container.startup_probe.as_ref(),
            ProbeKind::Readiness => container.readiness_probe.as_ref(),
            ProbeKind::Liveness => container.liveness_probe.as_ref(),
        }
    }

    pub(crate) fn repeat_hooks(&self, container: usize, instance: &Instance, record: &Record) {
        for (kind, known, told) in [
            (HookKind::PostStart, &instance.post_start, &record.post_start),
            (HookKind::PreStop, &instance.pre_stop, &record.pre_stop),
        ] {
            let Some(known) = known else { continue };
            if told.is_none() {
                self.begin_hook(container, instance.attempt, kind, instance.cause.as_ref());
            }
            let unended = told.as_ref().is_none_or(|run| run.ended.is_none());
            if let (Some(end), true, Some(id)) = (&known.ended, unended, self.id(container, instance.attempt)) {
                self.say(&Request::HookDone { id, kind: hook::wire(kind), failure: end.failure.clone() });
            }
        }
    }
}

fn failure(how: String, output: &str) -> ProbeOutcome {
    ProbeOutcome::Failure(match output.trim_end() {
        "" => how,
        output => format!("{how}: {output}"),
    })
}
