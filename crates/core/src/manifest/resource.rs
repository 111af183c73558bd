//! Accepted objects of every kind.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::problem::Problem;
use crate::cron::spec::CronSpec;
use crate::cron::state::CronState;
use crate::job::spec::JobSpec;
use crate::job::state::JobState;
use crate::objects::{DurableState, Kind};
use crate::pod::spec::PodSpec;
use crate::pod::state::PodState;

/// An accepted object.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<S> {
    /// What the rest of podwright works with; its `uid` is set.
    pub spec: S,
    /// What the author wrote, for storing and for the API. [`super::from_value`] reads it back to the same document.
    pub manifest: Value,
    /// Where the object begins in its file.
    pub line: Option<usize>,
    /// What is accepted without having an effect, and why.
    pub notes: Vec<Problem>,
}

/// An accepted pod.
pub type PodDocument = Document<PodSpec>;

/// An accepted job.
pub type JobDocument = Document<JobSpec>;

/// An accepted cron job.
pub type CronJobDocument = Document<CronSpec>;

/// An accepted object of any kind.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Resource {
    Pod(Arc<PodDocument>),
    Job(Arc<JobDocument>),
    CronJob(Arc<CronJobDocument>),
}

/// What objects are told apart by. Those of the same name and another uid are different objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.uid`.
    pub uid: &'a str,
}

/// The specs of all kinds.
pub trait Spec: fmt::Debug + Clone + PartialEq + Send + Sync + Sized + 'static {
    /// Its kind.
    const KIND: Kind;
    /// What is kept of an object besides itself.
    type State: DurableState;
    /// Which object it is of.
    fn names(&self) -> Names<'_>;
    /// As one of all kinds.
    fn wrap(document: Arc<Document<Self>>) -> Resource;
    /// As one of this kind, if it is.
    fn unwrap(resource: Resource) -> Option<Arc<Document<Self>>>;
}

impl Spec for PodSpec {
    const KIND: Kind = Kind::Pod;
    type State = PodState;

    fn names(&self) -> Names<'_> {
        Names { namespace: &self.namespace, name: &self.name, uid: &self.uid }
    }

    fn wrap(document: Arc<PodDocument>) -> Resource {
        Resource::Pod(document)
    }

    fn unwrap(resource: Resource) -> Option<Arc<PodDocument>> {
        if let Resource::Pod(pod) = resource { Some(pod) } else { None }
    }
}

impl Spec for JobSpec {
    const KIND: Kind = Kind::Job;
    type State = JobState;

    fn names(&self) -> Names<'_> {
        Names { namespace: &self.namespace, name: &self.name, uid: &self.uid }
    }

    fn wrap(document: Arc<JobDocument>) -> Resource {
        Resource::Job(document)
    }

    fn unwrap(resource: Resource) -> Option<Arc<JobDocument>> {
        if let Resource::Job(job) = resource { Some(job) } else { None }
    }
}

impl Spec for CronSpec {
    const KIND: Kind = Kind::CronJob;
    type State = CronState;

    fn names(&self) -> Names<'_> {
        Names { namespace: &self.namespace, name: &self.name, uid: &self.uid }
    }

    fn wrap(document: Arc<CronJobDocument>) -> Resource {
        Resource::CronJob(document)
    }

    fn unwrap(resource: Resource) -> Option<Arc<CronJobDocument>> {
        if let Resource::CronJob(cron) = resource { Some(cron) } else { None }
    }
}

impl<S: Spec> Document<S> {
    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.spec.names().uid
    }

    fn common(&self) -> Common<'_> {
        Common {
            kind: S::KIND,
            names: self.spec.names(),
            manifest: &self.manifest,
            line: self.line,
            notes: &self.notes,
        }
    }
}

/// What documents of all kinds have.
struct Common<'a> {
    kind: Kind,
    names: Names<'a>,
    manifest: &'a Value,
    line: Option<usize>,
    notes: &'a [Problem],
}

impl Resource {
    fn common(&self) -> Common<'_> {
        match self {
            Resource::Pod(object) => object.common(),
            Resource::Job(object) => object.common(),
            Resource::CronJob(object) => object.common(),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.common().kind
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        self.common().names.namespace
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.common().names.name
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.common().names.uid
    }

    /// What its author wrote.
    pub fn manifest(&self) -> &Value {
        self.common().manifest
    }

    /// Where it begins in its file.
    pub fn line(&self) -> Option<usize> {
        self.common().line
    }

    /// What is accepted without having an effect, and why.
    pub fn notes(&self) -> &[Problem] {
        self.common().notes
    }
}
