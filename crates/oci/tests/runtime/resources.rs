//! Resources and their changes, against the kernel. Controllers that the host's cgroup v2 lacks are tested in the VM.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Container, Stranger, eventually, has_controller, host_has, is_ours};

/// A running container with these resources.
fn running(resources: Value) -> Container {
    let container = Container::new(&["sleep", "1000"]).with("/linux/resources", resources);
    container.detach();
    container
}

fn read(container: &Container, file: &str) -> String {
    container.cgroup().read(file).unwrap().trim_end().to_owned()
}

/// `update` with resources on stdin, the way containerd calls it.
fn update(container: &Container, resources: &Value) -> std::process::Output {
    let mut child = container.runtime();
    child.args(["update", "--resources=-", &container.id]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(resources.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn all_of_memory() {
    if !has_controller("memory") {
        return;
    }
    let mib = 1_u64 << 20;
    let container = running(json!({"memory": {"limit": 64 * mib, "swap": 64 * mib, "reservation": 32 * mib}}));
    assert_eq!(read(&container, "memory.max"), (64 * mib).to_string());
    assert_eq!(read(&container, "memory.low"), (32 * mib).to_string());
    assert_eq!(read(&container, "memory.swap.max"), "0");
    container.ok(&["update", "--memory", "96M", "--memory-swap=100M", "--memory-reservation", "16m", &container.id]);
    assert_eq!(read(&container, "memory.max"), (96 * mib).to_string());
    assert_eq!(read(&container, "memory.swap.max"), (4 * mib).to_string());
    assert_eq!(read(&container, "memory.low"), (16 * mib).to_string());
    // The swap alone: the sum is with the limit in force.
    container.ok(&["update", "--memory-swap", "97M", &container.id]);
    assert_eq!(read(&container, "memory.swap.max"), mib.to_string());
    let output = update(&container, &json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && (!is_ours() || error.contains("4096 is below the")), "{error}");
    assert_eq!(read(&container, "memory.max"), (96 * mib).to_string(), "nothing was written");
    assert_eq!(container.status(), "running");
    container.ok(&["update", "--memory=-1", &container.id]);
    assert_eq!((read(&container, "memory.max"), read(&container, "memory.swap.max")), ("max".into(), "max".into()));
}

#[test]
fn an_out_of_memory_kill_is_an_event() {
    if !has_controller("memory") {
        return;
    }
    let script = "until [ -e /go ]; do sleep 0.05; done; head -c 40m /dev/zero | tail -c 32m >/dev/null";
    let mut container =
        Container::script(script).with("/linux/resources", json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}));
    container.set("/process/oomScoreAdj", json!(0));
    container.detach();
    let file = container.bundle().join("events");
    let told = |text: &str| std::fs::read_to_string(&file).unwrap().contains(text);
    let mut events = container.runtime();
    events.args(["events", "--interval=100ms", &container.id]).stdout(std::fs::File::create(&file).unwrap());
    let mut events = Stranger::start(&mut events);
    eventually("it looks", || told(r#"{"type":"stats""#) || !events.lives());
    std::fs::write(container.rootfs().join("go"), "").unwrap();
    let kill = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", container.id);
    eventually("it tells of the kill", || told(&kill) || !events.lives());
    assert!(told(&kill), "it ended without a word of the kill");
}

#[test]
fn all_of_cpu() {
    if !has_controller("cpu") || !has_controller("cpuset") {
        return;
    }
    let container = running(
        json!({"cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000, "cpus": "0", "mems": "0"}}),
    );
    assert_eq!(read(&container, "cpu.max"), "20000 50000");
    assert_eq!(read(&container, "cpu.max.burst"), "1000");
    assert_eq!((read(&container, "cpuset.cpus"), read(&container, "cpuset.mems")), ("0".into(), "0".into()));
    container.ok(&["update", "--cpu-quota", "30000", &container.id]);
    assert_eq!(read(&container, "cpu.max"), "30000 50000", "the period stays");
    container.ok(&["update", "--cpu-period", "60000", &container.id]);
    assert_eq!(read(&container, "cpu.max"), "30000 60000", "the quota stays");
    // Below the old burst, which the kernel refuses as long as that holds.
    let output = update(&container, &json!({"cpu": {"quota": 5000, "burst": 4000}}));
    assert!(output.status.success(), "{output:?}");
    let output = update(&container, &json!({"cpu": {"quota": 2000, "burst": 2000}}));
    assert!(output.status.success(), "{output:?}");
    assert_eq!((read(&container, "cpu.max"), read(&container, "cpu.max.burst")), ("2000 60000".into(), "2000".into()));
    container.ok(&["update", "--cpu-idle=1", &container.id]);
    assert_eq!(read(&container, "cpu.idle"), "1");
    container.ok(&["update", "--cpu-idle=0", "--cpu-share=1024", "--cpuset-cpus", "0", &container.id]);
    assert_eq!((read(&container, "cpu.idle"), read(&container, "cpu.weight")), ("0".into(), "100".into()));
}

#[test]
fn all_of_pids() {
    if !has_controller("pids") {
        return;
    }
    let container = running(json!({"pids": {"limit": 20}}));
    container.ok(&["update", "--pids-limit", "30", &container.id]);
    assert_eq!(read(&container, "pids.max"), "30");
    let event: Value = serde_json::from_str(&container.ok(&["events", "--stats", &container.id])).unwrap();
    assert_eq!((&event["data"]["pids"]["limit"], &event["data"]["pids"]["current"]), (&json!(30), &json!(1)));
}

#[test]
fn a_limit_of_no_tasks_is_a_limit() {
    if !has_controller("pids") {
        return;
    }
    let alone = running(json!({"pids": {"limit": 0}}));
    assert_eq!(read(&alone, "pids.max"), "1");
    let forks =
        Container::script("true & wait; echo came here").with("/linux/resources", json!({"pids": {"limit": 0}}));
    let output = forks.run();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("came here"), "{output:?}");
    let container = running(json!({"pids": {}, "unified": {"pids.max": "30"}}));
    assert!(update(&container, &json!({"pids": {}})).status.success());
    assert_eq!(read(&container, "pids.max"), "30", "nothing is said");
    assert!(update(&container, &json!({"pids": {"limit": -1}})).status.success());
    assert_eq!(read(&container, "pids.max"), "max");
    container.ok(&["update", "--pids-limit", "0", &container.id]);
    assert_eq!(read(&container, "pids.max"), "1", "0 is a limit, and the first process counts");
}

#[test]
fn all_of_huge_pages() {
    if !has_controller("hugetlb") {
        return;
    }
    let container = running(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}));
    assert_eq!(read(&container, "hugetlb.2MB.max"), (4 << 20).to_string());
    assert_eq!(read(&container, "hugetlb.2MB.rsvd.max"), (4 << 20).to_string());
    let output = update(&container, &json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read(&container, "hugetlb.2MB.max"), "0");
    let event: Value = serde_json::from_str(&container.ok(&["events", "--stats", &container.id])).unwrap();
    assert_eq!(event["data"]["hugetlb"]["2MB"], json!({"usage": 0, "failcnt": 0}));
}

/// A block device that the kernel does throttling for, as `MAJOR:MINOR`.
fn disk() -> Option<(u32, u32)> {
    let of = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    std::fs::read_dir("/sys/block").ok()?.filter_map(|entry| of(entry.ok()?)).min()
}

#[test]
fn block_devices_are_throttled() {
    if !has_controller("io") || !host_has("a block device", disk().is_some()) {
        return;
    }
    let (major, minor) = disk().unwrap();
    let throttle = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let container = running(json!({"blockIO": {
        "weight": 500, "throttleReadBpsDevice": throttle(1 << 20), "throttleWriteIOPSDevice": throttle(100)
    }}));
    assert_eq!(read(&container, "io.max"), format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=100"));
    let weight = container.cgroup().read("io.bfq.weight").or_else(|_| container.cgroup().read("io.weight")).unwrap();
    assert!(matches!(weight.trim_end(), "default 500" | "default 4950"), "{weight}");
    let output = update(&container, &json!({"blockIO": {"throttleReadBpsDevice": throttle(0)}}));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read(&container, "io.max"), format!("{major}:{minor} rbps=max wbps=max riops=max wiops=100"));
}

#[test]
fn device_rules_change_while_the_container_runs() {
    let kmsg = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
    let deny = json!({"allow": false, "access": "rwm"});
    let allow = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"});
    let container = Container::new(&["sleep", "1000"])
        .with("/linux/devices", kmsg)
        .with("/linux/resources", json!({"devices": [deny]}));
    container.detach();
    // The kernel may want CAP_SYSLOG as well.
    let open = ["exec", "--cap", "CAP_SYSLOG", &container.id, "sh", "-c", "exec 3</dev/kmsg"];
    let can_read = || container.call(&open).status.success();
    assert!(!can_read());
    for (devices, expected) in
        [(json!([deny, allow]), true), (json!([]), true), (json!([deny]), false), (json!([{"allow": true}]), true)]
    {
        let output = update(&container, &json!({"devices": devices}));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(can_read(), expected, "{devices}");
    }
    let usual = container.exec("head -c1 /dev/zero >/dev/null");
    assert!(usual.status.success(), "{usual:?}");
}

#[test]
fn updates_that_cannot_be_done_are_refused() {
    let container = running(json!({"unified": {"cgroup.max.depth": "3"}}));
    for (resources, text) in [
        (json!({"unified": {"cgroup.max.depth": "4", "nosuch.max": "1"}}), "the nosuch controller is not available"),
        (json!({"network": {"classID": 7}}), "stdin: linux.resources.network.classID: belongs to cgroup v1"),
        (json!({"memory": {"limit": "much"}}), "stdin: resources: is not the specification's linux.resources"),
    ] {
        let output = update(&container, &resources);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && (!is_ours() || error.contains(text)), "{resources}: {error}");
    }
    assert!(update(&container, &json!({"unified": {"cgroup.max.depth": "5"}})).status.success());
    assert_eq!(read(&container, "cgroup.max.depth"), "5");
    container.ok(&["kill", &container.id, "KILL"]);
    eventually("stopped", || container.status() == "stopped");
    assert!(container.fails(&["update", "--pids-limit=7", &container.id]).contains("container not running"));
}

#[test]
fn too_many_device_rules_are_told_as_such() {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.extend(
        (0..10_000).map(|n| json!({"allow": true, "type": "c", "major": n / 100, "minor": n % 100, "access": "r"})),
    );
    let error = Container::new(&["true"]).with("/linux/resources", json!({"devices": rules})).refused();
    assert!(error.contains("more than the kernel follows"), "{error}");
}
