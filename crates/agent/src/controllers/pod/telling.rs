//! What a worker tells its pod's shim, and what follows where that cannot be told.

use podwright_core::pod::observe::Event;
use podwright_proto::{InstanceId, Request, StartRequest};

use super::PodController;
use crate::node::sandbox::Untold;
use crate::node::start::Refused;

impl PodController {
    /// Tells the shim about an instance; after its start, if that is still being prepared.
    pub(crate) fn tell_instance(
        &mut self,
        container: usize,
        attempt: u32,
        request: impl FnOnce(InstanceId) -> Request,
    ) {
        let Some(id) = self.id(container, attempt) else { return };
        let request = request(id);
        match self.preparing.get_mut(&(container, attempt)) {
            Some(after) => after.push(request),
            None => self.say(&request),
        }
    }

    /// Tells the shim what it does without, should it be too long for it.
    pub(crate) fn say(&self, request: &Request) {
        if let Err(error) = self.try_to_say(request) {
            let uid = &self.machine.spec().uid;
            tracing::warn!(uid, error = podwright_sys::error::chain(&error), "a shim was not told something");
        }
    }

    /// Tells the shim. To one that is gone there is nothing to say: its end tells what has become of what was asked.
    pub(crate) fn try_to_say(&self, request: &Request) -> Result<(), Untold> {
        self.sandbox.as_ref().map_or(Ok(()), |sandbox| sandbox.say(request))
    }

    pub(crate) fn prepared(
        &mut self,
        container: usize,
        attempt: u32,
        number: u32,
        result: Result<Box<StartRequest>, Refused>,
    ) {
        if self.sandbox.as_ref().is_none_or(|s| s.number != number) {
            return;
        }
        let Some(after) = self.preparing.remove(&(container, attempt)) else { return };
        let told = result.and_then(|request| {
            let refused =
                |error: Untold| Refused { reason: "StartError", message: podwright_sys::error::chain(&error) };
            self.try_to_say(&Request::Start(request)).map_err(refused)
        });
        match told {
            Ok(()) => after.iter().for_each(|request| self.say(request)),
            Err(Refused { reason, message }) => {
                self.apply(Event::StartFailed { container, attempt, reason: reason.to_owned(), message });
            }
        }
    }
}
