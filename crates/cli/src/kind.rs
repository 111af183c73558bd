//! What the program can show: the kinds of objects, and what else the API lists.

use podwright_core::objects;

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Pods,
    Jobs,
    CronJobs,
    Events,
    Files,
}

impl Kind {
    /// The kind of object; `None`: of those it is none.
    fn object(self) -> Option<objects::Kind> {
        match self {
            Kind::Pods => Some(objects::Kind::Pod),
            Kind::Jobs => Some(objects::Kind::Job),
            Kind::CronJobs => Some(objects::Kind::CronJob),
            Kind::Events | Kind::Files => None,
        }
    }

    /// What one of them is called: `pod`.
    pub fn word(self) -> &'static str {
        match (self.object(), self) {
            (Some(kind), _) => kind.singular(),
            (None, Kind::Events) => "event",
            (None, _) => "file",
        }
    }

    /// The API's name of their list, and the path before its namespace.
    pub fn resource(self) -> (&'static str, &'static str) {
        match (self.object(), self) {
            (Some(kind), _) => (kind.plural(), kind.api_path()),
            (None, Kind::Events) => ("events", "/api/v1"),
            (None, _) => ("files", "/apis/podwright.dev/v1"),
        }
    }

    /// The API's kind of one of them.
    pub fn api(self) -> String {
        match (self.object(), self) {
            (Some(kind), _) => kind.to_string(),
            (None, Kind::Events) => "Event".to_owned(),
            (None, _) => "File".to_owned(),
        }
    }

    /// Whether one of them can be named.
    pub fn has_names(self) -> bool {
        self.object().is_some()
    }

    /// By one of the words that users have for it.
    pub fn of_word(word: &str) -> Option<Kind> {
        match word {
            "event" | "events" | "ev" => Some(Kind::Events),
            "file" | "files" => Some(Kind::Files),
            _ => objects::Kind::of_word(word).map(|kind| match kind {
                objects::Kind::Pod => Kind::Pods,
                objects::Kind::Job => Kind::Jobs,
                objects::Kind::CronJob => Kind::CronJobs,
            }),
        }
    }
}
