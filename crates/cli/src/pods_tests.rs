use serde_json::json;

use super::super::page::Style;
use super::super::table::Table;
use super::*;

fn now() -> Timestamp {
    "2026-11-23T12:01:00Z".parse().unwrap()
}

fn container(name: &str, state: Value, restarts: u64) -> Value {
    let up = state.get("running").is_some();
    let last = if restarts > 0 {
        json!({"terminated": {"exitCode": 1, "finishedAt": "2026-11-23T12:00:50Z"}})
    } else {
        json!({})
    };
    json!({"name": name, "state": state, "ready": up, "started": up, "restartCount": restarts, "lastState": last})
}

fn running() -> Value {
    json!({"running": {}})
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason}})
}

fn ended(code: i64, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason}})
}

/// A pod with a plain init `i`, a sidecar `s` and mains.
fn pod(phase: &str, inits: &[Value], mains: &[Value]) -> Value {
    let names: Vec<Value> = mains.iter().map(|m| json!({"name": m["name"], "image": "busybox"})).collect();
    json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "creationTimestamp": "2026-11-23T12:00:00Z"},
        "spec": {"nodeName": "edge-1", "containers": names,
                 "initContainers": [{"name": "i", "image": "busybox"}, {"name": "s", "image": "proxy", "restartPolicy": "Always"}]},
        "status": {"phase": phase, "podIP": "10.0.0.2", "initContainerStatuses": inits, "containerStatuses": mains},
    })
}

fn line(pod: &Value) -> String {
    let s = summary(pod, now());
    format!("{}/{} {} {}", s.ready, s.total, s.status, s.restarts)
}

#[test]
fn the_way_through_init() {
    let main = || container("a", waiting("PodInitializing"), 0);
    let inits = |i: Value, s: Value| [container("i", i, 0), container("s", s, 0)];
    let pending = |inits: &[Value]| line(&pod("Pending", inits, &[main()]));
    assert_eq!(pending(&[]), "0/2 PodInitializing 0");
    assert_eq!(pending(&inits(waiting("PodInitializing"), waiting("PodInitializing"))), "0/2 Init:0/2 0");
    assert_eq!(pending(&inits(running(), waiting("PodInitializing"))), "0/2 Init:0/2 0");
    assert_eq!(pending(&inits(ended(0, "Completed"), waiting("PodInitializing"))), "0/2 Init:1/2 0");
    assert_eq!(pending(&inits(ended(0, "Completed"), running())), "1/2 PodInitializing 0");
    assert_eq!(pending(&inits(ended(1, "Error"), waiting("PodInitializing"))), "0/2 Init:Error 0");
    assert_eq!(pending(&inits(ended(3, ""), waiting("PodInitializing"))), "0/2 Init:ExitCode:3 0");
    let mut killed = ended(137, "");
    killed["terminated"]["signal"] = json!(9);
    assert_eq!(pending(&inits(killed, waiting("PodInitializing"))), "0/2 Init:Signal:9 0");
    let looping = [container("i", waiting("CrashLoopBackOff"), 4), container("s", waiting("PodInitializing"), 0)];
    assert_eq!(pending(&looping), "0/2 Init:CrashLoopBackOff 4 (10s ago)");
}

#[test]
fn mains_and_sidecars() {
    let inits = |restarts| [container("i", ended(0, "Completed"), 2), container("s", running(), restarts)];
    let up = |restarts| container("a", running(), restarts);
    assert_eq!(line(&pod("Running", &inits(0), &[up(0)])), "2/2 Running 0");
    assert_eq!(line(&pod("Running", &inits(1), &[up(1)])), "2/2 Running 2 (10s ago)");
    let looping = container("b", waiting("CrashLoopBackOff"), 3);
    assert_eq!(line(&pod("Running", &inits(0), &[up(0), looping])), "2/3 CrashLoopBackOff 3 (10s ago)");
    let oom = container("a", ended(137, "OOMKilled"), 0);
    assert_eq!(line(&pod("Failed", &inits(0)[..1], &[oom])), "0/2 OOMKilled 0");
    let done = container("b", ended(0, "Completed"), 0);
    let mut half = pod("Running", &inits(0), &[up(0), done.clone()]);
    assert_eq!(line(&half), "2/3 NotReady 0");
    half["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    assert_eq!(line(&half), "2/3 Running 0");
    let over = [container("i", ended(0, "Completed"), 0), container("s", ended(0, "Completed"), 0)];
    assert_eq!(line(&pod("Succeeded", &over, &[done])), "0/2 Completed 0");
    let down = [container("i", ended(0, "Completed"), 0), container("s", waiting("CrashLoopBackOff"), 1)];
    let mut broken = pod("Running", &down, &[up(0)]);
    assert_eq!(line(&broken), "0/2 Init:CrashLoopBackOff 1 (10s ago)");
    broken["status"]["conditions"] = json!([{"type": "Initialized", "status": "True"}]);
    assert_eq!(line(&broken), "1/2 Init:CrashLoopBackOff 1 (10s ago)");
}

#[test]
fn reasons_of_the_pod_and_its_removal() {
    let mut evicted = pod("Failed", &[], &[]);
    evicted["status"]["reason"] = json!("DeadlineExceeded");
    assert_eq!(line(&evicted), "0/1 DeadlineExceeded 0");
    let mut going = pod("Running", &[], &[container("a", running(), 0)]);
    going["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:30Z");
    assert_eq!(line(&going), "1/2 Terminating 0");
    going["status"]["phase"] = json!("Succeeded");
    going["status"]["containerStatuses"] = json!([container("a", ended(0, "Completed"), 0)]);
    assert_eq!(line(&going), "0/2 Completed 0");
    assert_eq!(line(&json!({})), "0/0 Unknown 0");
}

#[test]
fn the_table() {
    let inits = [container("i", ended(0, "Completed"), 0), container("s", running(), 0)];
    let mut old = pod("Failed", &[], &[container("a", ended(7, "Error"), 0)]);
    old["metadata"]["name"] = json!("a-longer-name");
    old["metadata"]["annotations"] = json!({ENDED_AT: "2026-11-23T12:00:40Z"});
    let pods = [pod("Running", &inits, &[container("a", running(), 12)]), old];
    let print = |columns: Columns| {
        let rows: Vec<_> = pods.iter().map(|p| columns.row(p, now())).collect();
        Table::new(columns.headings(), Style::Plain).print(&rows)
    };
    insta::assert_snapshot!(print(Columns::default()), @r"
        NAME            READY   STATUS    RESTARTS       AGE
        web             2/2     Running   12 (10s ago)   60s
        a-longer-name   0/2     Error     0              60s
        ");
    insta::assert_snapshot!(print(Columns { namespace: true, wide: true, ended: true }), @r"
        NAMESPACE   NAME            READY   STATUS    RESTARTS       AGE   REMOVED   IP         NODE     CONTAINERS   IMAGES                  UID
        default     web             2/2     Running   12 (10s ago)   60s   <none>    10.0.0.2   edge-1   i,s,a        busybox,proxy,busybox   u1
        default     a-longer-name   0/2     Error     0              60s   20s ago   10.0.0.2   edge-1   i,s,a        busybox,proxy,busybox   u1
        ");
}

#[test]
fn a_pod_that_is_over_waits_for_nothing() {
    let init = container("i", ended(0, "Completed"), 0);
    let sidecar = container("s", ended(0, "Completed"), 0);
    let stopped = pod("Failed", &[init.clone(), sidecar], &[container("app", waiting("PodInitializing"), 0)]);
    assert_eq!(line(&stopped), "0/2 Failed 0");
    let earlier = pod("Failed", &[init, container("s", waiting("PodInitializing"), 0)], &[]);
    assert_eq!(line(&earlier), "0/1 Failed 0");
}
