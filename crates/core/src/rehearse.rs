//! How a pod would start and stop, without starting anything: `podwright plan`.
//!
//! The pod's real decisions are run under a virtual clock against containers that behave as assumed.

use std::time::Duration;

use crate::pod::NodePolicy;
use crate::pod::observe::HookKind;
use crate::pod::spec::{Container, PodSpec, RestartPolicy, Role};
use crate::sim::{Actor, Entry, Term, Turn, Violation, What, World};
use crate::time::Time;

/// What the containers of a rehearsal do.
#[derive(Debug, Clone, Copy)]
pub struct Assumptions {
    /// How long a plain init runs before it leaves with 0.
    pub init_takes: Duration,
    /// How long a main runs before it leaves with 0, unless the restart policy is `Always`: then it runs until it is told to stop.
    pub main_takes: Duration,
    /// How long a container takes to leave once it is told to stop; `None`: it ignores the signal.
    pub stop_takes: Option<Duration>,
}

impl Default for Assumptions {
    fn default() -> Assumptions {
        let second = Duration::from_secs(1);
        Assumptions { init_takes: second, main_takes: 5 * second, stop_takes: Some(second) }
    }
}

/// A line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since the pod was accepted.
    pub at: Duration,
    /// What happens.
    pub text: String,
}

/// A pod that runs on is removed when nothing has happened to it for this long.
pub const RUNS_FOR: Duration = Duration::from_secs(10);

/// The timeline of a pod's start and stop. Probes succeed at their first attempt.
///
/// # Errors
/// A [`Violation`] would be a bug in podwright's own rules.
pub fn rehearse(spec: &PodSpec, policy: &NodePolicy, assumed: &Assumptions) -> Result<Vec<Line>, Violation> {
    let start = Time(0);
    let mut world = World::new(start, policy.clone(), None);
    let actors = spec.containers.iter().map(|c| actor(c, spec.restart_policy, assumed)).collect();
    let pod = world.add(spec.clone(), actors);
    let far = start + Duration::from_secs(365 * 86_400);
    world.run(RUNS_FOR + spec.active_deadline.unwrap_or_default(), far)?;
    if !world.is_finished(pod) {
        let last = world.log.last().map_or(start, |entry| entry.at);
        world.delete_after((last + RUNS_FOR).since(world.now()), pod, None);
        world.run(spec.grace + RUNS_FOR * 3, far)?;
    }
    Ok(world.log.iter().filter_map(|e| line(spec, start, e)).collect())
}

fn actor(container: &Container, policy: RestartPolicy, assumed: &Assumptions) -> Actor {
    let run = match (container.role, policy) {
        (Role::Init, _) => Some(assumed.init_takes),
        (Role::Sidecar, _) | (Role::Main, RestartPolicy::Always) => None,
        (Role::Main, RestartPolicy::OnFailure | RestartPolicy::Never) => Some(assumed.main_takes),
    };
    let term = assumed.stop_takes.map_or(Term::Ignores, |after| Term::Leaves { after, code: 0 });
    Actor::always(Turn { run, term, ..Turn::STEADY })
}

fn hook(kind: HookKind) -> &'static str {
    match kind {
        HookKind::PostStart => "postStart",
        HookKind::PreStop => "preStop",
    }
}

fn line(spec: &PodSpec, start: Time, entry: &Entry) -> Option<Line> {
    let named = |c: usize| {
        let container = &spec.containers[c];
        let role = match container.role {
            Role::Init => "init container",
            Role::Sidecar => "sidecar",
            Role::Main => "container",
        };
        format!("{role} {}", container.name)
    };
    let text = match &entry.what {
        What::SandboxUp { .. } => "sandbox is up".to_owned(),
        What::SandboxGone { .. } => "sandbox is gone".to_owned(),
        What::Started { container, .. } => format!("{} starts", named(*container)),
        What::Ready { container } if spec.containers[*container].role == Role::Init => return None,
        What::Ready { container } => format!("{} is ready", named(*container)),
        What::Hooked { container, kind, .. } => format!("{} runs its {} hook", named(*container), hook(*kind)),
        What::HookDone { container, kind, .. } => {
            format!("{} is through with its {} hook", named(*container), hook(*kind))
        }
        What::Signaled { container, .. } => format!("{} gets its stop signal", named(*container)),
        What::Killed { container, .. } => format!("{} gets SIGKILL", named(*container)),
        What::Ended { container, code, .. } => format!("{} ends with {code}", named(*container)),
        What::StartFailed { container } => format!("{} cannot be started", named(*container)),
        What::Phase(phase) => format!("pod is {phase}"),
        What::Deleted => "pod is removed".to_owned(),
        What::Restarted => "pod is restarted".to_owned(),
        What::ShimLost => "sandbox is lost".to_owned(),
        What::DiskFull | What::DiskFree | What::AgentCrashed | What::AgentStarted | What::Finished => return None,
    };
    Some(Line { at: entry.at.since(start), text })
}
