//! The kinds of objects: one row of [`ROWS`] each.

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

/// What is known of a kind besides the form of its objects. Its strings are those of a Kubernetes APIResource.
struct Row {
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares it with the place of the row"))]
    kind: Kind,
    name: &'static str,
    api_version: &'static str,
    api_path: &'static str,
    singular: &'static str,
    plural: &'static str,
    resource: &'static str,
    short_names: &'static [&'static str],
    selectable: &'static [&'static str],
    owner: Option<Kind>,
}

/// Fields of any object that a field selector may name.
const OF_METADATA: &[&str] = &["metadata.name", "metadata.namespace", "metadata.uid"];

/// In the order of [`Kind`].
static ROWS: [Row; 3] = [
    Row {
        kind: Kind::Pod,
        name: "Pod",
        api_version: "v1",
        api_path: "/api/v1",
        singular: "pod",
        plural: "pods",
        resource: "pods",
        short_names: &["po"],
        // Kubernetes' own set, as far as podwright has the fields.
        selectable: &[
            "metadata.name",
            "metadata.namespace",
            "metadata.uid",
            "spec.nodeName",
            "spec.restartPolicy",
            "status.phase",
            "status.podIP",
        ],
        owner: Some(Kind::Job),
    },
    Row {
        kind: Kind::Job,
        name: "Job",
        api_version: "batch/v1",
        api_path: "/apis/batch/v1",
        singular: "job",
        plural: "jobs",
        resource: "jobs.batch",
        short_names: &[],
        selectable: OF_METADATA,
        owner: Some(Kind::CronJob),
    },
    Row {
        kind: Kind::CronJob,
        name: "CronJob",
        api_version: "batch/v1",
        api_path: "/apis/batch/v1",
        singular: "cronjob",
        plural: "cronjobs",
        resource: "cronjobs.batch",
        short_names: &["cj"],
        selectable: OF_METADATA,
        owner: None,
    },
];

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; ROWS.len()] = [Kind::Pod, Kind::Job, Kind::CronJob];

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// By `apiVersion` and `kind`.
    pub fn of(api_version: &str, name: &str) -> Option<Kind> {
        Kind::named(name).filter(|kind| kind.api_version() == api_version)
    }

    /// By `kind` alone.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// By a word that users have for it: `cronjob`, `cronjobs`, `cj`, `cronjobs.batch`, `cronjob.batch`.
    pub fn of_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| {
            let row = kind.row();
            let group = row.resource.strip_prefix(row.plural);
            [row.singular, row.plural]
                .into_iter()
                .any(|name| word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || Some(rest) == group))
                || row.short_names.contains(&word)
        })
    }

    /// `kind`: `CronJob`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// `apiVersion`: `batch/v1`.
    pub fn api_version(self) -> &'static str {
        self.row().api_version
    }

    /// For people: `cronjob`.
    pub fn singular(self) -> &'static str {
        self.row().singular
    }

    /// In paths of the API, and of the state directory: `cronjobs`.
    pub fn plural(self) -> &'static str {
        self.row().plural
    }

    /// With its group, as the API's messages name it: `cronjobs.batch`.
    pub fn resource(self) -> &'static str {
        self.row().resource
    }

    /// The path of the API that the lists of the kind are below.
    pub fn api_path(self) -> &'static str {
        self.row().api_path
    }

    /// Dotted paths of what a field selector may name.
    pub fn selectable(self) -> &'static [&'static str] {
        self.row().selectable
    }

    /// The kind whose objects make objects of this one.
    pub fn owner(self) -> Option<Kind> {
        self.row().owner
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_row_and_is_found_by_each_of_its_words() {
        for kind in Kind::ALL {
            assert_eq!(kind.row().kind, kind);
            assert_eq!(Kind::of(kind.api_version(), kind.name()), Some(kind));
            let row = kind.row();
            let words = [row.singular, row.plural, row.resource].into_iter().chain(row.short_names.iter().copied());
            for word in words {
                assert_eq!(Kind::of_word(word), Some(kind), "{word}");
            }
        }
        for (word, kind) in [("cronjob.batch", Kind::CronJob), ("job.batch", Kind::Job)] {
            assert_eq!(Kind::of_word(word), Some(kind), "{word}");
        }
        for word in ["", "p", "podss", "jobs.apps", "pods.", "CronJob"] {
            assert_eq!(Kind::of_word(word), None, "{word}");
        }
        assert_eq!(Kind::of("v1", "Job"), None);
    }
}
