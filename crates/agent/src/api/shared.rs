//! What the handlers have at hand.

use std::path::PathBuf;
use std::sync::Arc;

use podwright_core::time::Time;
use tokio::sync::{mpsc, watch as channel};

use super::command::Command;
use crate::status::Store;

/// The agent's clock, the one that its statuses are written by.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// What the API needs of the agent.
#[derive(Clone)]
pub struct Api {
    /// What is shown.
    pub store: Store,
    /// Where commands go.
    pub commands: mpsc::Sender<Command>,
    /// The directory of the pods' logs.
    pub log_dir: PathBuf,
    /// For the age of events.
    pub clock: Clock,
    /// Ends streams, then the server.
    pub closing: Closing,
}

/// Becomes true when the agent stops; so does the loss of its sender.
#[derive(Debug, Clone)]
pub struct Closing(pub channel::Receiver<bool>);

impl Closing {
    /// Returns when the agent stops. Cancel-safe.
    pub async fn wait(&mut self) {
        // An error means that the sender is gone, and with it the agent.
        drop(self.0.wait_for(|closing| *closing).await);
    }
}
