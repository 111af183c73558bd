//! A job as the rest of podwright sees it: accepted, defaulted, every field resolved.
//!
//! Made by [`crate::manifest`] from a `batch/v1` Job.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::indexes::Indexes;
use crate::pod::spec::PodSpec;

/// An accepted job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// `metadata.namespace`, `default` if absent.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Derived from identity and content (see `manifest::uid`).
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `completions`; `None`: any success completes the job (a work queue). Always there when `indexed`.
    pub completions: Option<u32>,
    /// `parallelism`, default 1.
    pub parallelism: u32,
    /// `completionMode: Indexed`.
    pub indexed: bool,
    /// `backoffLimit`: so many failures are borne. Default 6, or without bound with `backoffLimitPerIndex`.
    pub backoff_limit: u32,
    /// `backoffLimitPerIndex`.
    pub backoff_limit_per_index: Option<u32>,
    /// `maxFailedIndexes`.
    pub max_failed_indexes: Option<u32>,
    /// `activeDeadlineSeconds`.
    pub active_deadline: Option<Duration>,
    /// `ttlSecondsAfterFinished`.
    pub ttl: Option<Duration>,
    /// `suspend`.
    pub suspend: bool,
    /// `podFailurePolicy.rules`.
    pub failure_policy: Option<Vec<FailureRule>>,
    /// `successPolicy.rules`.
    pub success_policy: Option<Vec<SuccessRule>>,
    /// `podReplacementPolicy`.
    pub replacement: Replacement,
    /// `template`.
    pub template: Template,
}

/// What a job's pods are made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// `spec.template` as written.
    pub manifest: Value,
    /// The pod that it makes, named after the job: what is true of all of them.
    pub pod: PodSpec,
}

/// When a pod that is being removed is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacement {
    /// At once: it counts as failed as soon as its removal begins.
    TerminatingOrFailed,
    /// Once it has ended.
    Failed,
}

/// An entry of `podFailurePolicy.rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRule {
    /// What follows for the job.
    pub action: Action,
    /// Which failures it is about.
    pub on: On,
}

/// What a failed pod means to its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum Action {
    FailJob,
    FailIndex,
    Ignore,
    Count,
}

/// Which failures a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// `onExitCodes`.
    ExitCodes {
        /// `None`: any main or plain init.
        container: Option<String>,
        /// `operator: In`, else `NotIn`.
        one_of: bool,
        /// `values`.
        codes: Vec<i32>,
    },
    /// `onPodConditions`: type and status; one that matches is enough.
    PodConditions(Vec<(String, String)>),
}

/// An entry of `successPolicy.rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuccessRule {
    /// `succeededIndexes`; `None`: all.
    pub indexes: Option<Indexes>,
    /// `succeededCount`; `None`: all of `indexes`.
    pub count: Option<u32>,
}

impl JobSpec {
    /// Whether `index` is one of the job's.
    pub fn has_index(&self, index: u32) -> bool {
        self.completions.is_some_and(|completions| index < completions)
    }
}
