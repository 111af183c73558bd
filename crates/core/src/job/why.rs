//! `podwright why job/NAME`: what a job is doing or waiting for, what ended it, how far it is, and what to do; in the form of
//! [`crate::pod::why`], by which its pods are explained.

use super::decide::{Outlook, outlook};
use super::indexes::Indexes;
use super::policy;
use super::spec::{Action, JobSpec, Replacement};
use super::state::{JobPod, JobState, PodEnd, PodSeen, Seen, Verdict};
use super::status;
use crate::objects::Kind;
use crate::pod::spec::RestartPolicy;
use crate::pod::why::words::{ago, clock, count, duration, line, until};
use crate::pod::why::{Advice, Explanation, Member, Situation};
use crate::time::Time;

/// Most pods that get a line of their own.
const MOST_PODS: usize = 8;
/// Most indexes of which failures are told.
const MOST_INDEXES: usize = 4;

/// All that an explanation is made from.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The job.
    pub spec: &'a JobSpec,
    /// What has become of it.
    pub state: &'a JobState,
    /// What is seen of its pods.
    pub seen: &'a Seen,
    /// What is told of those that are not over, by name.
    pub live: &'a [Explanation],
    /// The pod that failed last.
    pub failed: Option<&'a Failed>,
    /// A pod could not be made: why, and when that is tried again.
    pub refused: Option<&'a (String, Time)>,
    /// The cron job that made it.
    pub cron: Option<&'a str>,
    /// The file that it comes from, unless a cron job made it.
    pub file: Option<&'a str>,
    /// What is wrong with that file.
    pub file_problems: &'a [String],
    /// Now.
    pub now: Time,
}

/// A pod of a job that has failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// `metadata.name`.
    pub name: String,
    /// Its completion index.
    pub index: Option<u32>,
    /// How it ended.
    pub end: PodEnd,
    /// What is told of it.
    pub told: Explanation,
}

struct Told {
    situation: Situation,
    summary: String,
    details: Vec<String>,
}

/// Explains a job.
pub fn explain(case: &Case<'_>) -> Explanation {
    let outlook = outlook(case.spec, case.state, case.seen, case.now);
    let Told { situation, summary, mut details } = told(case, &outlook);
    details.extend(time_limits(case, &outlook));
    let failed = case.failed.filter(|failed| matters(case, failed, situation));
    details.extend(failed.into_iter().flat_map(|failed| how_it_counts(case, failed)));
    if !case.file_problems.is_empty() {
        details
            .push(format!("{} has a problem, so an older content of it is in force:", case.file.unwrap_or_default()));
        details.extend(case.file_problems.iter().map(|problem| format!("  {problem}")));
    }
    let last_end = failed.and_then(|failed| {
        let end = failed.told.last_end.clone()?;
        Some(crate::pod::why::LastEnd { pod: Some(failed.name.clone()), ..end })
    });
    let actor = case.live.iter().find(|pod| pod.situation.is_trouble()).filter(|_| situation.is_trouble());
    let changes = actor.or(failed.map(|failed| &failed.told)).map_or_else(Vec::new, |pod| pod.changes.clone());
    let mut figures = how_far(case);
    figures.extend(last_end.iter().flat_map(|_| failed.map(|f| f.told.figures.clone())).flatten());
    Explanation {
        owner: case.cron.map(|cron| format!("cronjob/{cron}")),
        container: failed.filter(|_| last_end.is_some()).and_then(|failed| failed.told.container.clone()),
        phase: phase(case.state).to_owned(),
        details,
        last_end,
        figures,
        changes,
        advice: advise(case, situation, failed),
        members: members(case),
        ..Explanation::new(Kind::Job, name_of(case), situation, summary)
    }
}

fn name_of<'a>(case: &Case<'a>) -> (&'a str, &'a str) {
    (&case.spec.namespace, &case.spec.name)
}

/// What `podwright get jobs` shows as STATUS.
fn phase(state: &JobState) -> &'static str {
    match &state.verdict {
        Some(verdict) if state.finished_at.is_some() => {
            if verdict.success {
                "Complete"
            } else {
                "Failed"
            }
        }
        _ if state.removal_at.is_some() => "Terminating",
        _ if state.suspended.is_some_and(|(value, _)| value) => "Suspended",
        Some(verdict) if verdict.success => "SuccessCriteriaMet",
        Some(_) => "FailureTarget",
        None => "Running",
    }
}

/// A failed pod says nothing any more of a job that succeeded.
fn matters(case: &Case<'_>, failed: &Failed, situation: Situation) -> bool {
    let succeeded = case.state.verdict.as_ref().is_some_and(|verdict| verdict.success);
    let recent = case.now.since(failed.end.at) < crate::pod::why::RECENT;
    !succeeded && (recent || situation.is_trouble())
}

fn told(case: &Case<'_>, outlook: &Outlook) -> Told {
    let job = format!("{}/{}", case.spec.namespace, case.spec.name);
    let (state, now) = (case.state, case.now);
    let told = |situation, summary: String, details| Told { situation, summary, details };
    if let Some(since) = state.removal_at {
        let summary = format!("{job} is being removed, asked for {}", ago(since, now));
        return told(Situation::Stopping, summary, stop_first(case));
    }
    if let (Some(verdict), Some(finished)) = (&state.verdict, state.finished_at) {
        return over(case, verdict, finished);
    }
    if let Some(verdict) = &state.verdict {
        let how = if verdict.success { "has succeeded" } else { "has failed" };
        let summary = format!("{job} {how}, and is over when its pods have stopped: {}", reason(case, verdict));
        return told(Situation::Stopping, summary, stop_first(case));
    }
    if case.spec.suspend {
        let since = state.suspended.map_or_else(String::new, |(_, at)| format!(" for {}", duration(now.since(at))));
        return told(Situation::Suspended, format!("{job} is suspended{since} (spec.suspend)"), stop_first(case));
    }
    if let Some(pod) = case.live.iter().find(|pod| pod.situation.is_trouble()) {
        let summary = format!("{job} is held up by its pod {}: {}", numbered(case, &pod.name), pod.said());
        return told(pod.situation, summary, [pod.details.clone(), waits(case, outlook)].concat());
    }
    if outlook.active.is_empty() {
        return idle(case, outlook);
    }
    let since = state.started_at.map_or_else(String::new, |at| format!(" for {}", duration(now.since(at))));
    let here = u32::try_from(outlook.active.len()).unwrap_or(u32::MAX);
    let summary = format!("{job} is at work{since}: {} at work, {}", count(u64::from(here), "pod"), done(case));
    told(Situation::Running, summary, waits(case, outlook))
}

/// No pod of it is at work, and it is not over.
fn idle(case: &Case<'_>, outlook: &Outlook) -> Told {
    let job = format!("{}/{}", case.spec.namespace, case.spec.name);
    let mut lines = waits(case, outlook);
    let first = if lines.is_empty() { "is about to make its pods".to_owned() } else { lines.remove(0) };
    let situation = if case.refused.is_some() || outlook.back_off.is_some() || !outlook.index_back_off.is_empty() {
        Situation::BackOff
    } else if outlook.terminating > 0 || outlook.wanted == 0 {
        Situation::Waiting
    } else {
        Situation::Creating
    };
    Told { situation, summary: format!("{job} has no pod at work: {first}"), details: lines }
}

/// Why it does not make more pods now, of which it wants more.
fn waits(case: &Case<'_>, outlook: &Outlook) -> Vec<String> {
    let (spec, now) = (case.spec, case.now);
    let here = u32::try_from(outlook.active.len()).unwrap_or(u32::MAX);
    let mut lines = Vec::new();
    if let Some((message, again)) = case.refused {
        lines.push(format!("a pod could not be made ({}); tried again {}", line(message), until(*again, now)));
    }
    if spec.parallelism == 0 {
        lines.push("none is wanted (spec.parallelism: 0)".to_owned());
    }
    if outlook.wanted <= here {
        return lines;
    }
    if outlook.terminating > 0 && spec.replacement == Replacement::Failed {
        let names: Vec<String> = leaving(case).map(|pod| numbered(case, &pod.name)).collect();
        lines.push(format!(
            "it waits for {} to end before it makes another (podReplacementPolicy: Failed)",
            names.join(", ")
        ));
    }
    if let Some(at) = outlook.back_off {
        let failures = count(u64::from(case.state.back_off.failures), "failure");
        lines.push(format!("the next pod is made {}: back-off after {failures} in a row", until(at, now)));
    }
    let mut by_time = outlook.index_back_off.clone();
    by_time.sort_by_key(|(_, at)| *at);
    for (index, at) in by_time.iter().take(MOST_INDEXES) {
        let failures = case.state.index_failures.get(index).map_or(0, |failures| failures.total());
        let failures = count(u64::from(failures), "failure");
        lines.push(format!("index {index} is tried again {}: back-off after {failures}", until(*at, now)));
    }
    if by_time.len() > MOST_INDEXES {
        lines.push(format!("… and {} more indexes wait for their back-off", by_time.len() - MOST_INDEXES));
    }
    lines
}

/// Pods that were told to stop and are not over.
fn leaving<'a>(case: &'a Case<'_>) -> impl Iterator<Item = &'a JobPod> {
    let seen = case.seen;
    let on_its_way = |pod: &&JobPod| matches!(seen.get(&pod.name), Some(PodSeen::Live { deleting: true, .. }));
    case.state.pods.values().filter(on_its_way)
}

fn stop_first(case: &Case<'_>) -> Vec<String> {
    let names: Vec<String> = leaving(case).take(MOST_PODS).map(|pod| numbered(case, &pod.name)).collect();
    if names.is_empty() { Vec::new() } else { vec![format!("these stop first: {}", names.join(", "))] }
}

/// `report-1-xk2vp (index 1)`.
fn numbered(case: &Case<'_>, name: &str) -> String {
    let known = case.state.pods.values().find(|pod| pod.name == name);
    with_index(name, known.and_then(|pod| pod.index))
}

fn with_index(name: &str, index: Option<u32>) -> String {
    index.map_or_else(|| name.to_owned(), |index| format!("{name} (index {index})"))
}

fn over(case: &Case<'_>, verdict: &Verdict, finished: Time) -> Told {
    let job = format!("{}/{}", case.spec.namespace, case.spec.name);
    let took = case.state.started_at.map_or_else(String::new, |at| format!(" after {}", duration(finished.since(at))));
    let when = ago(finished, case.now);
    let (situation, how) = match (verdict.success, verdict.reason.as_str()) {
        (true, _) => (Situation::Succeeded, "is complete"),
        (false, "DeadlineExceeded") => (Situation::DeadlineExceeded, "took too long, and failed"),
        (false, _) => (Situation::Failed, "failed"),
    };
    let summary = format!("{job} {how}{took}, {when}: {}", reason(case, verdict));
    // The policy's message names the pod, which is told of anyway.
    let message = match verdict.reason.as_str() {
        "PodFailurePolicy" if case.failed.is_some() => String::new(),
        _ => format!(": {}", line(&verdict.message)),
    };
    let details = vec![format!("{}{message}, settled at {}", verdict.reason, clock(verdict.at))];
    Told { situation, summary, details }
}

/// What settled it, in figures and fields.
fn reason(case: &Case<'_>, verdict: &Verdict) -> String {
    let (spec, state) = (case.spec, case.state);
    let failed = spec.completions.map_or_else(Default::default, |n| state.failed_indexes.below(n));
    let failed = indexes(&failed);
    // Of pods that failed there are not too many, so it was that they were restarted in place.
    let in_place = spec.template.pod.restart_policy == RestartPolicy::OnFailure && state.failed <= spec.backoff_limit;
    match verdict.reason.as_str() {
        "BackoffLimitExceeded" if in_place => {
            let most = count(u64::from(spec.backoff_limit), "restart");
            format!("its containers' restarts reached what it bears, {most} (backoffLimit)")
        }
        "BackoffLimitExceeded" => {
            format!(
                "{} failed, and it bears {} (backoffLimit)",
                count(u64::from(state.failed), "pod"),
                spec.backoff_limit
            )
        }
        "DeadlineExceeded" => {
            format!("its activeDeadlineSeconds ({}) were over", spec.active_deadline.unwrap_or_default().as_secs())
        }
        "PodFailurePolicy" => "its podFailurePolicy says so".to_owned(),
        "MaxFailedIndexesExceeded" => {
            let most = spec.max_failed_indexes.unwrap_or_default();
            format!("{failed} failed for good, and {most} may (maxFailedIndexes)")
        }
        "FailedIndexes" => format!("{failed} failed for good (backoffLimitPerIndex), the others are done"),
        _ => done(case),
    }
}

/// `index 3`, `indexes 0-2,5`.
fn indexes(set: &Indexes) -> String {
    if set.len() == 1 { format!("index {set}") } else { format!("indexes {set}") }
}

/// `3 of 8 done`.
fn done(case: &Case<'_>) -> String {
    let succeeded = status::succeeded(case.spec, case.state);
    match case.spec.completions {
        Some(wanted) => format!("{succeeded} of {wanted} done"),
        None => format!("{succeeded} done, one is enough"),
    }
}

fn time_limits(case: &Case<'_>, outlook: &Outlook) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(deadline), None) = (outlook.deadline, &case.state.verdict) {
        let seconds = case.spec.active_deadline.unwrap_or_default().as_secs();
        lines.push(format!("it fails {} (activeDeadlineSeconds: {seconds})", until(deadline, case.now)));
    }
    if let (Some(ttl), Some(finished), None) = (case.spec.ttl, case.state.finished_at, case.state.removal_at) {
        lines.push(format!(
            "it is removed {} (ttlSecondsAfterFinished: {})",
            until(finished + ttl, case.now),
            ttl.as_secs()
        ));
    }
    lines
}

/// What the end of a pod meant to the job, and by which rule.
fn how_it_counts(case: &Case<'_>, failed: &Failed) -> Vec<String> {
    let (pod, when) = (with_index(&failed.name, failed.index), ago(failed.end.at, case.now));
    let first = |follows: &str| format!("the last pod that failed: {pod}, {when}; {follows}");
    let Some((n, action, what)) = policy::rule(case.spec, &failed.name, &failed.end) else {
        let counts = match case.spec.failure_policy {
            Some(_) => "no rule of podFailurePolicy is about that, so it counts",
            None => "it counts",
        };
        return vec![first(counts)];
    };
    let (name, follows) = match action {
        Action::FailJob => ("FailJob", "that fails the job"),
        Action::FailIndex => ("FailIndex", "that fails its index for good"),
        Action::Ignore => ("Ignore", "that does not count"),
        Action::Count => ("Count", "that counts"),
    };
    // Which pod is said already.
    let of = format!("{}/{}", case.spec.namespace, failed.name);
    let what = what.replace(&format!(" for pod {of}"), "").replace(&format!("Pod {of}"), "it");
    vec![first(follows), format!("  by podFailurePolicy.rules[{n}] ({name}): {what}")]
}

fn how_far(case: &Case<'_>) -> Vec<String> {
    let (spec, state) = (case.spec, case.state);
    let mut lines = Vec::new();
    let which = if spec.indexed && !state.completed.is_empty() {
        format!(" ({})", indexes(&state.completed))
    } else {
        String::new()
    };
    let failed = if spec.backoff_limit_per_index.is_some() {
        format!("{} failed", count(u64::from(state.failed), "pod"))
    } else {
        format!("{} failed of {} that it bears (backoffLimit)", state.failed, spec.backoff_limit)
    };
    lines.push(format!("{}{which}; {failed}", done(case)));
    let restarts: u32 = case
        .seen
        .values()
        .map(|seen| match seen {
            PodSeen::Live { restarts, .. } => *restarts,
            PodSeen::Ended(_) => 0,
        })
        .sum();
    if spec.template.pod.restart_policy == RestartPolicy::OnFailure && restarts > 0 {
        lines.push(format!(
            "{} in place (restartPolicy: OnFailure), which count while their pod lives",
            count(u64::from(restarts), "restart")
        ));
    }
    if let Some(limit) = spec.backoff_limit_per_index {
        if !state.failed_indexes.is_empty() {
            let most = spec.max_failed_indexes.map_or_else(String::new, |most| format!(" (maxFailedIndexes: {most})"));
            lines.push(format!("indexes failed for good: {}{most}", state.failed_indexes));
        }
        for (index, failures) in state.index_failures.iter().take(MOST_INDEXES) {
            let ignored = if failures.ignored > 0 { format!(", {} ignored", failures.ignored) } else { String::new() };
            lines.push(format!("index {index}: {} failed of {limit} that it bears{ignored}", failures.counted));
        }
    }
    lines
}

fn members(case: &Case<'_>) -> Vec<Member> {
    let mut all: Vec<Member> = case
        .live
        .iter()
        .take(MOST_PODS)
        .map(|pod| {
            let index = case.state.pods.values().find(|known| known.name == pod.name).and_then(|known| known.index);
            let index = index.map_or_else(String::new, |index| format!("index {index}: "));
            Member { name: pod.name.clone(), text: format!("{index}{}", pod.said()) }
        })
        .collect();
    let alive = case.seen.values().filter(|seen| matches!(seen, PodSeen::Live { .. })).count();
    if let Some(more @ 1..) = alive.checked_sub(all.len()) {
        all.push(Member {
            name: "…".to_owned(),
            text: format!("and {more} more: podwright get pods -l job-name={}", case.spec.name),
        });
    }
    all
}

fn advise(case: &Case<'_>, situation: Situation, failed: Option<&Failed>) -> Vec<Advice> {
    let flag = if case.spec.namespace == "default" { String::new() } else { format!(" -n {}", case.spec.namespace) };
    let with = |text: &str, with: String| Advice { text: text.to_owned(), with: Some(with) };
    let mut advice = Vec::new();
    if let Some(pod) = case.live.iter().find(|pod| pod.situation.is_trouble()).filter(|_| situation.is_trouble()) {
        advice.extend(pod.advice.iter().cloned());
        advice.push(with("more of that pod", format!("podwright why {}{flag}", pod.name)));
    } else if let Some(failed) = failed.filter(|_| situation.is_trouble()) {
        let container = failed.told.container.as_ref().map_or_else(String::new, |c| format!(" -c {c}"));
        advice.push(with("all that the failed pod wrote", format!("podwright logs {}{flag}{container}", failed.name)));
        advice.push(with("more of that pod", format!("podwright why {}{flag}", failed.name)));
    }
    match situation {
        Situation::DeadlineExceeded if case.state.finished_at.is_some() => {
            advice.push(with("give it more time", "spec.activeDeadlineSeconds".to_owned()));
        }
        Situation::Suspended => advice.push(with("to let it go on", "spec.suspend: false".to_owned())),
        Situation::Waiting if case.spec.parallelism == 0 => {
            advice.push(with("to let it go on", "spec.parallelism".to_owned()));
        }
        Situation::Waiting | Situation::Stopping => {
            let slow = leaving(case).next();
            advice
                .extend(slow.map(|pod| with("what that pod still does", format!("podwright why {}{flag}", pod.name))));
        }
        _ => {}
    }
    if case.state.finished_at.is_some() && case.state.verdict.as_ref().is_some_and(|verdict| !verdict.success) {
        advice.push(match (case.cron, case.file) {
            (Some(cron), _) => with(
                "to run it again",
                format!("podwright create job {}-again{flag} --from=cronjob/{cron}", case.spec.name),
            ),
            (None, Some(file)) => with("to run it again, take its file away and put it back", file.to_owned()),
            (None, None) => return advice,
        });
    }
    if let (false, Some(file)) = (case.file_problems.is_empty(), case.file) {
        advice.push(with("put the manifest right", format!("podwright validate {file}")));
    }
    advice
}
