//! The kinds of objects.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kinds of objects there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum Kind {
    #[default]
    Pod,
    Job,
    CronJob,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::Pod, Kind::Job, Kind::CronJob];

    /// For people: `pod`, `job`, `cronjob`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Pod => "pod",
            Kind::Job => "job",
            Kind::CronJob => "cronjob",
        }
    }

    /// In paths of the API: `pods`, `jobs`, `cronjobs`.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Pod => "pods",
            Kind::Job => "jobs",
            Kind::CronJob => "cronjobs",
        }
    }

    /// The path of the API that the lists of the kind are below.
    pub fn api_path(self) -> &'static str {
        match self {
            Kind::Pod => "/api/v1",
            Kind::Job | Kind::CronJob => "/apis/batch/v1",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Pod => "Pod",
            Kind::Job => "Job",
            Kind::CronJob => "CronJob",
        })
    }
}
