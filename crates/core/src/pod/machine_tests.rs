//! What depends on the moment at which the agent sees something.

use super::*;
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
    parse(&text, Format::Yaml).unwrap().remove(0).pod
}

fn instance(attempt: u32, started: u64, ended: Option<u64>) -> Instance {
    let started_at = at(started);
    let state = ended.map_or(InstanceState::Running { started_at }, |end| InstanceState::Ended {
        started_at: Some(started_at),
        finished_at: at(end),
        outcome: Outcome::Exited { code: 0, oom: false },
    });
    Instance { attempt, sandbox: 1, restart_delay: Duration::ZERO, state, signaled_at: None, killed_at: None }
}

/// A sidecar that runs and a main that does, or did, in a sandbox of second 0, taken up at a moment.
fn machine(spec: PodSpec, main: Instance, taken_up_at: Time) -> Machine {
    let policy = NodePolicy { start_gate: StartGate::Ready, crash_backoff: backoff::DEFAULT, host_ip: None };
    let mut observed = Observed::new(at(0), 2);
    observed.taken_up_at = taken_up_at;
    observed.sandbox = Sandbox::Ready { number: 1, created_at: at(0) };
    observed.containers[0].instances.push(instance(0, 0, None));
    observed.containers[1].instances.push(main);
    Machine::new(spec, policy, observed, Memo::default())
}

const STOP_SIDECAR: Step = Step::Signal { container: 0, attempt: 0 };
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
    assert_eq!((plan.steps, plan.wake_at), (vec![Step::Signal { container: 1, attempt: 0 }], Some(at(60))));
}

#[test]
fn a_restart_while_the_deadline_ends_the_pod_gives_it_another() {
    let mut machine = machine(spec("activeDeadlineSeconds: 7"), instance(0, 0, Some(8)), at(0));
    machine.apply(Event::Instance { container: 0, instance: instance(0, 0, Some(9)) }, at(9));
    assert_eq!(machine.plan(at(9)).steps, [Step::RemoveSandbox { number: 1 }]);
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
    assert_eq!(machine.plan(at(45)).steps, [Step::RemoveSandbox { number: 1 }]);
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
