//! What a pod hears of its sandbox.

use podwright_core::pod::observe::Instance;
use podwright_core::pod::observe::{Event, Memo, ProbeOutcome};
use podwright_core::signal;
use podwright_proto::{self as proto, Record, Request};

use super::{Fares, PodController};
use crate::node::records;
use crate::node::sandbox::Word;

pub(super) fn stop_signal(instance: &Instance) -> i32 {
    instance.stop_signal.unwrap_or(signal::SIGTERM)
}

impl PodController {
    pub(super) fn heard(&mut self, number: u32, word: Word) {
        if self.sandbox.as_ref().is_none_or(|s| s.number != number) {
            return;
        }
        match word {
            Word::Up { created_at, pid, instances, memo: _, max_request } => {
                let again = self.sandbox.as_mut().is_some_and(|s| {
                    s.max_request = max_request;
                    s.pid.replace(pid).is_some()
                });
                self.apply(Event::SandboxReady { number, created_at });
                for record in &instances {
                    self.instance(record);
                }
                if again {
                    self.repeat_lost(&instances);
                }
                // Their answers may have been lost with the connection.
                for (_, (container, attempt, kind)) in std::mem::take(&mut self.execs) {
                    self.apply(Event::Probed { container, attempt, kind, outcome: ProbeOutcome::Cut });
                }
                self.measure();
            }
            Word::Said(proto::Event::Instance(record)) => self.instance(&record),
            Word::Said(proto::Event::ExecDone { seq, result, output }) => self.exec_done(seq, &result, &output),
            // The sandbox's task handles these itself.
            Word::Said(proto::Event::State { .. } | proto::Event::Failed { .. }) => {}
            Word::Failed(message) => {
                self.forget_sandbox();
                self.apply(Event::SandboxFailed { number, message });
            }
            Word::Gone(completed) => {
                self.forget_sandbox();
                for record in &completed {
                    self.instance(record);
                }
                self.apply(Event::SandboxGone { number });
            }
        }
    }

    /// After a broken connection: what the shim was told in vain is told again, or counts as not done. Else the machine
    /// would wait for answers that never come.
    fn repeat_lost(&mut self, instances: &[Record]) {
        self.remembered = (Memo::default(), Fares::new());
        let observed = self.machine.observed().clone();
        for (container, known) in observed.containers.iter().enumerate() {
            let number = observed.sandbox.number();
            let Some(newest) = known.instances.last().filter(|n| n.is_live() && n.sandbox == number) else { continue };
            let attempt = newest.attempt;
            if self.preparing.contains_key(&(container, attempt)) {
                continue;
            }
            let Some(id) = self.id(container, attempt) else { continue };
            let Some(record) = instances.iter().find(|r| r.id == id) else {
                let (reason, message) = ("RunContainerError".to_owned(), "the shim never heard of it".to_owned());
                self.apply(Event::StartFailed { container, attempt, reason, message });
                continue;
            };
            self.repeat_hooks(container, newest, record);
            if newest.signaled_at.is_some() && record.signaled.is_none() {
                let cause = newest.cause.as_ref().map(records::wire_cause);
                self.say(&Request::Signal { id: id.clone(), signal: stop_signal(newest), cause });
            }
            if newest.killed_at.is_some() && record.killed.is_none() {
                let cause = newest.cause.as_ref().map(records::wire_cause);
                self.say(&Request::Kill { id, cause });
            }
        }
    }

    fn forget_sandbox(&mut self) {
        self.sandbox = None;
        self.hooks.clear();
        self.preparing.clear();
        self.execs.clear();
        self.remembered = (Memo::default(), Fares::new());
        if let Some(measuring) = self.measuring.take() {
            measuring.abort();
        }
    }

    fn instance(&mut self, record: &Record) {
        if let Some((container, instance)) = records::instance(record, self.machine.spec(), &self.desk.ctx.clock) {
            if let Some(message) = records::refusal(record) {
                let (attempt, reason) = (instance.attempt, "CreateContainerError".to_owned());
                return self.apply(Event::StartFailed { container, attempt, reason, message });
            }
            if !instance.is_live() {
                self.hooks.retain(|(of, attempt, _), _| (*of, *attempt) != (container, instance.attempt));
            }
            self.apply(Event::Instance { container, instance });
        }
    }
}
