//! Which pod, or job, of a name runs, which waits: at most one at a time. Pure.

use std::sync::Arc;

use podwright_core::manifest::{CronJobDocument, Document, JobDocument};

use crate::source::decide::Claim;

/// What a slot tells objects apart by.
pub(crate) trait HasUid {
    /// `metadata.uid`.
    fn uid(&self) -> &str;
}

impl HasUid for Arc<Document> {
    fn uid(&self) -> &str {
        &self.pod.uid
    }
}

impl HasUid for Arc<JobDocument> {
    fn uid(&self) -> &str {
        &self.job.uid
    }
}

impl HasUid for Arc<CronJobDocument> {
    fn uid(&self) -> &str {
        &self.cron.uid
    }
}

/// Where the present pod of a name is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has a worker and is wanted.
    Live,
    /// It has a worker and is to go.
    Stopping,
    /// It has come to an end by itself, and is still wanted: listed, with its last status.
    Ended,
}

/// The place of one namespace and name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot<T = Arc<Document>> {
    /// The present pod: its uid.
    pub(crate) current: Option<(String, Stage)>,
    /// What comes after it; of several, the newest.
    pub(crate) next: Option<Claim<T>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot { current: None, next: None }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act<T = Arc<Document>> {
    /// Start a worker for a new run.
    Begin(Claim<T>),
    /// Tell the worker that the pod is written differently now.
    Update(Claim<T>),
    /// The same, for a pod that has ended.
    Refresh(Claim<T>),
    /// Tell the worker to stop the pod.
    Stop,
    /// What has ended is no longer listed, but kept readable.
    Archive,
}

impl<T: HasUid> Slot<T> {
    /// This is to run: something new, or again.
    pub(crate) fn want(&mut self, claim: Claim<T>) -> Vec<Act<T>> {
        let uid = claim.object.uid().to_owned();
        match &mut self.current {
            Some((current, Stage::Live)) if *current == uid => vec![Act::Update(claim)],
            Some((_, stage @ Stage::Live)) => {
                *stage = Stage::Stopping;
                self.next = Some(claim);
                vec![Act::Stop]
            }
            Some((_, Stage::Stopping)) => {
                self.next = Some(claim);
                vec![]
            }
            Some((current, Stage::Ended)) if *current != uid => {
                self.current = Some((uid, Stage::Live));
                vec![Act::Archive, Act::Begin(claim)]
            }
            Some((_, Stage::Ended)) | None => {
                self.current = Some((uid, Stage::Live));
                vec![Act::Begin(claim)]
            }
        }
    }

    /// The same pod is written differently, or its file has another name.
    pub(crate) fn update(&mut self, claim: Claim<T>) -> Vec<Act<T>> {
        if self.next.as_ref().is_some_and(|next| next.object.uid() == claim.object.uid()) {
            self.next = Some(claim);
            return vec![];
        }
        match &self.current {
            Some((uid, stage)) if uid == claim.object.uid() => match stage {
                Stage::Live | Stage::Stopping => vec![Act::Update(claim)],
                Stage::Ended => vec![Act::Refresh(claim)],
            },
            _ => vec![],
        }
    }

    /// Nothing of that name is to run.
    pub(crate) fn remove(&mut self) -> Vec<Act<T>> {
        self.next = None;
        match &mut self.current {
            Some((_, stage @ Stage::Live)) => {
                *stage = Stage::Stopping;
                vec![Act::Stop]
            }
            Some((_, Stage::Ended)) => {
                self.current = None;
                vec![Act::Archive]
            }
            Some((_, Stage::Stopping)) | None => vec![],
        }
    }

    /// The worker has come to its end.
    pub(crate) fn finished(&mut self) -> Vec<Act<T>> {
        match &mut self.current {
            Some((_, stage @ Stage::Live)) => {
                *stage = Stage::Ended;
                vec![]
            }
            Some((_, Stage::Stopping)) => {
                self.current = None;
                let mut acts = vec![Act::Archive];
                if let Some(next) = self.next.take() {
                    acts.extend(self.want(next));
                }
                acts
            }
            Some((_, Stage::Ended)) | None => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_core::manifest::{Format, parse};

    /// The same letter is the same uid.
    fn claim(version: &str) -> Claim {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: a, image: {version}}}]}}}}"
        );
        let object = Arc::new(parse(&text, Format::Yaml).unwrap().remove(0));
        Claim { file: "f".into(), digest: version.into(), object, suppressed: false }
    }

    /// Words in, acts out: `+a` want, `~a` update, `-` remove, `.` the worker ends.
    fn check(script: &[(&str, &str)]) {
        let mut slot: Slot = Slot::default();
        for (n, (word, expected)) in script.iter().enumerate() {
            let acts = match word.split_at(1) {
                ("+", v) => slot.want(claim(v)),
                ("~", v) => slot.update(claim(v)),
                ("-", _) => slot.remove(),
                _ => slot.finished(),
            };
            let shown: Vec<String> = acts
                .iter()
                .map(|act| match act {
                    Act::Begin(c) => format!("begin {}", c.digest),
                    Act::Update(c) => format!("update {}", c.digest),
                    Act::Refresh(c) => format!("refresh {}", c.digest),
                    Act::Stop => "stop".into(),
                    Act::Archive => "archive".into(),
                })
                .collect();
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
