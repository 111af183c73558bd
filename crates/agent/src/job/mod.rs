//! Jobs and cron jobs: their workers, one task each, the only callers of their decisions.
//!
//! [`places`] says which there are, as the manager of the pods does for pods. [`worker`] is a job's: it makes the state that was
//! decided durable, then asks the manager for pods by [`Order`]s and hears of them by [`JobInput`]s. [`cron`] is the same a floor
//! higher: its orders are jobs.

pub(crate) mod cron;
mod cron_publish;
pub(crate) mod disk;
pub(crate) mod places;
mod publish;
pub(crate) mod seen;
pub(crate) mod wall;
mod worker;

pub use places::Stored;

use std::sync::Arc;

use podwright_core::cron::state::{JobSeen, Jobs};
use podwright_core::job::state::{PodSeen, Seen};
use podwright_core::manifest::{CronJobDocument, Document, JobDocument};
use podwright_core::objects::Identity;
use podwright_core::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::source::decide::Claim;

/// A job's pod belongs to its job, a cron job's job to its cron job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

impl Owner {
    /// `metadata.ownerReferences` of what it owns.
    pub fn references(&self, kind: &str) -> Value {
        json!([{"apiVersion": "batch/v1", "kind": kind, "name": self.name, "uid": self.uid,
                "controller": true, "blockOwnerDeletion": true}])
    }
}

/// How something of a file is removed by hand: it stays away until this file, whose bytes have this digest, changes.
pub(crate) type Suppress = Option<(String, String)>;

/// Answered when a request was written for the first time: `Err` is why it is not on disk yet.
pub(crate) type Recorded = oneshot::Sender<Result<(), String>>;

/// What a job's worker is told.
pub(crate) enum JobInput {
    /// The same job as written anew, or in another file.
    Update(Claim<Arc<JobDocument>>),
    /// It is to be removed, with its pods.
    Remove {
        /// By hand, or because its time is over.
        suppress: Suppress,
        /// Told when the request would survive a power cut, or why it does not yet.
        recorded: Option<Recorded>,
    },
    /// What is seen of one of its pods.
    Pod {
        /// Its name.
        name: String,
        /// What is seen.
        seen: PodSeen,
    },
    /// A pod could not be made.
    Refused {
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
    /// Somebody wants to see what it knows.
    Look(oneshot::Sender<JobLook>),
    /// The agent ends; the job goes on.
    Leave,
}

/// What a cron job's worker is told.
pub(crate) enum CronInput {
    /// The same cron job as written anew, or in another file.
    Update(Claim<Arc<CronJobDocument>>),
    /// It is to be removed, with its jobs.
    Remove {
        /// By hand.
        suppress: Suppress,
        /// Told when the request would survive a power cut, or why it does not yet.
        recorded: Option<Recorded>,
    },
    /// What is seen of one of its jobs; `None`: it is gone.
    Job {
        /// Its name.
        name: String,
        /// What is seen.
        seen: Option<JobSeen>,
    },
    /// Somebody wants to see what it knows.
    Look(oneshot::Sender<CronLook>),
    /// The agent ends.
    Leave,
}

/// What a job's worker knows.
pub(crate) struct JobLook {
    /// The job and its state.
    pub(crate) kept: disk::JobKept,
    /// What is seen of its pods.
    pub(crate) seen: Seen,
    /// A pod could not be made: why, and when that is tried again.
    pub(crate) refused: Option<(String, Time)>,
}

/// What a cron job's worker knows.
pub(crate) struct CronLook {
    /// The cron job and its state.
    pub(crate) kept: disk::CronKept,
    /// What is seen of its jobs.
    pub(crate) jobs: Jobs,
    /// A job could not be made: why.
    pub(crate) refused: Option<String>,
}

/// What workers ask of the manager. None of it is lost while the agent lives.
pub(crate) enum Order {
    /// Make a pod, unless it is there.
    CreatePod {
        /// Whose it is.
        owner: Owner,
        /// The pod.
        document: Arc<Document>,
    },
    /// The end of a pod is on disk, which had refused it.
    EndSaved {
        /// Of the pod.
        uid: String,
    },
    /// Stop and remove a pod.
    DeletePod {
        /// Which.
        identity: Identity,
        /// Why its job does not want it any more, for people.
        why: &'static str,
    },
    /// These pods are over, and that is written down in their job: they need not be kept for it.
    Counted {
        /// Whose.
        owner: Owner,
        /// Which.
        pods: Vec<Identity>,
    },
    /// A job's time after its end is over.
    Expired {
        /// Which.
        identity: Identity,
        /// Of the job.
        uid: String,
    },
    /// Make a job, unless it is there. Answered when it would survive a power cut.
    CreateJob {
        /// Whose it is.
        owner: Owner,
        /// The job.
        document: Arc<JobDocument>,
        /// Why not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Remove a job with its pods.
    DeleteJob {
        /// Which.
        identity: Identity,
        /// Told when that would survive a power cut, or why it does not yet.
        recorded: Option<Recorded>,
    },
}
