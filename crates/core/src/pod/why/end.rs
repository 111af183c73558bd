//! What ended a run or a pod, and who asked for that.

use super::super::goal::{Stop, Why};
use super::super::resources::pod_limits;
use super::super::spec::Role;
use super::case::Case;
use super::explanation::{LastEnd, Situation};
use super::told::Told;
use super::words::{ago, duration, line};
use crate::ledger::{Asker, Cause, End, Entry, OomLimit, Outcome};
use crate::time::Time;
use std::time::Duration;

/// An end is worth telling of a container that runs well again for this long.
pub(crate) const RECENT: Duration = Duration::from_secs(600);

pub(super) fn is_recent(entry: &Entry, now: Time) -> bool {
    entry.end.as_ref().is_some_and(|end| now.since(end.at) < RECENT && !is_well(end))
}

/// When a container last failed, if that is worth telling still.
pub(super) fn failed_at(case: &Case<'_>, container: usize) -> Option<Time> {
    let name = &case.spec.containers.get(container)?.name;
    let last = case.entries.iter().rfind(|entry| entry.container == *name && entry.end.is_some())?;
    last.end.as_ref().filter(|_| is_recent(last, case.now)).map(|end| end.at)
}

fn is_well(end: &End) -> bool {
    matches!(end.outcome, Outcome::Exited { code: 0, .. })
}

fn was_oom(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Exited { oom: true, .. } | Outcome::Signaled { oom: true, .. })
}

/// What the matter is with a container that keeps ending.
pub(super) fn kind_of_crash(entry: &Entry) -> Situation {
    let Some(end) = &entry.end else { return Situation::CrashLoop };
    let probe = entry.cause.as_ref().is_some_and(|c| matches!(c.by, Asker::LivenessProbe | Asker::StartupProbe));
    match &end.outcome {
        Outcome::StartFailed { by_runtime: true, .. } => Situation::StartError,
        Outcome::StartFailed { by_runtime: false, .. } => Situation::ConfigError,
        outcome if was_oom(outcome) => Situation::OutOfMemory,
        _ if probe => Situation::ProbeFailed,
        _ => Situation::CrashLoop,
    }
}

/// `left with 3 after 12 s, 41 s ago`.
pub(super) fn brief(entry: &Entry, now: Time) -> String {
    let Some(end) = &entry.end else { return "runs".to_owned() };
    let ran = entry.started_at.map_or_else(String::new, |at| format!(" after {}", duration(end.at.since(at))));
    format!("{}{ran}, {}", outcome(end), ago(end.at, now))
}

/// The whole story of the end of one run.
pub(super) fn of_run(case: &Case<'_>, entry: &Entry) -> LastEnd {
    let mut text = format!("run {}: it {}", entry.attempt, brief(entry, case.now));
    let oom = entry.end.as_ref().filter(|end| was_oom(&end.outcome));
    let oom = oom.map(|end| out_of_memory(end, limits_coincide(case, &entry.container, end)));
    if let Some(oom) = oom {
        text.push_str("; ");
        text.push_str(&oom);
    }
    let output = entry.end.as_ref().map_or_else(Vec::new, |end| end.tail.clone());
    LastEnd { pod: None, attempt: entry.attempt, text, asked: asked_for(entry), output }
}

fn asked_for(entry: &Entry) -> Option<String> {
    let end = entry.end.as_ref()?;
    if let Some(cause) = &entry.cause {
        let killed = match (entry.signaled_at, entry.killed_at) {
            (Some(signaled), Some(killed)) => {
                format!("; it did not leave within {} and got SIGKILL", duration(killed.since(signaled)))
            }
            (None, Some(_)) => "; it got SIGKILL at once".to_owned(),
            _ => String::new(),
        };
        return Some(format!("{}{killed}", asked(cause)));
    }
    if entry.signaled_at.is_some() || entry.killed_at.is_some() {
        return Some("podwright told it to stop; why is not on record".to_owned());
    }
    match &end.outcome {
        Outcome::Exited { .. } => Some("nobody asked: it left by itself".to_owned()),
        outcome if was_oom(outcome) => Some("nobody asked: the kernel killed it for memory".to_owned()),
        Outcome::Signaled { .. } => {
            Some("not podwright: the signal came from the container itself, or from somebody on the machine".to_owned())
        }
        Outcome::StartFailed { .. } | Outcome::Lost => None,
    }
}

/// Whether the pod's limit is the container's, which had used it up: the kernel tells of the pod's then, which it met first.
fn limits_coincide(case: &Case<'_>, container: &str, end: &End) -> bool {
    let of_pod = pod_limits(case.spec).memory_max;
    let own = case.spec.containers.iter().find(|c| c.name == container).and_then(|c| c.resources.memory_limit);
    let used_up = own.zip(end.figures.memory_peak).is_some_and(|(own, peak)| peak >= own - own / 16);
    used_up && of_pod == own
}

fn out_of_memory(end: &End, limits_coincide: bool) -> String {
    let Some(victim) = &end.victim else {
        return "the kernel killed a process of it for memory (its log does not say which)".to_owned();
    };
    let which = if victim.first_process { ", its first process" } else { ", which is not its first process" };
    let limit = match victim.limit {
        OomLimit::Container => "the container's memory limit was reached",
        OomLimit::Above if limits_coincide => "the container's memory limit, which is its pod's as well, was reached",
        OomLimit::Above => "the memory limit of the pod, or of all pods, was reached",
        OomLimit::Node => "the machine had no memory left",
    };
    format!("{limit}, and the kernel chose {} (pid {}{which})", victim.name, victim.pid)
}

fn outcome(end: &End) -> String {
    match &end.outcome {
        Outcome::Exited { oom: true, code } | Outcome::Signaled { oom: true, signal: code } if *code != 0 => {
            "was killed for memory (OOMKilled)".to_owned()
        }
        Outcome::Exited { code: 0, .. } => "left with 0".to_owned(),
        Outcome::Exited { code, .. } => format!("left with {code}{}", meaning(*code)),
        Outcome::Signaled { signal, .. } => {
            format!("was ended by {} (exit code {})", signal_name(*signal), 128 + signal)
        }
        Outcome::StartFailed { message, .. } => format!("could not be started: {}", line(message)),
        Outcome::Lost => "ended unseen (ContainerStatusUnknown)".to_owned(),
    }
}

/// What shells and C libraries mean by some exit codes.
fn meaning(code: i32) -> String {
    match code {
        126 => " (found and not executable)".to_owned(),
        127 => " (command not found)".to_owned(),
        129..=192 => format!(" (a child of it, or itself, says {})", signal_name(code - 128)),
        _ => String::new(),
    }
}

/// The signals that end processes in practice; others by number.
pub(crate) fn signal_name(signal: i32) -> String {
    let known = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (31, "SIGSYS"),
    ];
    known.iter().find(|(n, _)| *n == signal).map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// Who asked, in words.
pub(super) fn asked(cause: &Cause) -> String {
    let who = match cause.by {
        Asker::User => "`podwright delete` (or DELETE on the API)",
        Asker::ManifestRemoved => "its manifest was removed from the directory",
        Asker::ManifestChanged => "its manifest changed, and the new pod waits for the old one to be gone",
        Asker::Owner => "its job does not want it any more",
        Asker::Restart => "`podwright restart`",
        Asker::Completion => {
            "the pod's main containers were done, or an init container failed for good, and the rest follows"
        }
        Asker::Deletion => "the pod was removed",
        Asker::Deadline => "the pod's activeDeadlineSeconds were over",
        Asker::Eviction => "a volume grew over its limit",
        Asker::StartupProbe => "its startupProbe failed",
        Asker::LivenessProbe => "its livenessProbe failed",
        Asker::PostStart => "its postStart hook failed",
        Asker::RestartRule => "a restart rule of another container restarts the whole pod",
        Asker::SandboxRemoved => "the pod's sandbox was removed",
        Asker::ShimDied => "the pod's shim died, and its processes with it",
        Asker::Reboot => "the machine was restarted",
        Asker::Other => "somebody whom this version of podwright does not know",
    };
    let text = line(&cause.text);
    if text.is_empty() { who.to_owned() } else { format!("{who}: {text}") }
}

/// Why a whole pod is being stopped.
pub(super) fn stop_reason(case: &Case<'_>, stop: &Stop) -> String {
    let since = ago(stop.since, case.now);
    match stop.why {
        Why::Completed => format!("its main containers are done, or an init container failed for good ({since})"),
        Why::SandboxLost => "its sandbox was lost, and restartPolicy wants no other".to_owned(),
        Why::DeadlineExceeded => {
            let limit = case.spec.active_deadline.unwrap_or_default().as_secs();
            format!("its activeDeadlineSeconds ({limit}) were over {since}")
        }
        Why::Evicted => {
            let message = case.observed.evicted.as_ref().map_or("", |(_, message)| message);
            format!("{} ({since})", line(message))
        }
        Why::Deleted => {
            let by = case.removed_by().map_or_else(|| asked(&Asker::Deletion.into()), asked);
            format!("{by}, {since}")
        }
        Why::RestartAll => format!("a restart rule restarts all containers ({since}); it runs again afterwards"),
        Why::Restart => format!("`podwright restart`, {since}; it runs again afterwards"),
    }
}

/// A pod that is over.
pub(super) fn of_pod(case: &Case<'_>) -> Told {
    let pod = format!("{}/{}", case.spec.namespace, case.spec.name);
    let phase = case.status.phase.as_deref().unwrap_or("Unknown");
    let reason = case.status.reason.as_deref().unwrap_or_default();
    let situation = match (case.removed_by(), reason, phase) {
        (_, "DeadlineExceeded", _) => Situation::DeadlineExceeded,
        (_, "Evicted", _) => Situation::Evicted,
        (Some(_), _, "Failed") => Situation::Removed,
        (_, _, "Succeeded") => Situation::Succeeded,
        (Some(_), ..) => Situation::Removed,
        (None, ..) => Situation::Failed,
    };
    let last = case.entries.iter().filter_map(|entry| entry.end.as_ref()).map(|end| end.at).max();
    let when = last.map_or_else(String::new, |at| format!(" {}", ago(at, case.now)));
    let mut details = Vec::new();
    details.extend(case.status.message.iter().map(|message| line(message)));
    details.extend(case.removed_by().map(asked));
    let summary = match situation {
        Situation::Succeeded => format!("{pod} is done: its main containers left with 0; it ended{when}"),
        Situation::Removed => format!("{pod} was removed, and ended{when} ({phase})"),
        Situation::DeadlineExceeded => format!("{pod} took too long, was stopped, and ended{when} (Failed)"),
        Situation::Evicted => format!("{pod} was evicted, and ended{when} (Failed)"),
        _ => {
            details.extend(culprit(case));
            format!("{pod} failed; it ended{when}")
        }
    };
    Told { situation, summary, details }
}

/// The container that decided a pod's end: of those that did not end well the one that ran last, else the first main.
pub(super) fn decisive(case: &Case<'_>) -> usize {
    let failed = failed_last(case).map(|entry| entry.container.as_str());
    let containers = || case.spec.containers.iter();
    let failed = failed.and_then(|name| containers().position(|c| c.name == name));
    failed.or_else(|| containers().position(|c| c.role == Role::Main)).unwrap_or(0)
}

fn culprit(case: &Case<'_>) -> Option<String> {
    let entry = failed_last(case)?;
    Some(format!("{} {}, and is not started again (restartPolicy)", entry.container, brief(entry, case.now)))
}

fn failed_last<'a>(case: &Case<'a>) -> Option<&'a Entry> {
    let decides = |entry: &&Entry| {
        let container = case.spec.containers.iter().find(|c| c.name == entry.container);
        container.is_some_and(|c| c.role != Role::Sidecar) && entry.end.as_ref().is_some_and(|end| !is_well(end))
    };
    case.entries.iter().filter(decides).max_by_key(|entry| entry.end.as_ref().map(|end| end.at))
}
