//! Pods in, timelines out: the order in which the decisions start and stop containers.

use std::time::Duration;

use podwright_core::manifest::{Format, parse};
use podwright_core::pod::spec::StartGate;
use podwright_core::pod::{NodePolicy, backoff};
use podwright_core::rehearse::{Assumptions, rehearse};

fn timeline(pod: &str, assumed: Assumptions) -> String {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n{pod}");
    let documents = parse(&text, Format::Yaml).expect("the manifest is valid");
    let policy = NodePolicy { start_gate: StartGate::Ready, crash_backoff: backoff::DEFAULT, host_ips: Vec::new() };
    let lines = rehearse(&documents[0].spec, &policy, &assumed).expect("no invariant is violated");
    lines.iter().map(|l| format!("{:5.1} {}\n", l.at.as_secs_f64(), l.text)).collect()
}

const THREE_SIDECARS: &str = "
  terminationGracePeriodSeconds: 20
  initContainers:
  - {name: prepare, image: i}
  - {name: s1, image: i, restartPolicy: Always}
  - {name: s2, image: i, restartPolicy: Always, startupProbe: {tcpSocket: {port: 1}, initialDelaySeconds: 2}}
  - {name: s3, image: i, restartPolicy: Always, readinessProbe: {tcpSocket: {port: 1}, initialDelaySeconds: 3}}
  containers:
  - {name: a, image: i}
  - {name: b, image: i}
";

#[test]
fn sidecars_start_in_order_and_stop_last_in_reverse() {
    insta::assert_snapshot!(timeline(THREE_SIDECARS, Assumptions::default()), @r"
     0.0 pod is Pending
     0.0 sandbox is up
     0.0 init container prepare starts
     1.0 init container prepare ends with 0
     1.0 sidecar s1 starts
     1.0 sidecar s1 is ready
     1.0 sidecar s2 starts
     3.0 sidecar s2 is ready
     3.0 sidecar s3 starts
     6.0 sidecar s3 is ready
     6.0 container a starts
     6.0 container a is ready
     6.0 container b starts
     6.0 container b is ready
     6.0 pod is Running
    16.0 pod is removed
    16.0 container a gets its stop signal
    16.0 container b gets its stop signal
    17.0 container a ends with 0
    17.0 container b ends with 0
    17.0 sidecar s3 gets its stop signal
    18.0 sidecar s3 ends with 0
    18.0 sidecar s2 gets its stop signal
    19.0 sidecar s2 ends with 0
    19.0 sidecar s1 gets its stop signal
    20.0 sidecar s1 ends with 0
    20.0 pod is Succeeded
    20.0 sandbox is gone
    ");
}

#[test]
fn a_main_that_ignores_its_signal_leaves_each_sidecar_two_seconds() {
    let pod = THREE_SIDECARS.replace("20", "4");
    let assumed = Assumptions { stop_takes: None, ..Assumptions::default() };
    insta::assert_snapshot!(timeline(&pod, assumed), @r"
     0.0 pod is Pending
     0.0 sandbox is up
     0.0 init container prepare starts
     1.0 init container prepare ends with 0
     1.0 sidecar s1 starts
     1.0 sidecar s1 is ready
     1.0 sidecar s2 starts
     3.0 sidecar s2 is ready
     3.0 sidecar s3 starts
     6.0 sidecar s3 is ready
     6.0 container a starts
     6.0 container a is ready
     6.0 container b starts
     6.0 container b is ready
     6.0 pod is Running
    16.0 pod is removed
    16.0 container a gets its stop signal
    16.0 container b gets its stop signal
    20.0 sidecar s1 gets its stop signal
    20.0 sidecar s2 gets its stop signal
    20.0 sidecar s3 gets its stop signal
    20.0 container a gets SIGKILL
    20.0 container b gets SIGKILL
    20.0 container a ends with 137
    20.0 container b ends with 137
    22.0 sidecar s1 gets SIGKILL
    22.0 sidecar s2 gets SIGKILL
    22.0 sidecar s3 gets SIGKILL
    22.0 sidecar s1 ends with 137
    22.0 sidecar s2 ends with 137
    22.0 sidecar s3 ends with 137
    22.0 pod is Failed
    22.0 sandbox is gone
    ");
}

#[test]
fn a_job_is_over_when_its_main_is() {
    let pod = "
  restartPolicy: Never
  initContainers:
  - {name: log, image: i, restartPolicy: Always}
  containers:
  - {name: work, image: i}
";
    insta::assert_snapshot!(timeline(pod, Assumptions::default()), @r"
    0.0 pod is Pending
    0.0 sandbox is up
    0.0 sidecar log starts
    0.0 sidecar log is ready
    0.0 container work starts
    0.0 container work is ready
    0.0 pod is Running
    5.0 container work ends with 0
    5.0 sidecar log gets its stop signal
    6.0 sidecar log ends with 0
    6.0 pod is Succeeded
    6.0 sandbox is gone
    ");
}

#[test]
fn a_deadline_ends_a_job_in_its_init() {
    let pod = "
  restartPolicy: OnFailure
  activeDeadlineSeconds: 3
  initContainers:
  - {name: slow, image: i}
  containers:
  - {name: work, image: i}
";
    let assumed = Assumptions { init_takes: Duration::from_secs(60), ..Assumptions::default() };
    insta::assert_snapshot!(timeline(pod, assumed), @r"
    0.0 pod is Pending
    0.0 sandbox is up
    0.0 init container slow starts
    3.0 init container slow gets its stop signal
    4.0 init container slow ends with 0
    4.0 pod is Failed
    4.0 sandbox is gone
    ");
}

#[test]
fn grace_zero_still_leaves_two_seconds() {
    let pod = "
  terminationGracePeriodSeconds: 0
  containers:
  - {name: app, image: i}
";
    let assumed = Assumptions { stop_takes: None, ..Assumptions::default() };
    insta::assert_snapshot!(timeline(pod, assumed), @r"
     0.0 pod is Pending
     0.0 sandbox is up
     0.0 container app starts
     0.0 container app is ready
     0.0 pod is Running
    10.0 pod is removed
    10.0 container app gets its stop signal
    12.0 container app gets SIGKILL
    12.0 container app ends with 137
    12.0 pod is Failed
    12.0 sandbox is gone
    ");
}
