//! The disk of the node: what is on it, and windows in which it takes no writes.
//!
//! A shim tries its records again until they are written and does not leave before, but for a pod that is removed: then the
//! agent takes them over. What only the agent knew goes with it, and what only a shim knew that the agent never heard of.

use std::time::Duration;

use super::check::Violation;
use super::node::{Due, Pod, Shim, What, keys};
use super::world::World;
use crate::ledger::Outcome;
use crate::pod::observe::{Event, Instance, InstanceState, Observed};
use crate::time::Time;

/// How long the shim of a removed pod waits before the agent takes its records over.
const TAKE_OVER: Duration = Duration::from_secs(3);
/// A removal takes no longer than its grace and this, whatever the disk does.
const REMOVAL_LIMIT: Duration = Duration::from_secs(60);

/// Nobody knows how it ended.
fn lost(instance: &Instance, now: Time) -> Instance {
    let (started_at, finished_at) = match instance.state {
        InstanceState::Running { started_at } => (Some(started_at), now),
        InstanceState::Ended { started_at, finished_at, .. } => (started_at, finished_at),
        InstanceState::Starting => (None, now),
    };
    let state = InstanceState::Ended { started_at, finished_at, outcome: Outcome::Lost };
    Instance { state, ..instance.clone() }
}

fn runs_in(shim: &Shim, instance: &Instance) -> bool {
    shim.sandbox.is_some_and(|(number, _)| number == instance.sandbox)
}

impl World {
    /// The disk takes no writes for a while.
    pub fn fill_disk_after(&mut self, delay: Duration, length: Duration) {
        if delay.is_zero() {
            self.disk_full();
        } else {
            self.after(delay, 0, Due::DiskFull);
        }
        self.after(delay + length, 0, Due::DiskFree);
    }

    pub(super) fn disk_full(&mut self) {
        self.full = true;
        self.record(0, What::DiskFull);
    }

    pub(super) fn disk_free(&mut self) -> Result<(), Violation> {
        let checks = (0..self.pods.len())
            .try_for_each(|p| self.checks.removal_went_on(&self.pods[p], p, self.now, REMOVAL_LIMIT));
        checks?;
        self.full = false;
        self.record(0, What::DiskFree);
        (0..self.pods.len()).for_each(|p| self.sync(p));
        Ok(())
    }

    /// Writes what there is to write, if somebody is there who knows it.
    pub(super) fn sync(&mut self, p: usize) {
        if self.full {
            return;
        }
        let (agent_up, pod) = (self.agent_up, &mut self.pods[p]);
        pod.disk.end_saved |= agent_up && pod.finished.is_some();
        let writes: Vec<_> = keys(&pod.shim)
            .filter(|(key, i)| runs_in(&pod.shim, i) || pod.disk.held.contains(key))
            .map(|(key, i)| (key, i.clone()))
            .collect();
        for (key, instance) in writes {
            pod.disk.held.remove(&key);
            pod.disk.records.insert(key, instance);
        }
    }

    /// The agent writes what it keeps of a pod, now and until it is written.
    pub(super) fn save(&mut self, p: usize) {
        let (now, full, epoch) = (self.now, self.full, self.epoch);
        let pod = &mut self.pods[p];
        let Some(machine) = &mut pod.machine else { return };
        if full {
            machine.apply(Event::NotSaved { message: "disk full".to_owned() }, now);
            return self.after(Duration::from_secs(1), p, Due::Save { epoch });
        }
        pod.disk.kept = Some(machine.observed().clone());
        machine.apply(Event::Saved, now);
    }

    /// Whether what is kept of a pod is on disk as it is.
    pub(super) fn is_saved(&self, p: usize) -> bool {
        let pod = &self.pods[p];
        let same = |a: &Observed, b: &Observed| {
            (a.accepted_at, a.first_sandbox, a.restart_below, &a.deletion)
                == (b.accepted_at, b.first_sandbox, b.restart_below, &b.deletion)
        };
        let now = pod.machine.as_ref().map(|machine| machine.observed());
        now.zip(pod.disk.kept.as_ref()).is_some_and(|(now, kept)| same(now, kept))
    }

    /// Whether a shim that was told to leave has to stay: it is the only one that knows of an end.
    pub(super) fn has_to_stay(&mut self, p: usize) -> bool {
        self.sync(p);
        let (now, agent_up) = (self.now, self.agent_up);
        let deleted = self.checks.is_deleted(p);
        let pod = &mut self.pods[p];
        if !keys(&pod.shim).any(|(key, i)| runs_in(&pod.shim, i) && !pod.disk.has(key, i)) {
            return false;
        }
        let since = *pod.disk.leaving_since.get_or_insert(now);
        !(deleted && agent_up && since + TAKE_OVER <= now)
    }

    /// The shim is gone: what it has told is the agent's to write; without an agent it is known to nobody.
    pub(super) fn shim_has_gone(&mut self, p: usize, number: u32) {
        let (now, agent_up) = (self.now, self.agent_up);
        let Pod { shim, disk, .. } = &mut self.pods[p];
        disk.leaving_since = None;
        for (c, records) in shim.records.iter_mut().enumerate() {
            for instance in records.iter_mut().filter(|i| i.sandbox == number) {
                let key = (c, instance.attempt);
                if disk.has(key, instance) {
                    continue;
                }
                if agent_up {
                    disk.held.insert(key);
                } else {
                    *instance = lost(instance, now);
                }
            }
        }
    }

    /// What only the agent knew goes with it: the shim was lost, or had to go with its removed pod, and the disk took nothing.
    pub(super) fn agent_has_gone(&mut self) {
        let now = self.now;
        for Pod { shim, disk, finished, machine, phase, .. } in &mut self.pods {
            *machine = None;
            for (c, attempt) in std::mem::take(&mut disk.held) {
                for instance in shim.records[c].iter_mut().filter(|i| i.attempt == attempt) {
                    *instance = lost(instance, now);
                    phase.clear();
                }
            }
            if !disk.end_saved {
                *finished = None;
            }
        }
    }

    /// What a new agent finds of a pod: its file, and the instances that a shim or the disk tells of. Those that nobody saw
    /// the end of are lost. A pod without a file begins anew.
    pub(super) fn found(&mut self, p: usize) -> Observed {
        let now = self.now;
        let Pod { spec, shim, disk, .. } = &mut self.pods[p];
        let accepted_at = disk.kept.as_ref().map_or(now, |kept| kept.accepted_at);
        let mut observed = Observed::new(accepted_at, spec.containers.len());
        if let Some(kept) = &disk.kept {
            observed.first_sandbox = kept.first_sandbox;
            observed.restart_below = kept.restart_below;
            observed.restart_at = kept.restart_at;
            observed.deletion.clone_from(&kept.deletion);
        }
        let alive = shim.sandbox.map(|(number, _)| number);
        for (c, records) in shim.records.iter_mut().enumerate() {
            for instance in records.iter_mut().filter(|i| Some(i.sandbox) != alive) {
                let key = (c, instance.attempt);
                match disk.records.get(&key) {
                    Some(on_disk) if !on_disk.is_live() => *instance = on_disk.clone(),
                    _ => {
                        *instance = lost(instance, now);
                        disk.held.insert(key);
                    }
                }
            }
            observed.containers[c].instances.clone_from(records);
        }
        observed
    }
}
