//! What is removed beside the workers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is removed of ended pods: one job after the other, off the agent's thread.
pub(super) struct Removals {
    jobs: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Removals {
    pub(super) fn start() -> Removals {
        let (jobs, mut receiver) = mpsc::unbounded_channel::<Job>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            while let Some(job) = receiver.recv().await {
                if let Err(error) = tokio::spawn(job).await {
                    tracing::error!(%error, "removing an ended pod failed");
                }
                left.fetch_sub(1, Ordering::Relaxed);
            }
        });
        Removals { jobs, waiting, task }
    }

    pub(super) fn add(&self, job: impl Future<Output = ()> + Send + 'static) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The task ends only after `self`.
        let _never = self.jobs.send(Box::pin(job));
    }

    /// Told when everything so far is done, so that a new run does not meet what is written about the last; `None`: it is.
    pub(super) fn settled(&self) -> Option<oneshot::Receiver<()>> {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (done, settled) = oneshot::channel();
        // Whoever waits may have ended with the agent.
        self.add(async move {
            let _ended = done.send(());
        });
        Some(settled)
    }

    pub(super) async fn finish(self) {
        drop(self.jobs);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that removes ended pods failed");
        }
    }
}
