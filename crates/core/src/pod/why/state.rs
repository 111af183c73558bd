//! What one container is doing or waiting for now.

use super::super::observe::{Instance, InstanceState, ProbeState, Sandbox, succeeded};
use super::super::spec::{Container, Probe, ProbeAction, RestartPolicy, Role};
use super::super::status::starting_before;
use super::super::stop::FLOOR;
use super::super::view::View;
use super::super::{backoff, rules, start};
use super::case::Case;
use super::end;
use super::explanation::Situation;
use super::hook::{self, Running};
use super::told::Told;
use super::words::{ago, clock, count, duration, get, line, role_name, until};
use crate::ledger::Entry;
use crate::time::Time;

/// Where a container is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// Not started yet: the sandbox is not there, or an earlier container (its index) has to go first.
    Held { holder: Option<usize> },
    /// There is no instance because one cannot be made.
    Refused(Refusal),
    /// It is being started.
    Starting,
    /// A plain init at work.
    Works { since: Time },
    /// Its startup probe has not succeeded yet.
    StartsUp { since: Time },
    /// It runs, and its readiness probe fails or has not been tried.
    NotReady { since: Time },
    /// It runs and is ready.
    Ready { since: Time },
    /// The same, and its liveness probe has begun to fail.
    Failing { since: Time },
    /// Its postStart hook is at work.
    Hooked(Running),
    /// It is to stop, and its preStop hook is at work before it is told.
    Hook(Running),
    /// It was told to stop on its own account: a probe or a hook failed.
    Leaving { signaled: Time, killed: bool },
    /// It has ended and is started again then.
    BackOff { again: Time },
    /// It has ended for good.
    Done { well: bool },
}

/// Why there is no instance, and the next try.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    reason: String,
    message: String,
    tries: u32,
    again: Time,
}

impl State {
    /// How much it matters.
    pub(super) fn weight(&self) -> u32 {
        match self {
            State::Refused(_) => 9,
            State::BackOff { .. } => 8,
            State::Done { well: false } => 7,
            State::Leaving { .. } | State::Hook(_) => 6,
            State::NotReady { .. } | State::Failing { .. } => 5,
            State::StartsUp { .. } | State::Hooked(_) => 4,
            State::Works { .. } | State::Starting => 3,
            State::Held { .. } => 1,
            State::Ready { .. } | State::Done { well: true } => 0,
        }
    }
}

pub(super) fn of(case: &Case<'_>, view: View<'_>, i: usize) -> State {
    let known = &case.observed.containers[i];
    let record = view.record(i);
    if let Some(failure) = known.failure.as_ref().filter(|_| !record.is_some_and(Instance::is_live)) {
        return State::Refused(Refusal {
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            tries: failure.count,
            again: backoff::DEFAULT.retry_at(failure),
        });
    }
    let Some(record) = record else {
        // Of an earlier sandbox, when none follows.
        if let Some(last) = known.instances.last().filter(|_| case.over) {
            return State::Done { well: succeeded(last) };
        }
        let gate = (0..view.init_count().min(i)).find(|earlier| !view.passed(*earlier));
        return State::Held { holder: gate.or_else(|| starting_before(view, i)) };
    };
    match record.state {
        InstanceState::Starting => State::Starting,
        InstanceState::Running { started_at } => running(case, view, i, record, started_at),
        InstanceState::Ended { .. } if !case.over && rules::restarts(view.spec, i, record) => {
            match backoff::restart_at(record, start::last_two(view, i).1) {
                Some(again) if again > case.now => State::BackOff { again },
                _ => State::Starting,
            }
        }
        InstanceState::Ended { .. } => State::Done { well: succeeded(record) },
    }
}

fn running(case: &Case<'_>, view: View<'_>, i: usize, record: &Instance, since: Time) -> State {
    if let Some(signaled) = record.signaled_at {
        return State::Leaving { signaled, killed: record.killed_at.is_some() };
    }
    if let Some(hook) = hook::at_stop(case, view, i, record) {
        return State::Hook(hook);
    }
    if let Some(hook) = hook::at_start(case, view, i, record) {
        return State::Hooked(hook);
    }
    if !view.is_started(i) {
        return State::StartsUp { since };
    }
    if case.spec.containers[i].role == Role::Init {
        return State::Works { since };
    }
    if !view.is_ready(i) {
        return State::NotReady { since };
    }
    if is_failing(&case.observed.containers[i].probes.liveness) {
        State::Failing { since }
    } else {
        State::Ready { since }
    }
}

/// `init`, `sidecar` or `main`.
pub(super) fn role(case: &Case<'_>, i: usize) -> &'static str {
    role_name(case.spec.containers[i].role)
}

/// The newest record of a container.
fn newest<'a>(case: &Case<'a>, container: &Container) -> Option<&'a Entry> {
    case.entries.iter().rfind(|entry| entry.container == container.name)
}

/// A few words for the list of containers.
pub(super) fn brief(case: &Case<'_>, i: usize, state: &State) -> String {
    let now = case.now;
    match state {
        State::Held { .. } if case.over => "was never started".to_owned(),
        State::Held { holder: Some(holder) } => format!("waits for {}", case.spec.containers[*holder].name),
        State::Held { holder: None } => "waits for the pod's sandbox".to_owned(),
        State::Refused(Refusal { reason, .. }) => format!("cannot be started: {reason}"),
        State::Starting => "is being started".to_owned(),
        State::Works { since } => format!("runs for {}", duration(now.since(*since))),
        State::StartsUp { since } => {
            format!("runs for {}, startupProbe has not succeeded yet", duration(now.since(*since)))
        }
        State::NotReady { since } => format!("runs for {}, not ready", duration(now.since(*since))),
        State::Ready { since } => format!("runs for {}, ready", duration(now.since(*since))),
        State::Failing { since } => format!("runs for {}, ready, livenessProbe fails", duration(now.since(*since))),
        State::Hooked(hook) => format!("started, its postStart hook runs for {}", duration(now.since(hook.begun))),
        State::Hook(hook) => format!("is to stop, its preStop hook runs for {}", duration(now.since(hook.begun))),
        State::Leaving { signaled, .. } => format!("was told to stop {}", ago(*signaled, now)),
        State::BackOff { again } => format!("back-off, starts again in {}", duration(again.since(now))),
        State::Done { .. } => {
            let entry = newest(case, &case.spec.containers[i]);
            entry.map_or("ended".to_owned(), |entry| end::brief(entry, now))
        }
    }
}

/// How a container of a pod that is stopped goes.
pub(super) fn how_it_stops(
    case: &Case<'_>,
    container: &Container,
    instance: &Instance,
    deadline: Time,
    role: &str,
) -> String {
    let name = &container.name;
    match (instance.signaled_at, instance.killed_at) {
        (_, Some(killed)) => format!(
            "{name} ({role}) got SIGKILL {} and is still there: a process hangs in the kernel",
            ago(killed, case.now)
        ),
        (Some(signaled), None) => {
            let kill = deadline.max(signaled + FLOOR);
            format!(
                "{name} ({role}) got its stop signal {}; what is left of it gets SIGKILL {}",
                ago(signaled, case.now),
                until(kill, case.now)
            )
        }
        (None, None) if instance.pre_stop.as_ref().is_some_and(|run| run.ended.is_none()) => {
            format!("{name} ({role}) is not told to stop before its preStop hook is through")
        }
        (None, None) if container.role == Role::Sidecar => {
            format!(
                "{name} ({role}) waits for its turn: sidecars stop last, in reverse order; at the latest {}",
                until(deadline, case.now)
            )
        }
        (None, None) => format!("{name} ({role}) gets its stop signal as soon as it runs"),
    }
}

/// The whole story of one container; not `alone`: it stands for its pod.
pub(super) fn tell(case: &Case<'_>, view: View<'_>, i: usize, state: &State, alone: bool) -> Told {
    if let Some(told) = sandbox(case) {
        return told;
    }
    let container = &case.spec.containers[i];
    let (name, now) = (&container.name, case.now);
    let subject = format!("{}/{}: {} {name}", case.spec.namespace, case.spec.name, role(case, i));
    let held = || held_back(view, i);
    let told = |situation, summary: String, details: Vec<String>| Told { situation, summary, details };
    match state {
        State::Held { holder: Some(holder) } => {
            let states = of(case, view, *holder);
            let before = tell(case, view, *holder, &states, true);
            let first =
                format!("{subject} waits for {} to {}", case.spec.containers[*holder].name, gate(case, *holder));
            told(before.situation, first, [vec![before.summary], before.details].concat())
        }
        State::Held { holder: None } | State::Starting => {
            let asked = newest(case, container).filter(|entry| entry.started_at.is_none() && entry.end.is_none());
            let since = asked.map_or_else(String::new, |e| format!(" for {}", duration(now.since(e.requested_at))));
            told(Situation::Starting, format!("{subject} is being started{since}"), held())
        }
        State::Refused(refusal) => refused(case, &subject, refusal, held()),
        State::Works { since } => {
            let at_work = format!("{subject} is at work for {}", duration(now.since(*since)));
            told(Situation::Initializing, format!("{at_work}; what follows waits until it has left with 0"), held())
        }
        State::StartsUp { since } => starts_up(case, view, i, &subject, *since),
        State::NotReady { since } => not_ready(case, view, i, &subject, *since),
        State::Failing { since } => {
            let runs = duration(now.since(*since));
            let summary = format!("{subject} runs for {runs} and is ready, but its livenessProbe fails");
            told(Situation::ProbeFailing, summary, [liveness(case, i), held()].concat())
        }
        State::Hooked(hook) => {
            let summary = format!("{subject} has started, and its postStart hook is not through");
            told(Situation::HookPending, summary, [hook.lines.clone(), held()].concat())
        }
        State::Hook(hook) => before_its_stop(case, view, i, &subject, hook),
        State::Ready { since } if alone => {
            let summary = format!("{subject} runs for {} and is ready", duration(now.since(*since)));
            told(Situation::Running, summary, untried(case))
        }
        State::Ready { .. } => told(Situation::Running, all_well(case, view), untried(case)),
        State::Leaving { signaled, killed } => leaving(case, container, &subject, *signaled, *killed),
        State::BackOff { again } => back_off(case, i, &subject, *again, held()),
        State::Done { well: true } if !alone && view.any_live() => {
            told(Situation::Running, all_well(case, view), untried(case))
        }
        State::Done { well } => {
            let situation = if *well { Situation::Succeeded } else { Situation::Failed };
            let ended = newest(case, container).map_or("has ended".to_owned(), |entry| end::brief(entry, now));
            told(situation, format!("{subject} {ended}, and is not started again (restartPolicy)"), held())
        }
    }
}

fn starts_up(case: &Case<'_>, view: View<'_>, i: usize, subject: &str, since: Time) -> Told {
    let runs = duration(case.now.since(since));
    let probe = case.spec.containers[i].startup_probe.as_ref();
    Told {
        situation: Situation::ProbePending,
        summary: format!("{subject} runs for {runs}, and its startupProbe has not succeeded yet"),
        details: [probing(case, i, "startup", probe), verdict_ahead(case, i), held_back(view, i)].concat(),
    }
}

fn not_ready(case: &Case<'_>, view: View<'_>, i: usize, subject: &str, since: Time) -> Told {
    let runs = duration(case.now.since(since));
    let probe = case.spec.containers[i].readiness_probe.as_ref();
    let held = held_back(view, i);
    let alive = if is_failing(&case.observed.containers[i].probes.liveness) { liveness(case, i) } else { Vec::new() };
    Told {
        situation: if held.is_empty() { Situation::NotReady } else { Situation::ProbePending },
        summary: format!("{subject} runs for {runs} and is not ready"),
        details: [probing(case, i, "readiness", probe), alive, held].concat(),
    }
}

fn before_its_stop(case: &Case<'_>, view: View<'_>, i: usize, subject: &str, hook: &Running) -> Told {
    let asked = newest(case, &case.spec.containers[i]).and_then(|entry| entry.cause.as_ref());
    let why = asked.map_or_else(String::new, |cause| format!(": {}", end::asked(cause)));
    Told {
        situation: if view.doom(i).is_some() { Situation::ProbeFailed } else { Situation::Stopping },
        summary: format!("{subject} is to stop, and waits for its preStop hook{why}"),
        details: hook.lines.clone(),
    }
}

fn refused(case: &Case<'_>, subject: &str, refusal: &Refusal, held: Vec<String>) -> Told {
    let Refusal { reason, message, tries, again } = refusal;
    let situation = if reason.contains("Image") { Situation::ImageUnavailable } else { Situation::ConfigError };
    let tried = format!("tried {}, again {}", count(u64::from(*tries), "time"), until(*again, case.now));
    let details = [vec![line(message), tried], held].concat();
    Told { situation, summary: format!("{subject} cannot be started: {reason}"), details }
}

fn leaving(case: &Case<'_>, container: &Container, subject: &str, signaled: Time, killed: bool) -> Told {
    let asked = newest(case, container).and_then(|entry| entry.cause.as_ref());
    let why = asked.map_or_else(String::new, |cause| format!(": {}", end::asked(cause)));
    let signal = if killed { "SIGKILL" } else { "its stop signal" };
    let summary = format!("{subject} got {signal} {}{why}", ago(signaled, case.now));
    let details = vec!["it is started again, or not, as its restart policy says, once it has ended".to_owned()];
    Told { situation: Situation::ProbeFailed, summary, details }
}

fn back_off(case: &Case<'_>, i: usize, subject: &str, again: Time, held: Vec<String>) -> Told {
    let entry = newest(case, &case.spec.containers[i]);
    let runs = case.entries.iter().filter(|e| e.container == case.spec.containers[i].name).count();
    let situation = entry.map_or(Situation::CrashLoop, end::kind_of_crash);
    let how = entry.map_or("ended".to_owned(), |entry| end::brief(entry, case.now));
    let delay = case.observed.containers[i]
        .instances
        .last()
        .map_or_else(String::new, |n| format!(", the back-off of {} after this end", duration(n.restart_delay)));
    let mut details = vec![format!("it starts again {}{delay}", until(again, case.now))];
    if runs > 1 {
        details.push(format!("{runs} runs are on record: podwright timeline {}", case.spec.name));
    }
    details.extend(held);
    let summary = match situation {
        Situation::StartError | Situation::ConfigError => format!("{subject} {how}"),
        _ => format!("{subject} keeps ending: it {how}"),
    };
    Told { situation, summary, details }
}

/// Before there is a sandbox, nothing else matters.
fn sandbox(case: &Case<'_>) -> Option<Told> {
    let pod = format!("{}/{}", case.spec.namespace, case.spec.name);
    if let (Sandbox::None | Sandbox::Gone { .. }, Some(unsaved)) = (&case.observed.sandbox, &case.observed.unsaved) {
        let since = format!("since {} ({})", clock(unsaved.since), duration(case.now.since(unsaved.since)));
        let tried = unsaved.error.as_ref().map(|error| line(error)).into_iter();
        return Some(Told {
            situation: Situation::NotSaved,
            summary: format!(
                "{pod} waits until it can be saved: nothing is started that the next agent would not know"
            ),
            details: tried.chain([format!("it waits {since}, and is tried again every few seconds")]).collect(),
        });
    }
    match (&case.observed.sandbox, &case.observed.sandbox_failure) {
        (Sandbox::None | Sandbox::Gone { .. }, Some(failure)) => {
            let again = backoff::SANDBOX.retry_at(failure);
            let details = vec![
                line(&failure.message),
                format!("failed {}, tried again {}", count(u64::from(failure.count), "time"), until(again, case.now)),
            ];
            Some(Told {
                situation: Situation::SandboxFailed,
                summary: format!("{pod} has no sandbox: {}", failure.reason),
                details,
            })
        }
        (Sandbox::Creating { .. } | Sandbox::None, _) => {
            let summary = format!("{pod} is being set up: its sandbox (cgroups, volumes, namespaces) is made");
            Some(Told { situation: Situation::Creating, summary, details: Vec::new() })
        }
        (Sandbox::Gone { .. } | Sandbox::Removing { .. }, _) => {
            let summary = format!("{pod} is between two sandboxes: the old one is being removed");
            Some(Told { situation: Situation::Creating, summary, details: Vec::new() })
        }
        (Sandbox::Ready { .. }, _) => None,
    }
}

/// What a container has to do before the next may start.
fn gate(case: &Case<'_>, i: usize) -> String {
    let container = &case.spec.containers[i];
    match container.role {
        Role::Init => "leave with 0".to_owned(),
        Role::Sidecar if container.readiness_probe.is_some() => "become ready once (its gate)".to_owned(),
        Role::Sidecar => "start (its gate)".to_owned(),
        Role::Main => "be through with its postStart hook".to_owned(),
    }
}

/// The containers that wait behind this one, if any do.
fn held_back(view: View<'_>, i: usize) -> Vec<String> {
    if view.passed(i) || i >= view.init_count() {
        return Vec::new();
    }
    let behind: Vec<&str> = view
        .containers()
        .skip(i + 1)
        .filter(|(n, _, _)| view.record(*n).is_none())
        .map(|(_, c, _)| c.name.as_str())
        .collect();
    if behind.is_empty() { Vec::new() } else { vec![format!("it holds back {}", behind.join(", "))] }
}

/// What a probe is, how it has fared, what it said last.
fn probing(case: &Case<'_>, i: usize, kind: &str, probe: Option<&Probe>) -> Vec<String> {
    let Some(probe) = probe else { return Vec::new() };
    let times = match probe.success_threshold {
        1 => String::new(),
        n => format!(", {n} successes in a row count"),
    };
    let mut details = vec![format!("{kind}Probe: {}, every {}{times}", action(&probe.action), duration(probe.period))];
    let health = newest(case, &case.spec.containers[i]).map(|entry| &entry.health);
    let probes = &case.observed.containers[i].probes;
    let states = [("startup", &probes.startup), ("readiness", &probes.readiness), ("liveness", &probes.liveness)];
    if let Some(why) = states.iter().find(|(of, _)| *of == kind).and_then(|(_, state)| state.untried.as_ref()) {
        details.push(format!("it could not be run: {}", line(why)));
        return details;
    }
    match health.and_then(|health| health.failures.iter().rfind(|run| run.probe == kind)) {
        Some(run) => {
            details.push(format!(
                "{} in a row since {}, the last {}",
                count(u64::from(run.count), "failure"),
                clock(run.first),
                ago(run.last, case.now)
            ));
            details.push(format!("it said: {}", line(&run.output)));
        }
        None => {
            details.push(format!("not failed yet; its first try is {} after the start", duration(probe.initial_delay)))
        }
    }
    details
}

/// The probes that could not be tried: what they are there for is not known.
fn untried(case: &Case<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for (container, known) in case.spec.containers.iter().zip(&case.observed.containers) {
        let probes = &known.probes;
        for (kind, state) in
            [("startup", &probes.startup), ("readiness", &probes.readiness), ("liveness", &probes.liveness)]
        {
            if let Some(why) = state.untried.as_ref().filter(|_| known.instances.last().is_some_and(Instance::is_live))
            {
                let name = &container.name;
                lines
                    .push(format!("the {kind}Probe of {name} could not be run, and counts for nothing: {}", line(why)));
            }
        }
    }
    lines
}

/// Whether the last try of a probe failed, and that is not settled yet.
fn is_failing(state: &ProbeState) -> bool {
    matches!(state.run, Some((false, _))) && state.verdict != Some(false)
}

fn liveness(case: &Case<'_>, i: usize) -> Vec<String> {
    let probe = case.spec.containers[i].liveness_probe.as_ref();
    [probing(case, i, "liveness", probe), verdict_ahead(case, i)].concat()
}

/// When a container whose startup or liveness probe fails is stopped, if that goes on.
fn verdict_ahead(case: &Case<'_>, i: usize) -> Vec<String> {
    let (container, known) = (&case.spec.containers[i], &case.observed.containers[i].probes);
    let pairs = [(&container.startup_probe, &known.startup), (&container.liveness_probe, &known.liveness)];
    let Some((probe, state)) =
        pairs.into_iter().find_map(|(probe, state)| Some((probe.as_ref()?, state)).filter(|_| is_failing(state)))
    else {
        return Vec::new();
    };
    let failed = state.run.map_or(0, |(_, n)| n);
    // The try that is under way is one of those to come.
    let to_come = probe.failure_threshold.saturating_sub(failed).saturating_sub(u32::from(state.in_flight));
    let at = state.last_attempt.map(|last| last + probe.period.saturating_mul(to_come));
    let then = if never_again(case, i) { "is stopped for good" } else { "is stopped and started again" };
    let when = at.map_or_else(String::new, |at| format!(" {}", until(at.max(case.now), case.now)));
    vec![format!("{failed} of {} (failureThreshold): if that goes on, it {then}{when}", probe.failure_threshold)]
}

/// Whether a container that a probe stops is not started again.
fn never_again(case: &Case<'_>, i: usize) -> bool {
    let container = &case.spec.containers[i];
    let policy = container.restart_policy.unwrap_or(case.spec.restart_policy);
    container.role != Role::Sidecar && policy == RestartPolicy::Never
}

fn action(action: &ProbeAction) -> String {
    match action {
        ProbeAction::Exec { command } => format!("exec {command:?}"),
        ProbeAction::HttpGet(request) => get(request),
        ProbeAction::Grpc { port, service } => format!("grpc :{port} {service:?}"),
        ProbeAction::TcpSocket { port, .. } => format!("tcp :{port}"),
    }
}

fn all_well(case: &Case<'_>, view: View<'_>) -> String {
    let serving = |role: Role| role != Role::Init;
    let all = case.spec.containers.iter().filter(|c| serving(c.role)).count();
    let ready = view.containers().filter(|(i, c, _)| serving(c.role) && view.is_ready(*i)).count();
    let pod = format!("{}/{}", case.spec.namespace, case.spec.name);
    format!(
        "{pod} runs for {}; {ready} of {all} containers are ready",
        duration(case.now.since(case.observed.accepted_at))
    )
}
