//! How a worker's pod gets to disk: nothing is started before it is there, and its end is tried again until it is.

use std::sync::Arc;

use podwright_core::pod::observe::Event;
use podwright_core::pod::spec::Role;
use podwright_core::time::Time;
use podwright_sys::durable::Durability;
use tokio::sync::oneshot;

use super::kept::Ended;
use super::pod::{Finished, Input, Worker, status_value};
use super::{leftovers, setup};
use crate::job::Recorded;
use crate::storage;

impl Worker {
    /// Writes what is kept of the pod. Until it is on disk no sandbox is made.
    pub(super) fn save(&mut self, recorded: Option<Recorded>) {
        self.saves += 1;
        self.apply(Event::Saving);
        let (number, sender) = (self.saves, self.sender.clone());
        let mut told = recorded.map(storage::told);
        let listener: storage::Listener = Box::new(move |result| {
            told.iter_mut().for_each(|told| told(result));
            // The worker may have come to its end.
            drop(sender.send(Input::Saved(number, result.map_err(str::to_owned))));
        });
        let ctx = &self.ctx;
        self.kept.keep(&self.paths.file(), &ctx.storage, &ctx.clock, Durability::Synced, Some(listener));
    }

    /// A try of that number's state, or of a newer one, is through.
    pub(super) fn saved(&mut self, number: u64, result: Result<(), String>) {
        match result {
            Ok(()) if number == self.saves => self.apply(Event::Saved),
            Ok(()) => {}
            Err(message) => self.apply(Event::NotSaved { message }),
        }
    }

    /// Takes over what has to be kept, and writes it if something is new.
    pub(super) fn record(&mut self, recorded: Option<Recorded>) {
        self.kept.follow(self.machine.observed());
        self.save(recorded);
    }

    /// The end: what only the pod needed goes, whether or not anything can be written.
    pub(super) async fn finish(mut self, now: Time) -> Finished {
        let status = self.shown.take().map(|(status, _)| status_value(&status)).unwrap_or_default();
        let mains = self.machine.spec().containers.iter().zip(&self.machine.observed().containers);
        let newest = mains.filter(|(c, _)| c.role == Role::Main).filter_map(|(_, known)| known.instances.last());
        let stopped = newest.into_iter().any(|instance| instance.signaled_at.is_some());
        self.kept.ended = Some(Ended { at: now, status, stopped, archived: false });
        let (paths, cgroup) = (self.paths.clone(), setup::pod_cgroup(&self.ctx, self.machine.spec()));
        let clock = Arc::clone(&self.ctx.clock);
        let place = paths.run.clone();
        let cleaned = self.ctx.asides.removals.change(&place, move || {
            let volumes = leftovers::remove(&clock, &paths.volumes());
            let dismantled = setup::dismantle(&clock, &cgroup, &paths);
            (volumes, dismantled.map_err(|error| podwright_sys::error::chain(&error)))
        });
        let (volumes, dismantled) = cleaned.await.unwrap_or_else(|error| (None, Err(error.to_string())));
        leftovers::follow_up(&self.ctx, volumes);
        match dismantled {
            Ok(left) => leftovers::follow_up(&self.ctx, left),
            Err(error) => {
                tracing::error!(uid = self.machine.spec().uid, error, "what is left of an ended pod cannot be removed");
            }
        }
        self.ctx.storage.clear(&self.paths.run);
        let (answer, told) = oneshot::channel();
        let (storage, clock) = (&self.ctx.storage, &self.ctx.clock);
        self.kept.keep(&self.paths.file(), storage, clock, Durability::Synced, Some(storage::told(answer)));
        let saved = matches!(told.await, Ok(Ok(())));
        Finished { kept: self.kept, saved }
    }
}
