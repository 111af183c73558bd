//! What depends on the moment at which the agent sees something.

use super::*;
use crate::ledger::{Asker, Cause, LogLoss};
use crate::manifest::{Format, parse};
use crate::pod::backoff;
use crate::pod::spec::StartGate;

fn at(seconds: u64) -> Time {
    Time(0) + Duration::from_secs(seconds)
}

fn spec(rest: &str) -> PodSpec {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{restartPolicy: Never, {rest}, \
         terminationGracePeriodSeconds: 10, initContainers: [{{name: side, image: i, restartPolicy: Always}}], \
         containers: [{{name: app, image: i}}]}}}}"
    );
    parse(&text, Format::Yaml).unwrap().remove(0).spec
}

fn instance(attempt: u32, started: u64, ended: Option<u64>) -> Instance {
    let started_at = at(started);
    let state = ended.map_or(InstanceState::Running { started_at }, |end| InstanceState::Ended {
        started_at: Some(started_at),
        finished_at: at(end),
        outcome: Outcome::Exited { code: 0, oom: false },
    });
    Instance { state, ..Instance::starting(attempt, 1, Duration::ZERO, started_at) }
}

const fn signal(container: usize, by: Asker) -> Step {
    Step::Signal { container, attempt: 0, cause: Cause { by, text: String::new() } }
}

/// A sidecar that runs and a main that does, or did, in a sandbox of second 0, taken up at a moment.
fn machine(spec: PodSpec, main: Instance, taken_up_at: Time) -> Machine {
    let policy = NodePolicy { start_gate: StartGate::Ready, crash_backoff: backoff::DEFAULT, host_ips: Vec::new() };
    let mut observed = Observed::new(at(0), 2);
    observed.taken_up_at = taken_up_at;
    observed.sandbox = Sandbox::Ready { number: 1, created_at: at(0) };
    observed.containers[0].instances.push(instance(0, 0, None));
    observed.containers[1].instances.push(main);
    Machine::new(spec, policy, observed, Memo::default())
}

const STOP_SIDECAR: Step = signal(0, Asker::Completion);
const KILL_SIDECAR: Step = Step::Kill { container: 0, attempt: 0 };

#[test]
fn grace_does_not_run_while_nobody_is_there_to_stop_anything() {
    let mut machine = machine(spec("hostNetwork: true"), instance(0, 0, Some(5)), at(100));
    let plan = machine.plan(at(100));
    assert_eq!((plan.steps, plan.wake_at), (vec![STOP_SIDECAR], Some(at(110))));
    assert_eq!(machine.plan(at(109)).steps, []);
    assert_eq!(machine.plan(at(110)).steps, [KILL_SIDECAR]);
}

#[test]
fn a_stop_that_had_begun_goes_on_within_its_grace() {
    let mut machine = machine(spec("hostNetwork: true"), instance(0, 0, Some(5)), at(12));
    machine.observed.containers[0].instances[0].signaled_at = Some(at(6));
    assert_eq!(machine.plan(at(12)).wake_at, Some(at(16)));
    assert_eq!(machine.plan(at(16)).steps, [KILL_SIDECAR]);
}

#[test]
fn a_deadline_set_in_the_past_passes_now() {
    let mut machine = machine(spec("activeDeadlineSeconds: 600"), instance(0, 0, None), at(0));
    assert_eq!(machine.plan(at(50)).steps, []);
    machine.update(spec("activeDeadlineSeconds: 7"), at(50));
    let plan = machine.plan(at(50));
    assert_eq!((plan.steps, plan.wake_at), (vec![signal(1, Asker::Deadline)], Some(at(60))));
}

#[test]
fn a_restart_while_the_deadline_ends_the_pod_gives_it_another() {
    let mut machine = machine(spec("activeDeadlineSeconds: 7"), instance(0, 0, Some(8)), at(0));
    machine.apply(Event::Instance { container: 0, instance: instance(0, 0, Some(9)) }, at(9));
    assert_eq!(machine.plan(at(9)).steps, [Step::RemoveSandbox { number: 1, last: true }]);
    machine.apply(Event::Restart, at(9));
    machine.apply(Event::SandboxGone { number: 1 }, at(10));
    let plan = machine.plan(at(10));
    assert_eq!((plan.steps, plan.finished), (vec![Step::CreateSandbox { number: 2 }], false));
    assert_eq!(plan.wake_at, Some(at(16)));
}

#[test]
fn what_does_not_end_after_sigkill_goes_with_its_sandbox() {
    let mut machine = machine(spec("hostNetwork: true"), instance(0, 0, Some(5)), at(0));
    machine.plan(at(5));
    let plan = machine.plan(at(15));
    assert_eq!((plan.steps, plan.wake_at), (vec![KILL_SIDECAR], None));
    assert_eq!(machine.plan(at(16)).wake_at, Some(at(45)));
    assert_eq!(machine.plan(at(45)).steps, [Step::RemoveSandbox { number: 1, last: true }]);
    machine.apply(Event::SandboxGone { number: 1 }, at(46));
    assert!(machine.plan(at(46)).finished);
}

#[test]
fn a_crash_loop_is_known_by_its_first_and_newest_instances() {
    let mut machine = machine(spec("hostNetwork: true"), instance(0, 0, None), at(0));
    for attempt in 1..1000 {
        let ended = Some(u64::from(attempt));
        machine.apply(Event::Instance { container: 0, instance: instance(attempt, 0, ended) }, at(1));
    }
    let known: Vec<u32> = machine.observed.containers[0].instances.iter().map(|i| i.attempt).collect();
    assert_eq!(known, [0, 990, 991, 992, 993, 994, 995, 996, 997, 998, 999]);
    let status = machine.plan(at(1000)).status;
    let sidecar = &status.init_container_statuses.unwrap()[0];
    assert_eq!(sidecar.restart_count, 999);
}

#[test]
fn a_start_that_may_still_be_refused_is_no_restart() {
    let mut machine = machine(spec("hostNetwork: true"), instance(0, 0, Some(5)), at(0));
    let count = |machine: &mut Machine, now| {
        machine.plan(now).status.init_container_statuses.map(|statuses| statuses[0].restart_count)
    };
    assert_eq!(count(&mut machine, at(5)), Some(0));
    let starting = Instance { state: InstanceState::Starting, ..instance(1, 6, None) };
    machine.apply(Event::Instance { container: 0, instance: starting }, at(6));
    assert_eq!(count(&mut machine, at(6)), Some(0));
    let (reason, message) = ("CreateContainerError".to_owned(), "no space left on device".to_owned());
    machine.apply(Event::StartFailed { container: 0, attempt: 1, reason, message }, at(7));
    assert_eq!(count(&mut machine, at(7)), Some(0));
    machine.apply(Event::Instance { container: 0, instance: instance(1, 8, None) }, at(9));
    assert_eq!(count(&mut machine, at(9)), Some(1));
}

/// A main alone, that has run since second 0.
fn alone(rest: &str) -> Machine {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 10, \
         restartPolicy: OnFailure, containers: [{{name: app, image: i, {rest}}}]}}}}"
    );
    let spec = parse(&text, Format::Yaml).unwrap().remove(0).spec;
    let policy = NodePolicy { start_gate: StartGate::Ready, crash_backoff: backoff::DEFAULT, host_ips: Vec::new() };
    let mut observed = Observed::new(at(0), 1);
    observed.sandbox = Sandbox::Ready { number: 1, created_at: at(0) };
    observed.containers[0].instances.push(instance(0, 0, None));
    Machine::new(spec, policy, observed, Memo::default())
}

fn probed(machine: &mut Machine, kind: ProbeKind, outcome: ProbeOutcome, now: u64) {
    machine.apply(Event::Probed { container: 0, attempt: 0, kind, outcome }, at(now));
}

fn cause(by: Asker, text: &str) -> Cause {
    Cause { by, text: text.to_owned() }
}

const PRE_STOP: Step = Step::Hook { container: 0, attempt: 0, kind: HookKind::PreStop, cause: None };

/// Steps without their causes.
fn steps(plan: Plan) -> Vec<Step> {
    let strip = |step| match step {
        Step::Hook { container, attempt, kind, .. } => Step::Hook { container, attempt, kind, cause: None },
        other => other,
    };
    plan.steps.into_iter().map(strip).collect()
}

#[test]
fn a_failed_liveness_probe_stops_with_its_own_grace_after_the_hook() {
    let mut machine = alone(
        "livenessProbe: {exec: {command: [x]}, failureThreshold: 1, terminationGracePeriodSeconds: 5}, \
         lifecycle: {preStop: {exec: {command: [x]}}}",
    );
    let live = Step::Probe { container: 0, attempt: 0, kind: ProbeKind::Liveness };
    assert_eq!(machine.plan(at(0)).steps, std::slice::from_ref(&live));
    probed(&mut machine, ProbeKind::Liveness, ProbeOutcome::Failure("dead".into()), 1);
    let plan = machine.plan(at(1));
    let why = cause(Asker::LivenessProbe, "dead");
    let begun = Step::Hook { container: 0, attempt: 0, kind: HookKind::PreStop, cause: Some(why.clone()) };
    assert_eq!((plan.steps, plan.wake_at), (vec![begun], Some(at(6))));
    // Neither another hook nor another probe.
    assert_eq!(machine.plan(at(5)).steps, []);
    // The hook is cut at the end of the grace; then there are the two seconds.
    assert_eq!(machine.plan(at(6)).steps, [Step::Signal { container: 0, attempt: 0, cause: why }]);
    assert_eq!(machine.plan(at(7)).steps, []);
    assert_eq!(machine.plan(at(8)).steps, [Step::Kill { container: 0, attempt: 0 }]);
    // Whatever its code says, it is restarted, and at once.
    let mut ended = machine.observed.containers[0].instances[0].clone();
    ended.state = instance(0, 0, Some(9)).state;
    machine.apply(Event::Instance { container: 0, instance: ended }, at(9));
    let delay = Duration::ZERO;
    assert_eq!(machine.plan(at(9)).steps, [Step::Start { container: 0, attempt: 1, restart_delay: delay }]);
}

#[test]
fn a_deletion_takes_over_from_a_probe() {
    let mut machine = alone(
        "livenessProbe: {exec: {command: [x]}, failureThreshold: 1, terminationGracePeriodSeconds: 2}, \
         lifecycle: {preStop: {exec: {command: [x]}}}",
    );
    machine.plan(at(0));
    probed(&mut machine, ProbeKind::Liveness, ProbeOutcome::Failure(String::new()), 1);
    assert_eq!(steps(machine.plan(at(1))), [PRE_STOP]);
    machine.apply(Event::Delete { cause: Asker::User.into(), grace: None }, at(2));
    assert_eq!(machine.plan(at(4)).steps, []);
    let signals = machine.plan(at(12)).steps;
    assert!(matches!(signals[..], [Step::Signal { .. }]), "{signals:?}");
}

#[test]
fn what_ends_by_a_deletion_leaves_the_others_the_grace_of_the_deletion() {
    let mut machine = machine(spec("hostNetwork: true"), instance(0, 0, None), at(0));
    machine.plan(at(0));
    machine.apply(Event::Delete { cause: Asker::User.into(), grace: Some(Duration::from_secs(20)) }, at(1));
    assert_eq!(machine.plan(at(1)).steps, [signal(1, Asker::User)]);
    machine.apply(Event::Instance { container: 1, instance: instance(0, 0, Some(2)) }, at(2));
    assert_eq!(machine.plan(at(2)).steps, [signal(0, Asker::User)]);
    assert_eq!(machine.plan(at(20)).steps, []);
    assert_eq!(machine.plan(at(21)).steps, [Step::Kill { container: 0, attempt: 0 }]);
}

#[test]
fn a_pod_that_has_ended_has_one_grace_whatever_is_signalled_late() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Never, terminationGracePeriodSeconds: 10, \
        containers: [{name: app, image: i, livenessProbe: {exec: {command: [x]}, failureThreshold: 1}, \
        lifecycle: {preStop: {exec: {command: [x]}}}}, {name: other, image: i}]}}";
    let mut machine = machine(parse(text, Format::Yaml).unwrap().remove(0).spec, instance(0, 0, None), at(0));
    machine.plan(at(0));
    probed(&mut machine, ProbeKind::Liveness, ProbeOutcome::Failure(String::new()), 1);
    assert_eq!(steps(machine.plan(at(1))), [PRE_STOP]);
    // The last main that was not being stopped ends: from here on the pod is.
    machine.apply(Event::Instance { container: 1, instance: instance(0, 0, Some(2)) }, at(2));
    assert_eq!(machine.plan(at(11)).steps, []);
    assert!(matches!(machine.plan(at(12)).steps[..], [Step::Signal { container: 0, .. }]));
    assert_eq!(machine.plan(at(14)).steps, [Step::Kill { container: 0, attempt: 0 }]);
}

#[test]
fn the_hook_takes_its_time_from_the_grace() {
    let mut machine = alone("lifecycle: {preStop: {sleep: {seconds: 4}}}");
    machine.plan(at(0));
    machine.apply(Event::Delete { cause: Asker::User.into(), grace: None }, at(1));
    let plan = machine.plan(at(1));
    assert_eq!(plan.wake_at, Some(at(5)));
    assert_eq!(steps(plan), [PRE_STOP]);
    assert_eq!(machine.plan(at(5)).steps, [signal(0, Asker::User)]);
    assert_eq!(machine.plan(at(10)).steps, []);
    assert_eq!(machine.plan(at(11)).steps, [Step::Kill { container: 0, attempt: 0 }]);
}

#[test]
fn a_hook_is_not_run_again_by_the_next_agent() {
    let mut first = alone("lifecycle: {preStop: {httpGet: {port: 80}}}");
    first.plan(at(0));
    first.apply(Event::Delete { cause: Asker::User.into(), grace: None }, at(1));
    assert_eq!(steps(first.plan(at(1))), [PRE_STOP]);
    let mut observed = first.observed.clone();
    observed.taken_up_at = at(3);
    let mut second = Machine::new(first.spec.clone(), first.policy.clone(), observed, Memo::default());
    // The request went down with the agent: the stop goes on, within the same grace.
    assert_eq!(second.plan(at(3)).steps, [signal(0, Asker::User)]);
    assert_eq!(second.plan(at(11)).steps, [Step::Kill { container: 0, attempt: 0 }]);
}

#[test]
fn a_failed_post_start_hook_stops_the_container() {
    let mut machine = alone("lifecycle: {postStart: {exec: {command: [x]}}}");
    let hook = Step::Hook { container: 0, attempt: 0, kind: HookKind::PostStart, cause: None };
    assert_eq!(machine.plan(at(0)).steps, [hook]);
    assert_eq!(machine.plan(at(1)).steps, []);
    let mut failed = machine.observed.containers[0].instances[0].clone();
    let end = HookEnd { at: at(2), failure: Some("no".to_owned()) };
    failed.post_start = Some(HookRun { begun: at(0), ended: Some(end) });
    machine.apply(Event::Instance { container: 0, instance: failed }, at(2));
    let plan = machine.plan(at(2));
    let why = cause(Asker::PostStart, "no");
    assert_eq!(plan.steps, [Step::Signal { container: 0, attempt: 0, cause: why }]);
    let reasons: Vec<&str> = plan.notices.iter().map(|n| n.reason).collect();
    assert_eq!(reasons, ["FailedPostStartHook", "Killing"]);
}

#[test]
fn lost_lines_of_a_log_are_an_event_when_it_begins_and_when_it_is_over() {
    let mut machine = alone("");
    machine.plan(at(0));
    let running = machine.observed.containers[0].instances[0].clone();
    let loss = |lines: u64, ongoing| {
        let (first, last) = (at(2), at(2 + lines));
        Some(LogLoss { lines, bytes: 100, first, last, error: "No space left on device".into(), ongoing })
    };
    let mut told = Vec::new();
    for (second, log_lost) in
        [(2, loss(1, true)), (12, loss(11, true)), (20, loss(18, false)), (21, loss(18, false)), (30, loss(20, true))]
    {
        machine.apply(Event::Instance { container: 0, instance: Instance { log_lost, ..running.clone() } }, at(second));
        let notices = machine.plan(at(second)).notices.into_iter().filter(|n| n.reason == "LogLinesLost");
        told.extend(notices.map(|notice| (second, notice.message)));
    }
    let begins = "The log of container app cannot be written, and lines of it are lost: No space left on device";
    let over = "18 lines (100 bytes) of the log of container app were lost within 18 s: No space left on device";
    assert_eq!(told, [(2, begins.to_owned()), (20, over.to_owned()), (30, begins.to_owned())]);
}

#[test]
fn a_probe_that_cannot_be_tried_is_tried_thrice_and_counts_for_nothing() {
    let mut machine = alone("livenessProbe: {exec: {command: [x]}, failureThreshold: 1, periodSeconds: 10}");
    let live = [Step::Probe { container: 0, attempt: 0, kind: ProbeKind::Liveness }];
    for _ in 0..3 {
        assert_eq!(machine.plan(at(0)).steps, live);
        probed(&mut machine, ProbeKind::Liveness, ProbeOutcome::Error("broken".into()), 0);
    }
    let plan = machine.plan(at(0));
    assert_eq!((plan.steps, plan.wake_at), (vec![], Some(at(10))));
    assert_eq!(machine.plan(at(10)).steps, live);
}

#[test]
fn a_probe_that_the_end_of_its_instance_cuts_short_is_no_event() {
    let mut machine = alone("livenessProbe: {exec: {command: [x]}, failureThreshold: 1, periodSeconds: 10}");
    for (outcome, noticed) in [(ProbeOutcome::Cut, 0), (ProbeOutcome::Error("broken".into()), 1)] {
        machine.plan(at(0));
        probed(&mut machine, ProbeKind::Liveness, outcome, 0);
        let notices = machine.plan(at(0)).notices;
        assert_eq!(notices.iter().filter(|n| n.reason == "Unhealthy").count(), noticed, "{notices:?}");
    }
}

/// Reason and message of the condition `DisruptionTarget`, if there is one.
fn disruption(machine: &mut Machine, now: u64) -> Option<(String, String)> {
    let conditions = machine.plan(at(now)).status.conditions.unwrap();
    let found = conditions.into_iter().find(|c| c.type_ == "DisruptionTarget")?;
    assert_eq!(found.status, "True");
    Some((found.reason.unwrap(), found.message.unwrap()))
}

#[test]
fn what_the_node_ends_is_disrupted() {
    let mut evicted = alone("livenessProbe: {tcpSocket: {port: 1}}");
    assert_eq!(disruption(&mut evicted, 1), None);
    evicted.apply(Event::Evict { message: "volume is full".to_owned() }, at(2));
    let expected = ("TerminationByKubelet".to_owned(), "volume is full".to_owned());
    assert_eq!(disruption(&mut evicted, 2), Some(expected));

    let mut lost = machine(spec("hostNetwork: true"), instance(0, 0, None), at(0));
    lost.apply(Event::SandboxGone { number: 1 }, at(30));
    let (reason, message) = disruption(&mut lost, 30).unwrap();
    assert_eq!(reason, "TerminationByKubelet");
    assert!(message.ends_with("nobody saw the end of [app]"), "not the sidecar's: {message}");

    let mut removed = machine(spec("hostNetwork: true"), instance(0, 0, None), at(0));
    removed.apply(Event::Delete { cause: Asker::User.into(), grace: None }, at(2));
    assert_eq!(disruption(&mut removed, 2), None, "whoever removes a pod does not disrupt it");
}

#[test]
fn a_readiness_gate_that_nobody_opens_keeps_the_pod_from_being_ready() {
    let ready = |gates: &str| {
        let mut machine = machine(spec(gates), instance(0, 0, None), at(0));
        let conditions = machine.plan(at(1)).status.conditions.unwrap();
        let of = |kind: &str| conditions.iter().find(|c| c.type_ == kind).unwrap().clone();
        assert_eq!(of("ContainersReady").status, "True");
        (of("Ready").status, of("Ready").reason, of("Ready").message)
    };
    assert_eq!(ready("readinessGates: [{conditionType: PodScheduled}]"), ("True".to_owned(), None, None));
    let message = "corresponding condition of pod readiness gate \"example.com/lb\" does not exist";
    let closed = ("False".to_owned(), Some("ReadinessGatesNotReady".to_owned()), Some(message.to_owned()));
    assert_eq!(ready("readinessGates: [{conditionType: Initialized}, {conditionType: example.com/lb}]"), closed);
}
