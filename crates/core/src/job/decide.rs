//! The decision: what has been achieved, how the job ends, which pods are made and removed.

use super::plan::{Notice, Plan, Step};
use super::spec::{JobSpec, Replacement};
use super::state::{IndexFailures, JobPod, JobState, PodSeen, Seen, Verdict, delay};
use super::{conditions, count, policy, status, template};
use crate::pod::spec::RestartPolicy;
use crate::time::Time;

/// Most pods made by one decision, as of the job controller: the rest follows.
const MOST_AT_ONCE: u32 = 500;

/// Decides for one job at one moment. Pure; deciding again with the state that comes out gives the same steps until `seen`
/// shows that they were carried out.
pub fn decide(spec: &JobSpec, before: &JobState, seen: &Seen, now: Time) -> Plan {
    let mut turn = Turn { spec, seen, now, state: before.clone(), steps: vec![], notices: vec![], wake_at: None };
    let failed_by_policy = count::count(spec, &mut turn.state, seen, now);
    let (mut expired, mut gone) = (false, false);
    if turn.state.removal_at.is_some() {
        turn.remove_all();
        gone = turn.state.pods.is_empty();
    } else if turn.state.finished_at.is_some() {
        expired = turn.is_expired();
    } else {
        turn.start();
        turn.judge(failed_by_policy);
        if turn.state.verdict.is_some() {
            turn.wind_up();
            expired = turn.is_expired();
        } else {
            turn.manage();
        }
    }
    turn.create_missing();
    let status = status(spec, &turn.state, seen);
    let Turn { state, steps, notices, wake_at, .. } = turn;
    Plan { state, steps, status, wake_at, notices, expired, gone }
}

/// What a job that is not over has, wants and waits for, by the rules of [`decide()`].
pub(super) struct Outlook {
    /// Pods that count as active, by serial number.
    pub(super) active: Vec<u64>,
    /// Others that are not over: they are on their way out.
    pub(super) terminating: u32,
    /// So many active ones are wanted.
    pub(super) wanted: u32,
    /// Before this no pod is made, since one has failed.
    pub(super) back_off: Option<Time>,
    /// The same of single indexes, with `backoffLimitPerIndex`.
    pub(super) index_back_off: Vec<(u32, Time)>,
    /// When `activeDeadlineSeconds` are over.
    pub(super) deadline: Option<Time>,
}

/// Looks, and decides nothing.
pub(super) fn outlook(spec: &JobSpec, state: &JobState, seen: &Seen, now: Time) -> Outlook {
    let turn = Turn { spec, seen, now, state: state.clone(), steps: vec![], notices: vec![], wake_at: None };
    let (active, terminating) = turn.active();
    let wanted = if spec.suspend { 0 } else { turn.wanted(active.len()) };
    let open = |index: &u32| spec.has_index(*index) && !turn.is_settled(*index);
    let waits = |index: &u32| turn.index_back_off(*index).map(|at| (*index, at));
    let index_back_off = state.index_failures.keys().filter(|i| open(i)).filter_map(waits).collect();
    Outlook { active, terminating, wanted, back_off: turn.back_off(), index_back_off, deadline: turn.deadline() }
}

struct Turn<'a> {
    spec: &'a JobSpec,
    seen: &'a Seen,
    now: Time,
    state: JobState,
    steps: Vec<Step>,
    notices: Vec<Notice>,
    wake_at: Option<Time>,
}

impl Turn<'_> {
    fn wake(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |wake| wake.min(at)));
    }

    fn is_expired(&mut self) -> bool {
        let (Some(ttl), Some(finished)) = (self.spec.ttl, self.state.finished_at) else { return false };
        let at = finished + ttl;
        if at > self.now {
            self.wake(at);
        }
        at <= self.now
    }

    /// The clock of the deadline runs, unless the job is suspended; it is told when that changes.
    fn start(&mut self) {
        let suspended = self.spec.suspend;
        let was = self.state.suspended.map(|(value, _)| value);
        if suspended && was != Some(true) {
            self.state.suspended = Some((true, self.now));
            self.notices.push(Notice::normal("Suspended", "Job suspended"));
        } else if !suspended && was == Some(true) {
            self.state.suspended = Some((false, self.now));
            self.state.started_at = Some(self.now);
            self.notices.push(Notice::normal("Resumed", "Job resumed"));
        }
        if !suspended {
            self.state.started_at.get_or_insert(self.now);
        }
    }

    /// Settles how the job ends, once that is certain. In the order in which the job controller asks.
    fn judge(&mut self, failed_by_policy: Option<String>) {
        if self.state.verdict.is_some() {
            return;
        }
        let failure = |reason: &str, message: String| Some((false, reason.to_owned(), message));
        let verdict = failed_by_policy
            .and_then(|message| failure("PodFailurePolicy", message))
            .or_else(|| {
                let message = "Job has reached the specified backoff limit".to_owned();
                self.is_past_limit().then(|| failure("BackoffLimitExceeded", message)).flatten()
            })
            .or_else(|| {
                let message = "Job was active longer than specified deadline".to_owned();
                self.is_past_deadline().then(|| failure("DeadlineExceeded", message)).flatten()
            })
            .or_else(|| self.failed_indexes())
            .or_else(|| {
                let rules = self.spec.success_policy.as_deref()?;
                let n = policy::success(rules, &self.achieved())?;
                Some((true, "SuccessPolicy".to_owned(), format!("Matched rules at index {n}")))
            })
            .or_else(|| {
                let message = "Reached expected number of succeeded pods".to_owned();
                self.is_complete().then(|| (true, "CompletionsReached".to_owned(), message))
            });
        if let Some((success, reason, message)) = verdict {
            self.state.verdict = Some(Verdict { success, reason, message, at: self.now });
        }
    }

    /// Completed indexes that are still the job's.
    fn achieved(&self) -> super::indexes::Indexes {
        self.state.completed.below(self.spec.completions.unwrap_or(0))
    }

    fn succeeded(&self) -> u32 {
        status::succeeded(self.spec, &self.state)
    }

    fn is_past_limit(&self) -> bool {
        let limit = self.spec.backoff_limit;
        // Restarts in place count as well, but only those of pods that are not over.
        let restarts = match self.spec.template.pod.restart_policy {
            RestartPolicy::OnFailure => self.uncounted().map(|(_, seen)| restarts(seen)).sum::<u32>(),
            RestartPolicy::Always | RestartPolicy::Never => 0,
        };
        self.state.failed > limit || restarts > 0 && restarts >= limit
    }

    fn is_past_deadline(&mut self) -> bool {
        let Some(at) = self.deadline() else { return false };
        if at > self.now {
            self.wake(at);
        }
        at <= self.now
    }

    fn deadline(&self) -> Option<Time> {
        let started = self.state.started_at.filter(|_| !self.spec.suspend)?;
        Some(started + self.spec.active_deadline?)
    }

    fn failed_indexes(&self) -> Option<(bool, String, String)> {
        self.spec.backoff_limit_per_index?;
        let failed = self.state.failed_indexes.below(self.spec.completions?).len();
        if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some((false, "MaxFailedIndexesExceeded".to_owned(), message.to_owned()));
        }
        let all_settled = self.succeeded() + failed >= self.spec.completions?;
        (failed > 0 && all_settled).then(|| (false, "FailedIndexes".to_owned(), "Job has failed indexes".to_owned()))
    }

    fn is_complete(&self) -> bool {
        let quiet = self.uncounted().all(|(pod, _)| pod.removing);
        quiet && self.spec.completions.map_or(self.succeeded() > 0, |wanted| self.succeeded() >= wanted)
    }

    /// Pods that are not over and not counted yet.
    fn uncounted(&self) -> impl Iterator<Item = (&JobPod, Option<&PodSeen>)> {
        self.state.pods.values().filter(|pod| !pod.counted).map(|pod| (pod, self.seen.get(&pod.name)))
    }

    /// How it ends is settled: all that still runs is removed, and when it is gone, the job is over.
    fn wind_up(&mut self) {
        let success = self.state.verdict.as_ref().is_some_and(|v| v.success);
        for pod in self.state.pods.values_mut().filter(|pod| !pod.counted && !pod.removing) {
            // Of a job that fails they count, once it is known how they ended.
            pod.removing = success;
        }
        self.delete_all();
        if self.state.pods.is_empty() {
            self.state.finished_at = Some(self.now);
            self.notices.extend(self.state.verdict.as_ref().map(conditions::notice));
        }
    }

    fn remove_all(&mut self) {
        self.state.pods.values_mut().for_each(|pod| pod.removing = true);
        self.delete_all();
    }

    /// A pod that does not exist yet need not be made for that.
    fn delete_all(&mut self) {
        let seen = self.seen;
        self.state.pods.retain(|_, pod| seen.contains_key(&pod.name));
        let names: Vec<String> = self.state.pods.values().map(|pod| pod.name.clone()).collect();
        names.into_iter().for_each(|name| self.delete(name));
    }

    /// Why a pod is not wanted any more, of which that is certain.
    fn why_removed(&self, name: &str) -> &'static str {
        let index = self.state.pods.values().find(|pod| pod.name == name).and_then(|pod| pod.index);
        match &self.state.verdict {
            _ if self.state.removal_at.is_some() => "it is being removed",
            Some(verdict) if verdict.success => "it has succeeded without it",
            Some(_) => "it has failed",
            None if self.spec.suspend => "it is suspended",
            None if index.is_some_and(|index| self.is_settled(index)) => "its index is settled already",
            None => "it wants fewer pods at a time",
        }
    }

    fn delete(&mut self, name: String) {
        if matches!(self.seen.get(&name), Some(PodSeen::Live { deleting: false, .. })) {
            self.notices.push(Notice::normal("SuccessfulDelete", format!("Deleted pod: {name}")));
            let why = self.why_removed(&name);
            self.steps.push(Step::Delete { name, why });
        }
    }

    /// Makes and removes pods so that as many run as are wanted.
    fn manage(&mut self) {
        self.retire_settled();
        let (active, terminating) = self.active();
        let wanted = if self.spec.suspend { 0 } else { self.wanted(active.len()) };
        let here = u32::try_from(active.len()).unwrap_or(u32::MAX);
        if here > wanted {
            return self.shrink(active, here - wanted);
        }
        let in_the_way = if self.spec.replacement == Replacement::Failed { terminating } else { 0 };
        let more = wanted.saturating_sub(here).saturating_sub(in_the_way).min(MOST_AT_ONCE);
        // Those of pods whose removal another one asked for, and which are not made again, are removed still.
        self.delete_removing();
        if more == 0 || self.spec.suspend {
            return;
        }
        if let Some(at) = self.back_off() {
            return self.wake(at);
        }
        if self.spec.indexed {
            for index in self.pending(more) {
                self.create(Some(index));
            }
        } else {
            (0..more).for_each(|_| self.create(None));
        }
    }

    /// When the back-off of the job as a whole is over, if it is not.
    fn back_off(&self) -> Option<Time> {
        let back_off = self.state.back_off;
        let at = back_off.last? + delay(back_off.failures);
        Some(at).filter(|at| self.spec.backoff_limit_per_index.is_none() && *at > self.now)
    }

    /// The same of an index.
    fn index_back_off(&self, index: u32) -> Option<Time> {
        let failures = self.state.index_failures.get(&index)?;
        Some(failures.last? + delay(failures.total())).filter(|at| *at > self.now)
    }

    fn is_settled(&self, index: u32) -> bool {
        self.state.completed.contains(index) || self.state.failed_indexes.contains(index)
    }

    /// An index may have been completed by a pod that was on its way out when another one was made for it.
    fn retire_settled(&mut self) {
        let JobState { pods, completed, failed_indexes, .. } = &mut self.state;
        for pod in pods.values_mut().filter(|pod| !pod.counted) {
            let settled = |index| completed.contains(index) || failed_indexes.contains(index);
            pod.removing |= pod.index.is_some_and(settled);
        }
    }

    /// Serial numbers of pods that count as active, and how many others are not over yet.
    fn active(&self) -> (Vec<u64>, u32) {
        let is_active = |pod: &JobPod| {
            let deleting = matches!(self.seen.get(&pod.name), Some(PodSeen::Live { deleting: true, .. }));
            !pod.removing && !pod.counted && !deleting
        };
        let active: Vec<u64> =
            self.state.pods.iter().filter(|(_, p)| is_active(p)).map(|(serial, _)| *serial).collect();
        let others = self.state.pods.len() - active.len();
        (active, u32::try_from(others).unwrap_or(u32::MAX))
    }

    fn wanted(&self, active: usize) -> u32 {
        match self.spec.completions {
            Some(completions) => {
                let failed = self.state.failed_indexes.below(completions).len();
                completions.saturating_sub(self.succeeded()).saturating_sub(failed).min(self.spec.parallelism)
            }
            // Of a work queue whose end was reached by one, no more are made.
            None if self.succeeded() > 0 => u32::try_from(active).unwrap_or(u32::MAX).min(self.spec.parallelism),
            None => self.spec.parallelism,
        }
    }

    /// Those that have done least go first: not ready before ready, young before old.
    fn shrink(&mut self, mut active: Vec<u64>, by: u32) {
        let outside =
            |state: &JobState, serial: &u64| state.pods[serial].index.is_some_and(|index| !self.spec.has_index(index));
        let ready = |state: &JobState, serial: &u64| {
            matches!(self.seen.get(&state.pods[serial].name), Some(PodSeen::Live { ready: true, .. }))
        };
        active.sort_by_key(|s| (!outside(&self.state, s), ready(&self.state, s), std::cmp::Reverse(*s)));
        for serial in active.into_iter().take(usize::try_from(by).unwrap_or(usize::MAX)) {
            if let Some(pod) = self.state.pods.get_mut(&serial) {
                pod.removing = true;
            }
        }
        self.delete_removing();
    }

    fn delete_removing(&mut self) {
        let seen = self.seen;
        self.state.pods.retain(|_, pod| !pod.removing || seen.contains_key(&pod.name));
        let names: Vec<String> = self.state.pods.values().filter(|p| p.removing).map(|p| p.name.clone()).collect();
        names.into_iter().for_each(|name| self.delete(name));
    }

    /// The lowest indexes that nothing stands for and whose back-off is over, at most `most`.
    fn pending(&mut self, most: u32) -> Vec<u32> {
        let waits_for_the_end = self.spec.replacement == Replacement::Failed;
        let taken: std::collections::BTreeSet<u32> = self
            .state
            .pods
            .values()
            .filter(|pod| {
                let deleting = matches!(self.seen.get(&pod.name), Some(PodSeen::Live { deleting: true, .. }));
                waits_for_the_end || !(pod.removing || pod.counted || deleting)
            })
            .filter_map(|pod| pod.index)
            .collect();
        let (mut pending, mut wake) = (Vec::new(), None);
        for index in 0..self.spec.completions.unwrap_or(0) {
            if pending.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
                break;
            }
            if self.is_settled(index) || taken.contains(&index) {
                continue;
            }
            match self.index_back_off(index) {
                Some(at) => wake = Some(wake.map_or(at, |w: Time| w.min(at))),
                None => pending.push(index),
            }
        }
        if let Some(at) = wake {
            self.wake(at);
        }
        pending
    }

    fn create(&mut self, index: Option<u32>) {
        let serial = self.state.serial;
        self.state.serial += 1;
        let failures = index.and_then(|index| self.state.index_failures.get(&index).copied()).unwrap_or_default();
        let pod = JobPod {
            name: template::pod_name(self.spec, self.state.run, serial, index),
            index,
            index_failures: IndexFailures { last: None, ..failures },
            created_at: self.now,
            removing: false,
            counted: false,
        };
        self.notices.push(Notice::normal("SuccessfulCreate", format!("Created pod: {}", pod.name)));
        self.state.pods.insert(serial, pod);
    }

    /// What the state says exists and nobody sees is made: now, or because whoever was to make it died before.
    fn create_missing(&mut self) {
        for (serial, pod) in &self.state.pods {
            if !self.seen.contains_key(&pod.name) {
                self.steps.push(Step::Create { serial: *serial });
            }
        }
    }
}

fn restarts(seen: Option<&PodSeen>) -> u32 {
    match seen {
        Some(PodSeen::Live { restarts, .. }) => *restarts,
        Some(PodSeen::Ended(_)) | None => 0,
    }
}
