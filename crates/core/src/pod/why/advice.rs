//! What to do: a command, or a field of the manifest.

use super::super::spec::{Container, Role};
use super::case::{Case, JobSays};
use super::explanation::{Advice, Situation};
use super::words::quantity;
use crate::ledger::{Asker, Entry, OomLimit, Outcome};

pub(super) fn advise(case: &Case<'_>, situation: Situation, focus: usize, last: Option<&Entry>) -> Vec<Advice> {
    let Some(container) = case.spec.containers.get(focus) else { return Vec::new() };
    let advisor = Advisor { case, container, last };
    let mut advice = advisor.of(situation);
    if let Some(job) = &case.job {
        // Its job makes, counts and removes it: `podwright restart` refuses it, and it has no file.
        advice.retain(|a| a.with.as_ref().is_none_or(|with| !with.starts_with("podwright restart")));
        if matches!(job.says, JobSays::Says(_)) {
            let whole = format!("podwright why job/{}{}", job.name, advisor.namespace());
            advice.insert(0, with("it belongs to a job; what that makes of it", whole));
        }
    }
    if !case.file_problems.is_empty() {
        advice.push(with("put the manifest right", format!("podwright validate {}", case.file)));
    }
    advice
}

/// What is right where a liveness probe asks too much.
const TIME: &str = "if it only needs longer: timeoutSeconds, failureThreshold, or a startupProbe for a slow start";

struct Advisor<'a> {
    case: &'a Case<'a>,
    container: &'a Container,
    last: Option<&'a Entry>,
}

fn plain(text: &str) -> Advice {
    Advice { text: text.to_owned(), with: None }
}

fn with(text: &str, with: String) -> Advice {
    Advice { text: text.to_owned(), with: Some(with) }
}

impl Advisor<'_> {
    fn of(&self, situation: Situation) -> Vec<Advice> {
        match situation {
            Situation::ImageUnavailable => vec![
                plain("make the image's bundle, or correct the name; it is tried again by itself"),
                with("field", self.field("image")),
                with("to try at once", self.command("restart", false)),
            ],
            Situation::ConfigError => vec![
                plain("correct what the message names; it is tried again by itself"),
                with("to try at once", self.command("restart", false)),
            ],
            Situation::StartError => vec![
                with("check the command, and that the image has it", self.field("command")),
                with("when the image was mended, to try at once", self.command("restart", false)),
            ],
            Situation::OutOfMemory => self.out_of_memory(),
            Situation::ProbeFailed => self.probe_failed(),
            Situation::ProbeFailing => vec![with(TIME, self.field("livenessProbe")), self.previous_log()],
            Situation::HookPending => {
                vec![with("if the hook hangs", self.field("lifecycle.postStart")), self.previous_log()]
            }
            Situation::ProbePending | Situation::NotReady => self.not_ready(),
            Situation::CrashLoop => self.crash_loop(),
            Situation::Failed => vec![self.previous_log(), with("to run it again", self.command("restart", false))],
            Situation::DeadlineExceeded => {
                vec![with("give it more time", "spec.activeDeadlineSeconds".to_owned()), self.previous_log()]
            }
            Situation::Evicted => vec![
                with("give the volume more room, or write less", "spec.volumes[].emptyDir.sizeLimit".to_owned()),
                self.previous_log(),
            ],
            Situation::SandboxFailed => vec![
                plain("see what the agent says; it is tried again by itself"),
                with("", "journalctl -u podwright".to_owned()),
            ],
            Situation::NotSaved => vec![with(
                "make room where the agent keeps its state; it goes on by itself. What the node lacks",
                "podwright status".to_owned(),
            )],
            Situation::Removed => self.removed(),
            Situation::Stopping => vec![with(
                "to shorten the grace period",
                format!("podwright delete {}{} --grace-period 1", self.case.spec.name, self.namespace()),
            )],
            Situation::Succeeded | Situation::Running | Situation::Creating | Situation::Initializing => Vec::new(),
            Situation::Starting | Situation::NotFound | Situation::Rejected | Situation::StateUnusable => Vec::new(),
            // Of jobs and cron jobs only.
            Situation::Suspended | Situation::BackOff | Situation::Waiting | Situation::Scheduled => Vec::new(),
        }
    }

    fn namespace(&self) -> String {
        let namespace = &self.case.spec.namespace;
        if namespace == "default" { String::new() } else { format!(" -n {namespace}") }
    }

    fn command(&self, command: &str, container: bool) -> String {
        let container = if container { format!(" -c {}", self.container.name) } else { String::new() };
        format!("podwright {command} {}{}{container}", self.case.spec.name, self.namespace())
    }

    fn field(&self, field: &str) -> String {
        let list = if self.container.role == Role::Main { "containers" } else { "initContainers" };
        format!("spec.{list}[{}].{field}", self.container.name)
    }

    fn previous_log(&self) -> Advice {
        with("all that it wrote", self.command("logs", true))
    }

    fn crash_loop(&self) -> Vec<Advice> {
        let mut advice = vec![self.previous_log()];
        match self.last.and_then(|entry| entry.end.as_ref()).map(|end| &end.outcome) {
            Some(Outcome::Exited { code: 0, .. }) => {
                advice.insert(
                    0,
                    with(
                        "it ends well and is started again; if it is meant to end",
                        "spec.restartPolicy: OnFailure".to_owned(),
                    ),
                );
            }
            Some(Outcome::Exited { code: 126 | 127, .. }) => {
                advice.insert(0, with("check the command, and that the image has it", self.field("command")));
            }
            _ => {}
        }
        advice.push(with("when it is mended, to end the back-off", self.command("restart", false)));
        advice
    }

    fn out_of_memory(&self) -> Vec<Advice> {
        let end = self.last.and_then(|entry| entry.end.as_ref());
        let limit = end.and_then(|end| end.victim.as_ref()).map(|victim| victim.limit);
        let log = self.previous_log();
        match (limit, self.container.resources.memory_limit) {
            (Some(OomLimit::Node), _) => vec![
                plain("the machine itself is short of memory: run less on it, or give what eats it a limit"),
                with("what asks for memory is killed last", self.field("resources.requests.memory")),
                log,
            ],
            (_, Some(limit)) => {
                let more = quantity(limit.saturating_add(limit / 2));
                vec![
                    with(
                        "find out what needs so much; if that is right, raise the limit",
                        format!("{}: {more}", self.field("resources.limits.memory")),
                    ),
                    log,
                ]
            }
            (_, None) => vec![
                with(
                    "the pod's limit is that of its containers together; see",
                    "spec.containers[].resources.limits.memory".to_owned(),
                ),
                log,
            ],
        }
    }

    fn probe_failed(&self) -> Vec<Advice> {
        let by = self.last.and_then(|entry| entry.cause.as_ref()).map(|cause| cause.by);
        let (probe, hint) = match by {
            Some(Asker::LivenessProbe) => ("livenessProbe", TIME),
            _ => (
                "startupProbe",
                "if it only needs longer: failureThreshold times periodSeconds is the time that it has",
            ),
        };
        vec![
            with(hint, self.field(probe)),
            self.previous_log(),
            with("when it is mended, to end the back-off", self.command("restart", false)),
        ]
    }

    fn not_ready(&self) -> Vec<Advice> {
        let mut advice = vec![self.previous_log()];
        if self.container.role == Role::Sidecar && self.container.readiness_probe.is_some() {
            advice.push(with(
                "to let the others start without waiting for readiness",
                "annotation podwright.dev/sidecar-start-gate: Started".to_owned(),
            ));
        }
        let probe = if self.container.readiness_probe.is_some() { "readinessProbe" } else { "startupProbe" };
        advice.push(with("if the probe itself is wrong", self.field(probe)));
        advice
    }

    fn removed(&self) -> Vec<Advice> {
        match self.case.removed_by().filter(|_| self.case.job.is_none()).map(|cause| cause.by) {
            Some(Asker::User) => {
                vec![with("it stays away until its file changes; to bring it back", format!("edit {}", self.case.file))]
            }
            Some(_) => vec![plain("put its manifest back into the directory to run it again")],
            None => Vec::new(),
        }
    }
}
