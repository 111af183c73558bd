//! What is written and removed beside the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use podwright_sys::durable::Durability;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Context;
use super::kept::Kept;

type Job = Box<dyn FnOnce() + Send>;

/// What is written and removed for ended pods: one job after the other, off the agent's thread.
pub(super) struct Disk {
    jobs: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Disk {
    pub(super) fn start() -> Disk {
        let (jobs, mut receiver) = mpsc::unbounded_channel::<Job>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            while let Some(job) = receiver.recv().await {
                if let Err(error) = tokio::task::spawn_blocking(job).await {
                    tracing::error!(%error, "writing an ended pod's state failed");
                }
                left.fetch_sub(1, Ordering::Relaxed);
            }
        });
        Disk { jobs, waiting, task }
    }

    pub(super) fn add(&self, job: impl FnOnce() + Send + 'static) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The task ends only after `self`.
        let _never = self.jobs.send(Box::new(job));
    }

    pub(super) fn save(&self, ctx: &Arc<Context>, kept: Kept) {
        let ctx = Arc::clone(ctx);
        self.add(move || {
            let path = ctx.paths.pod(&kept.document().pod).file();
            if let Err(error) = kept.write(&path, &ctx.clock, Durability::Synced) {
                tracing::error!(file = %path.display(), error = format!("{error:#}"), "an ended pod's state could not be saved");
            }
        });
    }

    /// Told when everything so far is done, so that a new run does not meet what is written about the last; `None`: it is.
    pub(super) fn settled(&self) -> Option<oneshot::Receiver<()>> {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (done, settled) = oneshot::channel();
        // Whoever waits may have ended with the agent.
        self.add(move || {
            let _ended = done.send(());
        });
        Some(settled)
    }

    pub(super) async fn finish(self) {
        drop(self.jobs);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that saves ended pods' state failed");
        }
    }
}
