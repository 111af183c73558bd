//! Situations as data: what happened to a pod, and what has to be said about it.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

use super::super::Machine;
use super::super::observe::{Event, Instance, InstanceState, Memo, Observed, ProbeKind, ProbeOutcome};
use super::super::plan::Step;
use super::super::spec::StartGate;
use super::super::view::NodePolicy;
use super::*;
use crate::ledger::{Asker, Cause, CpuTime, End, Figures, Health, LogLoss, OomLimit, Origin, Outcome, Victim};
use crate::manifest::{Format, PodDocument, parse};
use crate::pod::backoff;
use crate::time::Time;

const SECOND: i64 = 1_000_000_000;

fn at(seconds: i64) -> Time {
    Time(seconds * SECOND)
}

/// A pod and what happens to it, at a time in seconds.
struct Story {
    document: PodDocument,
    machine: Machine,
    policy: NodePolicy,
    entries: Vec<Entry>,
    status: PodStatus,
    over: bool,
    /// Name, manifest and records.
    earlier: Option<(&'static str, Value, Vec<Entry>)>,
    problems: Vec<String>,
    boot_id: String,
    job: Option<JobSays>,
    now: i64,
}

impl Story {
    fn new(spec: &str) -> Story {
        let text = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {{{spec}}}}}");
        let document = parse(&text, Format::Yaml).unwrap().remove(0);
        let policy = NodePolicy { start_gate: StartGate::Ready, crash_backoff: backoff::DEFAULT, host_ips: Vec::new() };
        let observed = Observed::new(at(0), document.spec.containers.len());
        let machine = Machine::new(document.spec.clone(), policy.clone(), observed, Memo::default());
        Story {
            document,
            machine,
            policy,
            entries: Vec::new(),
            status: PodStatus::default(),
            over: false,
            earlier: None,
            problems: Vec::new(),
            boot_id: "boot".to_owned(),
            job: None,
            now: 0,
        }
        .decide(0)
    }

    fn decide(mut self, now: i64) -> Story {
        self.now = now;
        let plan = self.machine.plan(at(now));
        self.status = plan.status;
        for step in plan.steps {
            if let Step::Start { container, attempt, .. } = step {
                let name = self.document.spec.containers[container].name.clone();
                self.entries.push(entry(&name, attempt, now));
            }
        }
        self.entries.sort_by(|a, b| (&a.container, a.attempt).cmp(&(&b.container, b.attempt)));
        self
    }

    fn event(mut self, now: i64, event: Event) -> Story {
        self.machine.apply(event, at(now));
        self.decide(now)
    }

    fn up(self, now: i64) -> Story {
        self.event(now, Event::SandboxReady { number: 1, created_at: at(now) })
    }

    fn index(&self, container: &str) -> usize {
        self.document.spec.containers.iter().position(|c| c.name == container).unwrap()
    }

    fn newest(&mut self, container: &str) -> &mut Entry {
        self.entries.iter_mut().rfind(|e| e.container == container).unwrap()
    }

    /// The newest instance of a container runs.
    fn runs(mut self, now: i64, container: &str) -> Story {
        self.newest(container).started_at = Some(at(now));
        self.told(now, container, InstanceState::Running { started_at: at(now) })
    }

    /// It ends.
    fn ends(mut self, now: i64, container: &str, outcome: Outcome) -> Story {
        let end = End {
            at: at(now),
            outcome: outcome.clone(),
            victim: None,
            figures: Figures::default(),
            tail: vec!["bye".into()],
        };
        self.newest(container).end = Some(end);
        let started_at = self.newest(container).started_at;
        self.told(now, container, InstanceState::Ended { started_at, finished_at: at(now), outcome })
    }

    fn told(self, now: i64, container: &str, state: InstanceState) -> Story {
        let index = self.index(container);
        let known = self.machine.observed().containers[index].instances.last().unwrap().clone();
        self.event(now, Event::Instance { container: index, instance: Instance { state, ..known } })
    }

    fn probed(mut self, now: i64, container: &str, kind: ProbeKind, outcome: ProbeOutcome) -> Story {
        let index = self.index(container);
        let attempt = self.machine.observed().containers[index].instances.last().unwrap().attempt;
        self = self.event(now, Event::Probed { container: index, attempt, kind, outcome });
        let health = self.machine.observed().containers[index].health.clone();
        self.newest(container).health = health;
        self
    }

    fn with(mut self, container: &str, change: impl FnOnce(&mut Entry)) -> Story {
        change(self.newest(container));
        self
    }

    fn tell(&self, container: Option<&str>) -> Explanation {
        let case = Case {
            spec: &self.document.spec,
            policy: &self.policy,
            observed: self.machine.observed(),
            status: &self.status,
            over: self.over,
            entries: &self.entries,
            manifest: &self.document.manifest,
            earlier: self.earlier.as_ref().map(|(name, manifest, entries)| Revision { name, manifest, entries }),
            file_problems: &self.problems,
            file: "/m/web.yaml",
            unwritten: &[],
            boot_id: &self.boot_id,
            job: self.job.as_ref().map(|says| Job { name: "nightly", says }),
            now: at(self.now),
        };
        explain(&case, container.map(|name| self.index(name)))
    }

    /// The situation, and every text that has to be in the answer.
    #[track_caller]
    fn check(&self, situation: Situation, said: &[&str]) -> Explanation {
        let explanation = self.tell(None);
        let text = text_of(&explanation);
        assert_eq!(explanation.situation, situation, "{text}");
        for part in said {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(text.lines().count() <= 40, "more than a screen:\n{text}");
        explanation
    }
}

pub(crate) fn text_of(e: &Explanation) -> String {
    let mut lines = vec![e.summary.clone()];
    lines.extend(e.details.clone());
    if let Some(end) = &e.last_end {
        lines.push(end.text.clone());
        lines.extend(end.asked.clone());
        lines.extend(end.output.iter().map(|line| format!("| {line}")));
    }
    lines.extend(e.figures.clone());
    lines.extend(e.changes.iter().map(|change| format!("changed: {change}")));
    lines.extend(e.advice.iter().map(|a| format!("do: {}: {}", a.text, a.with.as_deref().unwrap_or_default())));
    lines.extend(e.containers.iter().map(|c| format!("{} {} {}", c.name, c.role, c.text)));
    lines.extend(e.members.iter().map(|m| format!("{} {}", m.name, m.text)));
    lines.join("\n")
}

fn entry(container: &str, attempt: u32, requested: i64) -> Entry {
    Entry {
        container: container.to_owned(),
        attempt,
        sandbox: 1,
        boot_id: "boot".to_owned(),
        requested_at: at(requested),
        started_at: None,
        pre_stop_at: None,
        signaled_at: None,
        killed_at: None,
        cause: None,
        health: Health::default(),
        origin: Some(Origin { agent: "0.1.0".into(), image: "aa".into() }),
        end: None,
    }
}

fn exited(code: i32) -> Outcome {
    Outcome::Exited { code, oom: false }
}

fn fails(output: &str) -> ProbeOutcome {
    ProbeOutcome::Failure(output.to_owned())
}

const ONE: &str = "containers: [{name: app, image: i}]";
const PAIR: &str = "initContainers: [{name: proxy, image: i, restartPolicy: Always,
    readinessProbe: {exec: {command: [ready]}, periodSeconds: 1}}], containers: [{name: app, image: i}]";

#[test]
fn all_is_well() {
    let story = Story::new(ONE).up(1).runs(2, "app").decide(100);
    let told = story.check(Situation::Running, &["default/web: main app runs for 98 s and is ready"]);
    assert_eq!((told.last_end, told.advice, told.changes), (None, vec![], vec![]));
}

#[test]
fn it_is_being_set_up() {
    Story::new(ONE).check(Situation::Creating, &["its sandbox (cgroups, volumes, namespaces) is made"]);
    Story::new(ONE).up(1).check(Situation::Starting, &["main app is being started"]);
}

#[test]
fn the_sandbox_cannot_be_made() {
    let failed = Event::SandboxFailed { number: 1, message: "no space left on device".into() };
    Story::new(ONE).event(1, failed).check(
        Situation::SandboxFailed,
        &["no space left on device", "failed 1 time, tried again at 00:00:02 UTC, in 1 s", "journalctl -u podwright"],
    );
}

#[test]
fn the_sandbox_was_lost() {
    let story = Story::new(ONE).up(1).runs(2, "app");
    let story = story.with("app", |e| {
        e.end =
            Some(End { at: at(3), outcome: Outcome::Lost, victim: None, figures: Figures::default(), tail: vec![] });
        e.cause = Some(Cause { by: Asker::ShimDied, text: String::new() });
    });
    story.event(3, Event::SandboxGone { number: 1 }).check(
        Situation::SandboxFailed,
        &["SandboxChanged", "ended unseen", "the pod's shim died, and its processes with it"],
    );
}

#[test]
fn a_gate_holds_the_others_back() {
    let mut story = Story::new(PAIR).up(1).runs(2, "proxy");
    for n in 3..10 {
        story = story.probed(n, "proxy", ProbeKind::Readiness, fails("command exited with 1:\n connection  refused"));
    }
    let told = story.check(
        Situation::ProbePending,
        &[
            "sidecar proxy runs for 7 s and is not ready",
            "exec [\"ready\"], every 1 s",
            "7 failures in a row since 00:00:03 UTC, the last 0 s ago",
            "it said: command exited with 1: connection refused",
            "it holds back app",
            "podwright logs web -c proxy",
            "podwright.dev/sidecar-start-gate: Started",
            "app main waits for proxy",
        ],
    );
    assert_eq!(told.containers.len(), 2);
    // Asked about the one that waits, it leads to the one that holds it back.
    let told = story.tell(Some("app"));
    assert!(told.summary.ends_with("main app waits for proxy to become ready once (its gate)"), "{}", told.summary);
    assert!(told.details[0].contains("sidecar proxy runs for 7 s and is not ready"), "{:?}", told.details);
    assert_eq!(told.advice[0].with.as_deref(), Some("podwright logs web -c proxy"));
}

#[test]
fn an_init_is_at_work_or_fails() {
    let spec = "initContainers: [{name: setup, image: i}], containers: [{name: app, image: i}]";
    let story = Story::new(spec).up(1).runs(2, "setup").decide(12);
    story.check(Situation::Initializing, &["init setup is at work for 10 s", "it holds back app"]);
    let story = story.ends(13, "setup", exited(127)).runs(13, "setup").ends(14, "setup", exited(127));
    story.check(
        Situation::CrashLoop,
        &[
            "init setup keeps ending: it left with 127 (command not found)",
            "it starts again at 00:00:24 UTC, in 10 s",
            "spec.initContainers[setup].command",
        ],
    );
}

#[test]
fn an_image_is_missing() {
    let story = Story::new(ONE).up(1);
    let failed = Event::StartFailed {
        container: 0,
        attempt: 0,
        reason: "ErrImagePull".into(),
        message: "no bundle \"i\" in /b".into(),
    };
    story.event(2, failed).check(
        Situation::ImageUnavailable,
        &[
            "cannot be started: ErrImagePull",
            "no bundle \"i\" in /b",
            "tried 1 time, again at 00:00:12 UTC, in 10 s",
            "spec.containers[app].image",
        ],
    );
}

#[test]
fn the_configuration_or_a_volume_is_wrong() {
    for (reason, message) in
        [("CreateContainerConfigError", "no runtime \"x\""), ("CreateContainerError", "subPath \"a\": not a directory")]
    {
        let failed = Event::StartFailed { container: 0, attempt: 0, reason: reason.into(), message: message.into() };
        Story::new(ONE)
            .up(1)
            .event(2, failed)
            .check(Situation::ConfigError, &[reason, message, "podwright restart web"]);
    }
}

#[test]
fn it_keeps_crashing() {
    let story = Story::new(ONE).up(1).runs(1, "app").ends(3, "app", exited(1)).runs(3, "app").ends(8, "app", exited(3));
    story.check(
        Situation::CrashLoop,
        &[
            "main app keeps ending: it left with 3 after 5 s, 0 s ago",
            "it starts again at 00:00:18 UTC, in 10 s, the back-off of 10 s",
            "run 1: it left with 3",
            "nobody asked: it left by itself",
            "| bye",
            "do: all that it wrote: podwright logs web -c app",
            "to end the back-off: podwright restart web",
        ],
    );
}

#[test]
fn it_ends_well_again_and_again() {
    let story = Story::new(ONE).up(1).runs(1, "app").ends(3, "app", exited(0)).runs(3, "app").ends(8, "app", exited(0));
    story.check(Situation::CrashLoop, &["left with 0", "spec.restartPolicy: OnFailure"]);
}

#[test]
fn the_command_cannot_be_executed() {
    let outcome = Outcome::StartFailed { by_runtime: true, message: "exec \"servr\": no such file".into() };
    let story = Story::new(ONE).up(1).ends(1, "app", outcome.clone()).ends(2, "app", outcome);
    story.check(Situation::StartError, &["could not be started: exec \"servr\"", "spec.containers[app].command"]);
}

fn oom(limit: OomLimit, first_process: bool) -> impl FnOnce(&mut Entry) {
    move |entry| {
        let end = entry.end.as_mut().unwrap();
        end.victim = Some(Victim { pid: 77, name: "eater".into(), first_process, limit });
        end.figures =
            Figures { memory_peak: Some(64 << 20), oom_kills: Some(2), memory_max_hits: Some(9), ..Figures::default() };
    }
}

#[test]
fn it_runs_out_of_memory() {
    let spec = "containers: [{name: app, image: i, resources: {limits: {memory: 64Mi}}}]";
    let killed = Outcome::Signaled { signal: 9, oom: true };
    let story =
        Story::new(spec).up(1).runs(1, "app").ends(2, "app", killed.clone()).runs(2, "app").ends(5, "app", killed);
    story.with("app", oom(OomLimit::Container, true)).check(
        Situation::OutOfMemory,
        &[
            "was killed for memory (OOMKilled)",
            "the container's memory limit was reached, and the kernel chose eater (pid 77, its first process)",
            "nobody asked: the kernel killed it for memory",
            "memory: peak 64 MiB, limit 64 MiB, limit met 9 times, 2 processes killed",
            "spec.containers[app].resources.limits.memory: 96Mi",
        ],
    );
    let killed = Outcome::Signaled { signal: 9, oom: true };
    let story =
        Story::new(spec).up(1).runs(1, "app").ends(2, "app", killed.clone()).runs(2, "app").ends(5, "app", killed);
    let text = "the container's memory limit, which is its pod's as well, was reached, and the kernel chose eater";
    story.with("app", oom(OomLimit::Above, true)).check(Situation::OutOfMemory, &[text]);
    let killed = Outcome::Exited { code: 1, oom: true };
    let story =
        Story::new(ONE).up(1).runs(1, "app").ends(2, "app", killed.clone()).runs(2, "app").ends(5, "app", killed);
    story.with("app", oom(OomLimit::Node, false)).check(
        Situation::OutOfMemory,
        &["the machine had no memory left", "which is not its first process", "run less on it"],
    );
}

#[test]
fn a_startup_probe_stops_it() {
    let spec = "containers: [{name: app, image: i, startupProbe: {tcpSocket: {port: 80}, failureThreshold: 2}}]";
    let mut story = Story::new(spec).up(1).runs(2, "app");
    story.check(
        Situation::ProbePending,
        &["startupProbe has not succeeded yet", "tcp :80, every 10 s", "not failed yet"],
    );
    for n in [3, 13] {
        story = story.probed(n, "app", ProbeKind::Startup, fails("connection refused"));
    }
    let cause = Cause { by: Asker::StartupProbe, text: "connection refused".into() };
    let story = story.with("app", |e| (e.signaled_at, e.cause) = (Some(at(13)), Some(cause.clone()))).decide(14);
    story.check(Situation::ProbeFailed, &["got its stop signal 1 s ago: its startupProbe failed: connection refused"]);
    let story =
        story.with("app", |e| e.killed_at = Some(at(43))).ends(43, "app", Outcome::Signaled { signal: 9, oom: false });
    let story = story.runs(43, "app").probed(44, "app", ProbeKind::Startup, fails("no")).probed(
        54,
        "app",
        ProbeKind::Startup,
        fails("no"),
    );
    let story =
        story.with("app", |e| (e.signaled_at, e.killed_at, e.cause) = (Some(at(54)), Some(at(84)), Some(cause)));
    // Restarts that a probe has caused wait for nothing at first.
    story.ends(84, "app", Outcome::Signaled { signal: 9, oom: false }).check(
        Situation::Starting,
        &[
            "was ended by SIGKILL (exit code 137)",
            "its startupProbe failed: connection refused; it did not leave within 30 s and got SIGKILL",
        ],
    );
}

#[test]
fn it_is_not_ready() {
    let spec = "containers: [{name: app, image: i, readinessProbe: {httpGet: {path: /z, port: 80}}}]";
    let story = Story::new(spec).up(1).runs(2, "app").probed(3, "app", ProbeKind::Readiness, fails("HTTP status 503"));
    story.check(
        Situation::NotReady,
        &["main app runs for 1 s and is not ready", "http GET :80/z", "1 failure in a row", "HTTP status 503"],
    );
}

fn owner_removes() -> Event {
    let cause = Cause { by: Asker::Owner, text: "it is suspended".into() };
    Event::Delete { cause, grace: None }
}

#[test]
fn who_stops_it_is_known_when_it_is_told() {
    let cause = |story: &Story| {
        let mut machine = story.machine.clone();
        machine.plan(at(story.now));
        let cause = machine.observed().containers[0].instances.last().unwrap().cause.clone().unwrap();
        (Asker::of_name(cause.by.name()), cause.text)
    };
    let running = |spec: &str| Story::new(spec).up(1).runs(2, "app");
    let stories = [
        (running(ONE).event(5, Event::Delete { cause: Asker::User.into(), grace: None }), Asker::User, ""),
        (running(ONE).event(5, owner_removes()), Asker::Owner, "it is suspended"),
        (running(ONE).event(5, Event::Restart), Asker::Restart, ""),
        (running(ONE).event(5, Event::Evict { message: "full".into() }), Asker::Eviction, "full"),
        (running("activeDeadlineSeconds: 3, containers: [{name: app, image: i}]").decide(9), Asker::Deadline, ""),
        (
            running("containers: [{name: app, image: i, startupProbe: {tcpSocket: {port: 1}, failureThreshold: 1}}]")
                .probed(9, "app", ProbeKind::Startup, fails("refused")),
            Asker::StartupProbe,
            "refused",
        ),
    ];
    for (story, by, text) in stories {
        assert_eq!(cause(&story), (by, text.to_owned()));
    }
}

#[test]
fn it_is_being_stopped() {
    let story = Story::new(PAIR).up(1).runs(2, "proxy").probed(3, "proxy", ProbeKind::Readiness, ProbeOutcome::Success);
    let story = story.runs(4, "app").event(10, Event::Delete { cause: Asker::ManifestRemoved.into(), grace: None });
    story.decide(12).check(
        Situation::Stopping,
        &[
            "default/web is being stopped: its manifest was removed from the directory, 2 s ago",
            "app (main) got its stop signal 2 s ago; what is left of it gets SIGKILL at 00:00:40 UTC, in 28 s",
            "proxy (sidecar) waits for its turn",
        ],
    );
}

/// Ends a story the way a pod that is over is known.
fn over(mut story: Story, now: i64) -> Story {
    story = story.event(now, Event::SandboxGone { number: 1 });
    story.over = true;
    story
}

#[test]
fn it_is_over() {
    let job = "restartPolicy: Never, containers: [{name: app, image: i}]";
    let story = over(Story::new(job).up(1).runs(2, "app").ends(9, "app", exited(0)), 10);
    story.check(Situation::Succeeded, &["default/web is done: its main containers left with 0"]);
    let story = over(Story::new(job).up(1).runs(2, "app").ends(9, "app", exited(4)), 10);
    story.check(
        Situation::Failed,
        &["default/web failed", "app left with 4 after 7 s", "| bye", "podwright restart web"],
    );
    let spec = "restartPolicy: Never, initContainers: [{name: setup, image: i}], containers: [{name: app, image: i}]";
    let story = over(Story::new(spec).up(1).runs(2, "setup").ends(9, "setup", exited(4)), 10);
    story.check(Situation::Failed, &["setup left with 4", "app main was never started"]);
}

#[test]
fn its_time_was_up() {
    let spec = "activeDeadlineSeconds: 5, containers: [{name: app, image: i}]";
    let cause = Cause { by: Asker::Deadline, text: String::new() };
    let story = Story::new(spec).up(1).runs(2, "app").decide(5).decide(6);
    story.check(Situation::Stopping, &["its activeDeadlineSeconds (5) were over 1 s ago"]);
    let story = story.with("app", |e| (e.signaled_at, e.cause) = (Some(at(5)), Some(cause)));
    let story = over(story.ends(7, "app", Outcome::Signaled { signal: 15, oom: false }), 8);
    story.check(
        Situation::DeadlineExceeded,
        &[
            "took too long",
            "the pod's activeDeadlineSeconds were over",
            "was ended by SIGTERM (exit code 143)",
            "spec.activeDeadlineSeconds",
        ],
    );
}

#[test]
fn a_volume_was_full() {
    let story =
        Story::new(ONE).up(1).runs(2, "app").event(5, Event::Evict { message: "volume \"cache\" holds 3Mi".into() });
    story.check(Situation::Stopping, &["volume \"cache\" holds 3Mi"]);
    let story = over(story.ends(7, "app", Outcome::Signaled { signal: 15, oom: false }), 8);
    story.check(Situation::Evicted, &["was evicted", "emptyDir.sizeLimit"]);
}

#[test]
fn it_was_removed() {
    for (by, said) in [(Asker::User, "edit /m/web.yaml"), (Asker::ManifestRemoved, "put its manifest back")] {
        let story = Story::new(ONE).up(1).runs(2, "app").event(5, Event::Delete { cause: by.into(), grace: None });
        let story = over(story.ends(6, "app", exited(1)), 7);
        story.check(Situation::Removed, &["default/web was removed, and ended", said]);
    }
    let story = Story::new(ONE).up(1).runs(2, "app").event(5, owner_removes());
    let mut story = over(story.ends(6, "app", exited(1)), 7);
    story.job = Some(JobSays::Says("default/nightly is suspended".into()));
    let told = story.check(
        Situation::Removed,
        &["its job does not want it any more: it is suspended", "its job: default/nightly is suspended"],
    );
    assert!(!text_of(&told).contains("put its manifest back"), "a job's pod has none: {}", text_of(&told));
}

#[test]
fn the_file_has_a_problem_and_an_older_content_runs() {
    let mut story = Story::new(ONE).up(1).runs(2, "app").decide(9);
    story.problems = vec!["web.yaml:6: spec.containers[0].imagee: unknown field".into()];
    story.check(
        Situation::Running,
        &[
            "/m/web.yaml has a problem, so an older content of it is in force",
            "imagee",
            "podwright validate /m/web.yaml",
        ],
    );
}

/// A pod of one container that crashes, after an earlier run of it.
fn crashing(mut story: Story) -> Story {
    story = story.up(1).runs(1, "app").ends(100, "app", exited(1));
    story = story.runs(100, "app").ends(101, "app", exited(1));
    story
}

#[test]
fn what_changed_is_told() {
    // The run of 99 seconds worked; nothing that podwright knows of is different now.
    let story = crashing(Story::new(ONE));
    story.check(
        Situation::CrashLoop,
        &["changed: nothing that podwright knows of since it last worked (run 0, which ended 1 s ago)"],
    );
    let story = story.with("app", |e| {
        e.origin = Some(Origin { agent: "0.2.0".into(), image: "bb".into() });
        e.boot_id = "later".into();
    });
    story.check(
        Situation::CrashLoop,
        &[
            "changed: the image: its bundle was replaced or edited (run 0",
            "changed: podwright: 0.1.0 -> 0.2.0",
            "changed: the machine was restarted",
        ],
    );
    // An earlier pod of the name worked, with another manifest.
    let crash = |spec: &str| {
        Story::new(spec).up(1).runs(1, "app").ends(2, "app", exited(1)).runs(2, "app").ends(3, "app", exited(1))
    };
    let mut story = crash(ONE);
    let mut good = entry("app", 4, -500);
    good.started_at = Some(at(-500));
    good.end = Some(End { at: at(-10), outcome: exited(143), victim: None, figures: Figures::default(), tail: vec![] });
    let h = json!({"spec": {"containers": [{"name": "app", "image": "h"}]}});
    story.earlier = Some(("web", h, vec![good.clone()]));
    story.check(
        Situation::CrashLoop,
        &["changed: spec.containers[app].image: \"h\" -> \"i\" (run 4, which ended 13 s ago)"],
    );
    // Of a job's pod it is another one, which had another index.
    let env = json!([{"name": "JOB_COMPLETION_INDEX", "value": "7"}]);
    let pod = json!({"spec": {"hostname": "j-7", "containers": [{"name": "app", "image": "h", "env": env}]}});
    let mut story = crash(&ONE.replace("image: i", "image: i, env: [{name: JOB_COMPLETION_INDEX, value: '3'}]"));
    (story.earlier, story.job) = (Some(("j-7-abcde", pod, vec![good])), Some(JobSays::Asks));
    let told = story.check(
        Situation::CrashLoop,
        &["changed: spec.containers[app].image: \"h\" -> \"i\" (pod j-7-abcde, which ended 13 s ago)"],
    );
    assert_eq!(told.changes.len(), 1, "{told:?}");
}

#[test]
fn figures_are_told_when_they_say_something() {
    let spec = "containers: [{name: app, image: i, resources: {limits: {cpu: 100m, memory: 100Mi}}}]";
    let story = crashing(Story::new(spec));
    assert_eq!(story.tell(None).figures, [""; 0]);
    let story = story.with("app", |e| {
        e.end.as_mut().unwrap().figures = Figures {
            memory_peak: Some(90 << 20),
            cpu: Some(CpuTime { usage_us: 100_000, periods: 10, throttled: 8, throttled_us: 800_000 }),
            cpu_pressure: Some((700_000, 0)),
            io_pressure: Some((1000, 1000)),
            pids_refused: Some(3),
            pids_peak: Some(64),
            ..Figures::default()
        };
    });
    assert_eq!(
        story.tell(None).figures,
        [
            "memory: peak 90 MiB, limit 100 MiB",
            "cpu: throttled in 80 % of its 100 ms periods (waited 0.8 s in all), limit 100m, used 0.1 s in 1 s",
            "pressure: 70 % of its life some of it waited for the CPU (0.7 s)",
            "processes: 3 forks refused (podPidsLimit), at most 64 at a time",
        ]
    );
}

/// Its main lives with a liveness probe, and has hooks.
const HOOKED: &str = "terminationGracePeriodSeconds: 30, containers: [{name: app, image: i, \
    livenessProbe: {httpGet: {port: 80, path: /healthz}, periodSeconds: 10, failureThreshold: 3}, \
    lifecycle: {postStart: {exec: {command: [warm-up]}}, preStop: {exec: {command: [drain, --all]}}}}, {name: log, image: i}]";

#[test]
fn a_post_start_hook_that_runs_is_told() {
    let story = Story::new(HOOKED).up(1).runs(2, "app").decide(9);
    let told = story.check(
        Situation::HookPending,
        &[
            "default/web: main app has started, and its postStart hook is not through",
            "postStart hook: exec [\"warm-up\"], runs since 00:00:02 UTC (7 s)",
            "it has no time limit: what is started after it waits as long as it takes",
            "if the hook hangs: spec.containers[app].lifecycle.postStart",
        ],
    );
    assert_eq!(told.containers[0].text, "started, its postStart hook runs for 7 s");
    assert_eq!(told.containers[1].text, "waits for app");
    let told = story.tell(Some("log"));
    assert_eq!(told.situation, Situation::HookPending);
    assert_eq!(told.summary, "default/web: main log waits for app to be through with its postStart hook");
    let sleeps = HOOKED.replace("exec: {command: [warm-up]}", "sleep: {seconds: 20}");
    let story = Story::new(&sleeps).up(1).runs(2, "app").decide(9);
    story.check(Situation::HookPending, &["postStart hook: sleep 20 s", "it ends at 00:00:22 UTC, in 13 s"]);
}

/// The app's postStart hook is through.
fn hooked() -> Story {
    let story = Story::new(HOOKED).up(1).runs(2, "app");
    let kind = super::super::observe::HookKind::PostStart;
    story.event(3, Event::Hooked { container: 0, attempt: 0, kind, failure: None }).runs(3, "log")
}

#[test]
fn a_stop_that_waits_for_a_pre_stop_hook_says_so() {
    let story = hooked().event(10, Event::Delete { cause: Asker::User.into(), grace: None }).decide(14);
    let told = story.check(
        Situation::Stopping,
        &[
            "app (main) is not told to stop before its preStop hook is through",
            "  preStop hook: exec [\"drain\", \"--all\"], runs since 00:00:10 UTC (4 s)",
            "the stop signal follows when it is through, at the latest at 00:00:40 UTC, in 26 s (end of the grace period)",
            "log (main) got its stop signal 4 s ago",
        ],
    );
    assert_eq!(told.containers[0].text, "is to stop, its preStop hook runs for 4 s");
    let sleeps = HOOKED
        .replace("exec: {command: [drain, --all]}", "sleep: {seconds: 8}")
        .replace("postStart: {exec: {command: [warm-up]}}, ", "");
    let story = Story::new(&sleeps)
        .up(1)
        .runs(2, "app")
        .event(10, Event::Delete { cause: Asker::User.into(), grace: None })
        .decide(14);
    story.check(
        Situation::Stopping,
        &["preStop hook: sleep 8 s", "it ends at 00:00:18 UTC, in 4 s, and the stop signal follows"],
    );
}

/// A pod that looks well may be one that nobody looks after.
#[test]
fn a_probe_that_cannot_be_tried_is_told() {
    let error = ProbeOutcome::Error("exec: no such file".to_owned());
    let story = hooked().probed(10, "app", ProbeKind::Liveness, error).decide(12);
    let line = "the livenessProbe of app could not be run, and counts for nothing: exec: no such file";
    story.check(Situation::Running, &["2 of 2 containers are ready", line]);
    let again = story.probed(20, "app", ProbeKind::Liveness, ProbeOutcome::Success).decide(21);
    assert!(!text_of(&again.tell(None)).contains("could not be run"));
}

#[test]
fn a_liveness_probe_that_begins_to_fail_is_told_before_it_ends_the_container() {
    let mut story = hooked().probed(10, "app", ProbeKind::Liveness, fails("statuscode: 500"));
    let told = story.decide(12);
    let answer = told.check(
        Situation::ProbeFailing,
        &[
            "default/web: main app runs for 10 s and is ready, but its livenessProbe fails",
            "livenessProbe: http GET :80/healthz, every 10 s",
            "1 failure in a row since 00:00:10 UTC",
            "it said: statuscode: 500",
            "1 of 3 (failureThreshold): if that goes on, it is stopped and started again at",
            "spec.containers[app].livenessProbe",
        ],
    );
    assert_eq!(answer.containers[0].text, "runs for 10 s, ready, livenessProbe fails");
    story = told.probed(20, "app", ProbeKind::Liveness, ProbeOutcome::Success).decide(21);
    assert_eq!(story.tell(None).situation, Situation::Running, "it is well again: {}", text_of(&story.tell(None)));
    // Its own stop waits for the hook as well.
    for at in [30, 40, 50] {
        story = story.probed(at, "app", ProbeKind::Liveness, fails("statuscode: 500"));
    }
    story.decide(52).check(
        Situation::ProbeFailed,
        &["main app is to stop, and waits for its preStop hook", "at the latest at 00:01:20 UTC, in 28 s"],
    );
}

#[test]
fn a_container_can_be_asked_about_alone() {
    let story = crashing(Story::new(PAIR).up(1).runs(1, "proxy").probed(
        1,
        "proxy",
        ProbeKind::Readiness,
        ProbeOutcome::Success,
    ));
    let told = story.tell(Some("proxy"));
    assert_eq!((told.situation, told.container.as_deref()), (Situation::Running, Some("proxy")));
    let told = story.tell(None);
    assert_eq!((told.situation, told.container.as_deref()), (Situation::CrashLoop, Some("app")));
}

#[test]
fn a_recent_end_is_told_of_a_pod_that_runs_again() {
    let pair = Story::new(PAIR).up(1).runs(1, "proxy").probed(1, "proxy", ProbeKind::Readiness, ProbeOutcome::Success);
    let pair = pair.runs(2, "app").ends(3, "app", exited(9)).runs(3, "app").decide(9);
    assert!(text_of(&pair.tell(None)).contains("run 0: it left with 9"), "{}", text_of(&pair.tell(None)));
    let story = Story::new(ONE).up(1).runs(1, "app").ends(3, "app", exited(1)).runs(3, "app").decide(300);
    let told = story.check(Situation::Running, &["run 0: it left with 1 after 2 s"]);
    assert!(told.last_end.is_some());
    assert_eq!(story.decide(2000).tell(None).last_end, None);
}

#[test]
fn a_pod_of_a_job_leads_to_its_job() {
    let mut story = crashing(Story::new(ONE));
    assert!(text_of(&story.tell(None)).contains("podwright restart web"));
    story.job = Some(JobSays::Says("default/nightly is at work".into()));
    let told = story.check(
        Situation::CrashLoop,
        &["its job: default/nightly is at work", "what that makes of it: podwright why job/nightly"],
    );
    assert_eq!(told.owner.as_deref(), Some("job/nightly"));
    assert!(!text_of(&told).contains("podwright restart"), "it is refused for a job's pod: {}", text_of(&told));
    story.job = Some(JobSays::Gone);
    story.check(Situation::CrashLoop, &["its job was nightly, which is gone"]);
    story.job = Some(JobSays::Asks);
    assert!(!text_of(&story.tell(None)).contains("nightly"));
}

#[test]
fn what_is_not_there_is_searched_for() {
    let known = Known {
        names: vec![
            (Kind::Pod, "default".into(), "web".into()),
            (Kind::Pod, "other".into(), "wbe".into()),
            (Kind::CronJob, "default".into(), "nightly".into()),
        ],
        rejected: vec![("/m/wbe.yaml".into(), vec!["wbe.yaml:3: spec: required".into()])],
        retention: "7 d, 1000 at most".into(),
        directory: "/m".into(),
    };
    let told = missing(Kind::Pod, "default", "wbe", &known);
    assert_eq!((told.situation, told.summary.as_str()), (Situation::Rejected, "there is no pod default/wbe"));
    let text = text_of(&told);
    for part in [
        "podwright why wbe -n other",
        "did you mean web?",
        "/m/wbe.yaml is rejected",
        "spec: required",
        "podwright validate /m/wbe.yaml",
        "pods come from /m; ended ones are remembered for 7 d, 1000 at most",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    let told = missing(Kind::Pod, "default", "database", &Known::default());
    assert_eq!(told.situation, Situation::NotFound);
    for (kind, text) in [(Kind::Pod, true), (Kind::CronJob, true), (Kind::Job, false)] {
        let told = text_of(&missing(kind, "default", "nihgtly", &known));
        assert_eq!(told.contains("did you mean nightly?: podwright why cronjob/nightly"), text, "{kind}: {told}");
    }
    let text = text_of(&missing(Kind::Job, "default", "x", &Known::default()));
    assert!(text.contains("there is no job default/x") && text.contains("podwright get jobs -A"), "{text}");
    assert!(text_of(&told).contains("podwright get pods -A --all"));
}

#[test]
fn it_goes_over_the_wire_as_it_is() {
    let told = crashing(Story::new(ONE)).tell(None);
    let text = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), told);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((value["situation"].as_str(), value["lastEnd"]["attempt"].as_u64()), (Some("CrashLoop"), Some(1)));
}

#[test]
fn what_is_missing_in_a_log_is_said() {
    let mut story = Story::new("containers: [{name: app, image: i}]").up(1).decide(1).runs(2, "app");
    let mut instance = story.machine.observed().containers[0].instances.last().unwrap().clone();
    let mut said = |ongoing| {
        let error = "No space left on device".to_owned();
        instance.log_lost = Some(LogLoss { lines: 7, bytes: 99, first: at(60), last: at(65), error, ongoing });
        story.machine.apply(Event::Instance { container: 0, instance: instance.clone() }, at(70));
        story.tell(None).details.into_iter().filter(|detail| detail.contains("log")).collect::<Vec<_>>()
    };
    let from = "7 (99 bytes), from 00:01:00 UTC to 00:01:05 UTC: No space left on device";
    assert_eq!(said(true), [format!("lines of the log of app are being lost, so far {from}")]);
    assert_eq!(said(false), [format!("lines of the log of app were lost, {from}")]);
}
