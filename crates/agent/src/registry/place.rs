//! What a name has: at most one object at a time, and what comes after it. Pure.

use podwright_core::manifest::Resource;

use crate::sources::wanted::Wanted;

/// The place of one kind, namespace and name. `R` is what runs, `E` what is kept of what has ended.
#[derive(Debug, Default)]
pub(super) enum Place<R, E> {
    /// Nothing.
    #[default]
    Vacant,
    /// It has a controller and is wanted.
    Live {
        /// Its uid.
        uid: String,
        /// Its controller.
        running: R,
    },
    /// It has a controller and is to go.
    Stopping {
        /// Its uid.
        uid: String,
        /// Its controller.
        running: R,
        /// What comes after it; of several, the newest.
        next: Option<Wanted<Resource>>,
    },
    /// It has come to an end by itself, and is still wanted: listed, with its last status.
    Ended {
        /// Its uid.
        uid: String,
        /// What is kept of it.
        ended: E,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act<E> {
    /// Begin a new run, in what is a vacant place now.
    Begin(Wanted<Resource>),
    /// Tell the controller that the object is written differently now.
    Update(Wanted<Resource>),
    /// The same, for an object that has ended.
    Refresh(Wanted<Resource>),
    /// Tell the controller to remove the object.
    Stop,
    /// What has ended is no longer listed, but kept readable.
    Archive(E),
}

impl<R, E> Place<R, E> {
    /// The uid of the object.
    pub(super) fn uid(&self) -> Option<&str> {
        match self {
            Place::Vacant => None,
            Place::Live { uid, .. } | Place::Stopping { uid, .. } | Place::Ended { uid, .. } => Some(uid),
        }
    }

    /// Its controller.
    pub(super) fn running(&self) -> Option<&R> {
        match self {
            Place::Live { running, .. } | Place::Stopping { running, .. } => Some(running),
            Place::Vacant | Place::Ended { .. } => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn running_mut(&mut self) -> Option<&mut R> {
        match self {
            Place::Live { running, .. } | Place::Stopping { running, .. } => Some(running),
            Place::Vacant | Place::Ended { .. } => None,
        }
    }

    /// What is kept of it, if it has ended.
    pub(super) fn ended_mut(&mut self) -> Option<&mut E> {
        if let Place::Ended { ended, .. } = self { Some(ended) } else { None }
    }

    /// Nothing else of the name is to run any more: what does not stop yet does, and `true` if that is news.
    pub(super) fn stop(&mut self) -> bool {
        match std::mem::take(self) {
            Place::Live { uid, running } => {
                *self = Place::Stopping { uid, running, next: None };
                true
            }
            Place::Stopping { uid, running, .. } => {
                *self = Place::Stopping { uid, running, next: None };
                false
            }
            other => {
                *self = other;
                false
            }
        }
    }

    /// This is to run: something new, or again.
    pub(super) fn want(&mut self, wanted: Wanted<Resource>) -> Vec<Act<E>> {
        let is_it = self.uid() == Some(wanted.object.uid());
        match std::mem::take(self) {
            Place::Live { uid, running } if is_it => {
                *self = Place::Live { uid, running };
                vec![Act::Update(wanted)]
            }
            Place::Live { uid, running } => {
                *self = Place::Stopping { uid, running, next: Some(wanted) };
                vec![Act::Stop]
            }
            Place::Stopping { uid, running, .. } => {
                *self = Place::Stopping { uid, running, next: Some(wanted) };
                vec![]
            }
            Place::Ended { ended, .. } if !is_it => vec![Act::Archive(ended), Act::Begin(wanted)],
            // What is kept of the last run is the next one's.
            Place::Ended { .. } | Place::Vacant => vec![Act::Begin(wanted)],
        }
    }

    /// The same object is written differently, or its file has another name.
    pub(super) fn update(&mut self, wanted: Wanted<Resource>) -> Vec<Act<E>> {
        let of = wanted.object.uid();
        match self {
            Place::Stopping { next: Some(next), .. } if next.object.uid() == of => {
                *next = wanted;
                vec![]
            }
            Place::Live { uid, .. } | Place::Stopping { uid, .. } if uid == of => vec![Act::Update(wanted)],
            Place::Ended { uid, .. } if uid == of => vec![Act::Refresh(wanted)],
            _ => vec![],
        }
    }

    /// Nothing of that name is to run.
    pub(super) fn remove(&mut self) -> Vec<Act<E>> {
        if self.stop() {
            return vec![Act::Stop];
        }
        match std::mem::take(self) {
            Place::Ended { ended, .. } => vec![Act::Archive(ended)],
            other => {
                *self = other;
                vec![]
            }
        }
    }

    /// The controller has come to its end; of a kind whose objects end by themselves `kept` is what is kept of this one.
    pub(super) fn finished(&mut self, kept: Option<E>) -> Vec<Act<E>> {
        match std::mem::take(self) {
            Place::Live { uid, .. } => {
                if let Some(ended) = kept {
                    *self = Place::Ended { uid, ended };
                }
                vec![]
            }
            Place::Stopping { next, .. } => kept.map(Act::Archive).into_iter().chain(next.map(Act::Begin)).collect(),
            other => {
                *self = other;
                vec![]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_core::manifest::{Format, read};
    use podwright_core::objects::FileOrigin;

    /// The same letter is the same uid.
    fn wanted(version: &str) -> Wanted<Resource> {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: a, image: {version}}}]}}}}"
        );
        let file = FileOrigin { file: "f".into(), digest: version.into(), suppressed: false };
        Wanted::from_file(file, read(&text, Format::Yaml).unwrap().remove(0))
    }

    fn digest(wanted: &Wanted<Resource>) -> String {
        wanted.origin.file().unwrap().digest.clone()
    }

    /// Words in, acts out: `+a` want, `~a` update, `-` remove, `.` the controller ends.
    fn check(script: &[(&str, &str)]) {
        let mut place: Place<(), &str> = Place::Vacant;
        for (n, (word, expected)) in script.iter().enumerate() {
            let acts = match word.split_at(1) {
                ("+", v) => place.want(wanted(v)),
                ("~", v) => place.update(wanted(v)),
                ("-", _) => place.remove(),
                _ => place.finished(Some("kept")),
            };
            let mut shown = Vec::new();
            for act in acts {
                shown.push(match act {
                    Act::Begin(w) => {
                        assert!(place.uid().is_none(), "step {n}: {word}");
                        place = Place::Live { uid: w.object.uid().to_owned(), running: () };
                        format!("begin {}", digest(&w))
                    }
                    Act::Update(w) => format!("update {}", digest(&w)),
                    Act::Refresh(w) => format!("refresh {}", digest(&w)),
                    Act::Stop => "stop".into(),
                    Act::Archive(_) => "archive".into(),
                });
            }
            assert_eq!(shown.join(", "), *expected, "step {n}: {word}");
        }
    }

    #[test]
    fn a_pod_comes_and_goes() {
        check(&[("+a", "begin a"), ("-", "stop"), ("-", ""), (".", "archive"), ("+a", "begin a")]);
        check(&[("+a", "begin a"), (".", ""), ("~a", "refresh a"), ("-", "archive")]);
    }

    #[test]
    fn a_changed_one_waits_for_the_old_one_to_be_gone() {
        check(&[("+a", "begin a"), ("+b", "stop"), ("~b", ""), (".", "archive, begin b"), ("~b", "update b")]);
        check(&[("+a", "begin a"), (".", ""), ("+b", "archive, begin b")]);
    }

    #[test]
    fn of_several_that_wait_the_newest_runs() {
        check(&[("+a", "begin a"), ("+b", "stop"), ("+c", ""), (".", "archive, begin c")]);
        check(&[("+a", "begin a"), ("+b", "stop"), ("+a", ""), (".", "archive, begin a")]);
        check(&[("+a", "begin a"), ("+b", "stop"), ("-", ""), (".", "archive")]);
    }

    #[test]
    fn put_back_while_stopping_it_runs_again_afterwards() {
        check(&[("+a", "begin a"), ("-", "stop"), ("+a", ""), (".", "archive, begin a")]);
    }
}
