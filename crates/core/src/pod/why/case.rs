//! What is known of a pod that is to be explained.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::Value;

use super::super::observe::Observed;
use super::super::spec::PodSpec;
use super::super::view::NodePolicy;
use crate::ledger::{Cause, Entry};
use crate::time::Time;

/// All that an explanation is made from.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The pod.
    pub spec: &'a PodSpec,
    /// The node's settings.
    pub policy: &'a NodePolicy,
    /// What is known of it.
    pub observed: &'a Observed,
    /// Its status now; of a pod that is over, the last one.
    pub status: &'a PodStatus,
    /// Whether it is over: it will never do anything again.
    pub over: bool,
    /// Its records, of each container the oldest first.
    pub entries: &'a [Entry],
    /// The manifest as its author wrote it.
    pub manifest: &'a Value,
    /// The newest earlier pod of that name of which a container ran well.
    pub earlier: Option<Revision<'a>>,
    /// What is wrong with the file that it comes from: then it runs by an older content of it.
    pub file_problems: &'a [String],
    /// That file.
    pub file: &'a str,
    /// The job that made it.
    pub job: Option<Job<'a>>,
    /// What of it cannot be written to disk now, a sentence each.
    pub unwritten: &'a [String],
    /// The boot now.
    pub boot_id: &'a str,
    /// Now.
    pub now: Time,
}

/// What a pod belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// What it says of itself.
    pub says: &'a JobSays,
}

/// What the job of a pod says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobSays {
    /// It is gone.
    Gone,
    /// It is the one that asks about its pod.
    Asks,
    /// In one sentence.
    Says(String),
}

impl Case<'_> {
    /// Who removed it, if somebody did.
    pub(super) fn removed_by(&self) -> Option<&Cause> {
        self.observed.deletion.as_ref().map(|deletion| &deletion.cause)
    }
}

/// An earlier pod of the same name, or of the same job.
#[derive(Debug, Clone)]
pub struct Revision<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its manifest.
    pub manifest: &'a Value,
    /// Its records.
    pub entries: &'a [Entry],
}
