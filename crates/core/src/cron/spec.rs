//! A cron job as the rest of podwright sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::schedule::Schedule;
use crate::job::spec::JobSpec;

/// An accepted cron job.
#[derive(Debug, Clone, PartialEq)]
pub struct CronSpec {
    /// `metadata.namespace`, `default` if absent.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Derived from namespace and name alone: an edit applies to later runs of the same cron job.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `schedule`.
    pub schedule: Schedule,
    /// `timeZone`; `None`: the node's.
    pub time_zone: Option<TimeZone>,
    /// `concurrencyPolicy`.
    pub concurrency: Concurrency,
    /// `startingDeadlineSeconds`.
    pub starting_deadline: Option<Duration>,
    /// `suspend`.
    pub suspend: bool,
    /// `successfulJobsHistoryLimit`, default 3.
    pub successful_limit: usize,
    /// `failedJobsHistoryLimit`, default 1.
    pub failed_limit: usize,
    /// The annotation `podwright.dev/catch-up`.
    pub catch_up: CatchUp,
    /// `jobTemplate`.
    pub template: JobTemplate,
}

/// What a cron job's jobs are made from.
#[derive(Debug, Clone, PartialEq)]
pub struct JobTemplate {
    /// `spec.jobTemplate` as written: `metadata` and `spec`.
    pub manifest: Value,
    /// The job that it makes, named after the cron job.
    pub job: JobSpec,
}

/// `concurrencyPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Jobs run beside each other.
    Allow,
    /// A run waits for the one before, as long as its deadline lets it.
    Forbid,
    /// A run takes the place of the one before.
    Replace,
}

/// Which of the runs that were missed are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// None of them.
    None,
    /// The last one.
    Latest,
    /// All of them, one after the other.
    All,
}
