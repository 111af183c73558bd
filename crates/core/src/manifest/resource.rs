//! Accepted objects of every kind.

use std::sync::Arc;

use serde_json::Value;

use super::problem::Problem;
use crate::cron::spec::CronSpec;
use crate::job::spec::JobSpec;
use crate::objects::Kind;
use crate::pod::spec::PodSpec;

/// An accepted pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What the rest of podwright works with; its `uid` is set.
    pub pod: PodSpec,
    /// What the author wrote, for storing and for the API. [`super::from_value`] reads it back to the same document.
    pub manifest: Value,
    /// Where the object begins in its file.
    pub line: Option<usize>,
    /// What is accepted without having an effect, and why.
    pub notes: Vec<Problem>,
}

/// An accepted job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDocument {
    /// What the rest of podwright works with; its `uid` is set.
    pub job: JobSpec,
    /// As of [`Document`], for [`super::job_from_value`].
    pub manifest: Value,
    /// As of [`Document`].
    pub line: Option<usize>,
    /// As of [`Document`].
    pub notes: Vec<Problem>,
}

/// An accepted cron job.
#[derive(Debug, Clone, PartialEq)]
pub struct CronJobDocument {
    /// What the rest of podwright works with; its `uid` is set.
    pub cron: CronSpec,
    /// As of [`Document`], for [`super::cron_job_from_value`].
    pub manifest: Value,
    /// As of [`Document`].
    pub line: Option<usize>,
    /// As of [`Document`].
    pub notes: Vec<Problem>,
}

/// An accepted object.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Resource {
    Pod(Arc<Document>),
    Job(Arc<JobDocument>),
    CronJob(Arc<CronJobDocument>),
}

impl Resource {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Resource::Pod(_) => Kind::Pod,
            Resource::Job(_) => Kind::Job,
            Resource::CronJob(_) => Kind::CronJob,
        }
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        match self {
            Resource::Pod(object) => &object.pod.namespace,
            Resource::Job(object) => &object.job.namespace,
            Resource::CronJob(object) => &object.cron.namespace,
        }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        match self {
            Resource::Pod(object) => &object.pod.name,
            Resource::Job(object) => &object.job.name,
            Resource::CronJob(object) => &object.cron.name,
        }
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        match self {
            Resource::Pod(object) => &object.pod.uid,
            Resource::Job(object) => &object.job.uid,
            Resource::CronJob(object) => &object.cron.uid,
        }
    }

    /// Where it begins in its file.
    pub fn line(&self) -> Option<usize> {
        match self {
            Resource::Pod(object) => object.line,
            Resource::Job(object) => object.line,
            Resource::CronJob(object) => object.line,
        }
    }

    /// What is accepted without having an effect, and why.
    pub fn notes(&self) -> &[Problem] {
        match self {
            Resource::Pod(object) => &object.notes,
            Resource::Job(object) => &object.notes,
            Resource::CronJob(object) => &object.notes,
        }
    }
}
