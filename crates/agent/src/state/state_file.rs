//! What has become of an object: `state.json`.

use std::io;
use std::path::Path;

use podwright_core::objects::DurableState;
use podwright_proto::Stamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{StateError, parse};
use crate::clock::Clock;
use crate::storage::Storage;

/// Version of this file, and of the object's. A field may be added with `#[serde(default)]`; any other change raises it.
pub const VERSION: u32 = 1;
/// Its name.
pub const STATE: &str = "state.json";

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateFile<S> {
    version: u32,
    /// Of the boot in which the state was written.
    boot_id: String,
    /// The zero of the state's moments: they are moved by as much as it is.
    epoch: Stamp,
    state: S,
}

impl<S> StateFile<S> {
    /// By the clock of this agent.
    pub fn now(clock: &Clock, state: S) -> StateFile<S> {
        StateFile { version: VERSION, boot_id: clock.boot_id().to_owned(), epoch: clock.epoch(), state }
    }
}

impl<S: DurableState> StateFile<S> {
    /// The state by this agent's clock.
    pub fn taken_up(mut self, clock: &Clock) -> S {
        self.state.shift(clock.time_of(self.epoch, &self.boot_id).0, clock.now());
        self.state
    }
}

/// What has become of it. The object comes into force with its state, so one without is no fresh one: it has lost it.
pub fn read_state<F: DeserializeOwned>(directory: &Path, storage: &Storage) -> Result<StateFile<F>, StateError> {
    let read = storage.read(&directory.join(STATE)).map_err(StateError::from);
    read.and_then(|bytes| parse(&bytes, VERSION)).map_err(|error| match error {
        StateError::Read(error) if error.kind() == io::ErrorKind::NotFound => StateError::Lost { name: STATE },
        other => StateError::Part { name: STATE, why: Box::new(other) },
    })
}
