//! A job under test: its pods do what the test says, time passes when the test says.

use std::time::Duration;

use super::plan::{Plan, Step};
use super::spec::JobSpec;
use super::state::{JobState, PodEnd, PodSeen, Seen};
use super::{decide, pod_manifest};
use crate::manifest::{Format, Resource, from_value, read};
use crate::pod::spec::PodSpec;
use crate::time::Time;

pub(super) struct Fixture {
    pub(super) spec: JobSpec,
    pub(super) state: JobState,
    pub(super) seen: Seen,
    pub(super) now: Time,
    pub(super) plan: Plan,
    /// `reason` of every notice so far.
    pub(super) told: Vec<String>,
    /// Why pods were removed, so far.
    pub(super) removed: Vec<&'static str>,
}

/// A job with these fields of its spec, in YAML's flow style, and a template with a main, a sidecar and a plain init.
pub(super) fn spec(fields: &str) -> JobSpec {
    let policy = if fields.contains("OnFailure") { "OnFailure" } else { "Never" };
    let fields = fields.replace("OnFailure, ", "");
    let comma = if fields.is_empty() { "" } else { ", " };
    let text = format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: j}}, spec: {{{fields}{comma}template: {{spec: {{restartPolicy: {policy}, \
         containers: [{{name: main, image: i}}], initContainers: [{{name: side, image: i, restartPolicy: Always}}, {{name: init, image: i}}]}}}}}}}}"
    );
    match read(&text, Format::Yaml).unwrap().remove(0) {
        Resource::Job(job) => job.spec.clone(),
        other => panic!("{other:?}"),
    }
}

impl Fixture {
    pub(super) fn new(fields: &str) -> Fixture {
        let (spec, now) = (spec(fields), Time(1_000_000_000_000));
        let state = JobState::new(now);
        let plan = decide(&spec, &state, &Seen::new(), now);
        let mut fixture = Fixture { spec, state, seen: Seen::new(), now, plan, told: vec![], removed: vec![] };
        fixture.decide();
        fixture
    }

    /// Decides, and carries out, until nothing follows any more.
    pub(super) fn decide(&mut self) {
        for _ in 0..20 {
            self.plan = decide(&self.spec, &self.state, &self.seen, self.now);
            self.told.extend(self.plan.notices.iter().map(|notice| notice.reason.clone()));
            let settled = self.plan.state == self.state && self.plan.steps.is_empty();
            self.assert_final();
            self.state = self.plan.state.clone();
            for step in &self.plan.steps {
                match step {
                    Step::Create { serial } => {
                        let pod = &self.state.pods[serial];
                        from_value::<PodSpec>(&pod_manifest(&self.spec, pod)).expect("a job's pod is accepted");
                        let live = PodSeen::Live { ready: false, restarts: 0, deleting: false };
                        assert!(self.seen.insert(pod.name.clone(), live).is_none(), "{} is made twice", pod.name);
                    }
                    Step::Delete { name, why } => {
                        self.removed.push(why);
                        if let Some(PodSeen::Live { deleting, .. }) = self.seen.get_mut(name) {
                            *deleting = true;
                        }
                    }
                }
            }
            if settled {
                return;
            }
        }
        panic!("the decision does not come to rest");
    }

    /// Whoever has nothing to do decides again only when something happens: all that follows has to be in the plan.
    fn assert_final(&self) {
        let again = decide(&self.spec, &self.plan.state, &self.seen, self.now);
        if self.plan.steps.is_empty() {
            let what = |plan: &Plan| (plan.state.clone(), plan.steps.clone(), plan.expired, plan.gone);
            assert_eq!(what(&again), what(&self.plan));
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.decide();
    }

    /// Names of pods that run and are not being removed, by serial number.
    pub(super) fn running(&self) -> Vec<String> {
        let live = |name: &&String| matches!(self.seen.get(*name), Some(PodSeen::Live { deleting: false, .. }));
        self.state.pods.values().map(|pod| &pod.name).filter(live).cloned().collect()
    }

    /// Their indexes.
    pub(super) fn indexes(&self) -> Vec<u32> {
        let running = self.running();
        self.state.pods.values().filter(|pod| running.contains(&pod.name)).filter_map(|pod| pod.index).collect()
    }

    pub(super) fn of_index(&self, index: u32) -> String {
        let mut pods = self.state.pods.values().filter(|pod| pod.index == Some(index));
        pods.next_back().expect("a pod of that index").name.clone()
    }

    pub(super) fn end_of(&self, code: i32) -> PodEnd {
        PodEnd {
            succeeded: code == 0,
            at: self.now,
            stopped: false,
            exits: vec![("init".into(), 0), ("side".into(), 143), ("main".into(), code)],
            conditions: vec![],
        }
    }

    /// A pod ends with this exit code of its main.
    pub(super) fn end(&mut self, name: &str, code: i32) {
        let end = self.end_of(code);
        self.end_with(name, end);
    }

    pub(super) fn end_with(&mut self, name: &str, end: PodEnd) {
        let before = self.seen.insert(name.to_owned(), PodSeen::Ended(end));
        assert!(matches!(before, Some(PodSeen::Live { .. })), "{name} does not run");
        self.decide();
    }

    /// The conditions that are true, each as `TYPE` or `TYPE:REASON`.
    pub(super) fn conditions(&self) -> String {
        let all = self.plan.status.conditions.iter().flatten().filter(|c| c.status == "True");
        all.map(|c| format!("{}:{}", c.type_, c.reason.as_deref().unwrap_or_default())).collect::<Vec<_>>().join(" ")
    }

    /// `active/succeeded/failed`.
    pub(super) fn counts(&self) -> String {
        let status = &self.plan.status;
        let [active, succeeded, failed] = [status.active, status.succeeded, status.failed].map(|n| n.unwrap_or(0));
        format!("{active}/{succeeded}/{failed}")
    }
}
