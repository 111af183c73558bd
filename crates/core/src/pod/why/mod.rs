//! `podwright why`: what a pod is doing or waiting for, what ended it last and who asked for that, the figures that matter,
//! what changed since it last worked, and what to do. Pure: values in, an [`Explanation`] out.
//!
//! [`explain`] looks at each container ([`state`]), chooses the one that matters most, and tells about that one. A name
//! that is not known is [`missing()`]'s. Jobs and cron jobs are explained in the same form by [`crate::job::why`] and
//! [`crate::cron::why`].

mod advice;
mod case;
mod changes;
mod end;
mod explanation;
mod figures;
mod hook;
mod missing;
mod state;
mod told;
mod unusable;
pub(crate) mod words;

#[cfg(test)]
pub(crate) mod tests;

use super::conditions::GATES_CLOSED;
use super::decide::goal;
use super::epoch::view_at;
use super::goal::{Goal, Stop};
use super::view::View;
use crate::ledger::Entry;
use crate::objects::Kind;
pub use case::{Case, Job, JobSays, Revision};
pub use changes::worked;
pub(crate) use end::{RECENT, signal_name};
pub use explanation::{Advice, ContainerLine, Explanation, LastEnd, Member, Situation};
pub use missing::{Known, missing};
use state::State;
use told::Told;
pub use unusable::{Unusable, discard, unusable};
pub use words::{duration, role_name};

/// Explains a pod, or (`container`, an index in the spec) one container of it.
pub fn explain(case: &Case<'_>, container: Option<usize>) -> Explanation {
    let view = view_at(case.spec, case.policy, case.observed, case.now);
    let goal = goal(view);
    // Its sandbox may stay for a while yet: until its ends are on disk, say.
    let ended = matches!(&goal, Goal::Stop(stop) if !stop.why.goes_on()) && !view.any_live();
    let case = &Case { over: case.over || ended, ..case.clone() };
    let states: Vec<State> = (0..case.spec.containers.len()).map(|i| state::of(case, view, i)).collect();
    let focus = container.unwrap_or_else(|| if case.over { end::decisive(case) } else { foremost(case, &states) });
    // What can be done about one that is held back is done about the one that holds it.
    let actor = match states.get(focus) {
        Some(State::Held { holder: Some(holder) }) if !case.over => *holder,
        _ => focus,
    };
    let told = match (&goal, states.get(focus)) {
        _ if case.over => end::of_pod(case),
        (Goal::Stop(stop), _) if container.is_none() && view.any_live() => stopping(case, view, stop),
        (_, Some(state)) => {
            let alone = container.is_some() || states.len() == 1;
            state::tell(case, view, focus, state, alone)
        }
        (_, None) => end::of_pod(case),
    };
    let spec = case.spec.containers.get(focus);
    let runs: Vec<&Entry> = case.entries.iter().filter(|e| spec.is_some_and(|c| c.name == e.container)).collect();
    let last = runs.iter().rev().find(|run| run.end.is_some()).copied();
    let matters = container.is_some()
        || told.situation != Situation::Running
        || last.is_some_and(|l| end::is_recent(l, case.now));
    let shown = last.filter(|_| matters);
    let changes = if told.situation.is_trouble() { changes::since_it_worked(case, focus, &runs) } else { Vec::new() };
    let mut details = told.details;
    if !case.file_problems.is_empty() {
        details.push(format!("{} has a problem, so an older content of it is in force:", case.file));
        details.extend(case.file_problems.iter().map(|problem| format!("  {problem}")));
    }
    details.extend(closed_gates(case));
    details.extend(lost_lines(case));
    details.extend(case.unwritten.iter().cloned());
    details.splice(0..0, case.job.and_then(|job| belongs(&job)));
    let name = (case.spec.namespace.as_str(), case.spec.name.as_str());
    Explanation {
        owner: case.job.map(|job| format!("job/{}", job.name)),
        container: spec.filter(|_| shown.is_some() || container.is_some()).map(|c| c.name.clone()),
        phase: case.status.phase.clone().unwrap_or_default(),
        details,
        last_end: shown.map(|run| end::of_run(case, run)),
        figures: shown.zip(spec).map_or_else(Vec::new, |(run, container)| figures::of(run, container)),
        changes,
        advice: advice::advise(case, told.situation, actor, last.filter(|_| actor == focus)),
        containers: lines(case, &states),
        ..Explanation::new(Kind::Pod, name, told.situation, told.summary)
    }
}

/// What of the containers' output is not in their logs.
fn lost_lines(case: &Case<'_>) -> Vec<String> {
    let containers = case.spec.containers.iter().zip(&case.observed.containers);
    let lost =
        containers.filter_map(|(container, known)| Some((container, known.instances.last()?.log_lost.as_ref()?)));
    let told = lost.map(|(container, loss)| {
        let so_far = if loss.ongoing { "are being lost, so far" } else { "were lost," };
        format!(
            "lines of the log of {} {so_far} {} ({} bytes), from {} to {}: {}",
            container.name,
            loss.lines,
            loss.bytes,
            words::clock(loss.first),
            words::clock(loss.last),
            words::line(&loss.error)
        )
    });
    told.collect()
}

/// Why it is not ready although its containers are.
fn closed_gates(case: &Case<'_>) -> Option<String> {
    let conditions = case.status.conditions.iter().flatten();
    let ready = conditions.into_iter().find(|c| c.type_ == "Ready" && c.reason.as_deref() == Some(GATES_CLOSED))?;
    let message = ready.message.as_deref().unwrap_or_default();
    Some(format!("the pod is not ready ({message}): nothing here sets such conditions, remove spec.readinessGates"))
}

fn belongs(job: &Job<'_>) -> Option<String> {
    match job.says {
        JobSays::Gone => Some(format!("its job was {}, which is gone", job.name)),
        JobSays::Asks => None,
        JobSays::Says(said) => Some(format!("its job: {said}")),
    }
}

/// The container that matters most; of several, the one that failed last, else the first.
fn foremost(case: &Case<'_>, states: &[State]) -> usize {
    let most = states.iter().map(State::weight).max().unwrap_or(0);
    let candidates = (0..states.len()).filter(|i| states.get(*i).is_some_and(|state| state.weight() == most));
    candidates.rev().max_by_key(|i| end::failed_at(case, *i)).unwrap_or(0)
}

fn stopping(case: &Case<'_>, view: View<'_>, stop: &Stop) -> Told {
    let by = end::stop_reason(case, stop);
    let mut details = Vec::new();
    for (i, container, known) in view.containers() {
        let Some(instance) = known.instances.last().filter(|n| n.is_live()) else { continue };
        details.push(state::how_it_stops(case, container, instance, stop.deadline, state::role(case, i)));
        details.extend(hook::at_stop(case, view, i, instance).into_iter().flat_map(|hook| hook.lines).map(indented));
    }
    let pod = format!("{}/{}", case.spec.namespace, case.spec.name);
    Told { situation: Situation::Stopping, summary: format!("{pod} is being stopped: {by}"), details }
}

fn indented(line: String) -> String {
    format!("  {line}")
}

fn lines(case: &Case<'_>, states: &[State]) -> Vec<ContainerLine> {
    if states.len() < 2 {
        return Vec::new();
    }
    let one = |(i, state): (usize, &State)| ContainerLine {
        name: case.spec.containers[i].name.clone(),
        role: state::role(case, i).to_owned(),
        text: state::brief(case, i, state),
    };
    states.iter().enumerate().map(one).collect()
}
