//! Shares of the machine: processors, memory nodes, disks, network devices, caches; and descriptors of the caller.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Container, host_has, link_applets};

#[test]
fn a_process_is_scheduled_as_asked() {
    // Fields 18 and 19 are priority and nice value, 40 and 41 real-time priority and policy (proc_pid_stat(5)).
    let container = Container::script("set -- $(cat /proc/self/stat); echo ${19} ${40} ${41}")
        .with("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    assert_eq!(container.stdout(), "5 0 3\n");
    let flags = json!({"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    let reset = Container::new(&["cat", "/proc/self/stat"]).with("/process/scheduler", flags);
    let text = reset.stdout();
    let fields: Vec<&str> = text.split(' ').collect();
    assert_eq!((fields[18], fields[40]), ("5", "3"), "{text}");
    let error =
        Container::new(&["true"]).with("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 9})).refused();
    assert!(error.contains("process.scheduler.priority: 9 found, 0 to 0 accepted for SCHED_OTHER"), "{error}");
}

#[test]
fn disk_accesses_have_a_class() {
    let container = Container::new(&["ionice", "-p", "1"])
        .with("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    link_applets(&container, &["ionice"]);
    assert_eq!(container.stdout(), "idle\n");
}

#[test]
fn another_process_is_kept_to_its_processors() {
    let host = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = |text: &str| text.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap().to_owned();
    let last = allowed(&host).rsplit(['\t', ',', '-']).next().unwrap().to_owned();
    let container =
        Container::new(&["sleep", "1000"]).with("/process/execCPUAffinity", json!({"initial": "0", "final": last}));
    container.detach();
    let first = fs::read_to_string(format!("/proc/{}/status", container.state()["pid"])).unwrap();
    assert_eq!(allowed(&first), allowed(&host), "the first process is not concerned");
    let output = container.exec("grep Cpus_allowed_list /proc/self/status");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("Cpus_allowed_list:\t{last}\n"), "{output:?}");
    let other = Container::new(&["sleep", "1000"]).with("/process/execCPUAffinity", json!({"final": "1023"}));
    other.detach();
    let output = other.exec("true");
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("process.execCPUAffinity.final: Invalid argument"),
        "{output:?}"
    );
}

#[test]
fn memory_comes_from_the_nodes_asked_for() {
    let container = Container::script("cat /proc/self/numa_maps")
        .with("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}));
    let text = container.stdout();
    assert!(text.lines().all(|line| line.contains(" bind=static:0")), "{text}");
    let error =
        Container::new(&["true"]).with("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "63"})).refused();
    assert!(error.contains("linux.memoryPolicy: Invalid argument"), "{error}");
}

#[test]
fn the_personality_shows() {
    let container = Container::new(&["uname", "-m"]).with("/linux/personality", json!({"domain": "LINUX32"}));
    link_applets(&container, &["uname"]);
    assert_eq!(container.stdout(), if cfg!(target_arch = "x86_64") { "i686\n" } else { "armv8l\n" });
}

#[test]
fn groups_for_caches_need_their_file_system() {
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ");
    if !host_has("to have no resctrl mounted", !mounted) {
        return;
    }
    let error = Container::new(&["true"]).with("/linux/intelRdt", json!({"closID": "gold"})).refused();
    assert!(error.contains("linux.intelRdt: is asked for, and no resctrl file system is mounted"), "{error}");
}

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("ip of iproute2");
    assert!(output.status.success(), "ip {args}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A pair of devices with names of its own; both are gone when one is.
struct Pair(String);

impl Pair {
    fn new(letter: char) -> Self {
        let pair = Self(format!("po{letter}{}", std::process::id() % 100_000));
        let (near, far) = (pair.near(), pair.far());
        ip(&format!("link add {near} type veth peer name {far}"));
        pair
    }

    fn near(&self) -> String {
        format!("{}n", self.0)
    }

    fn far(&self) -> String {
        format!("{}f", self.0)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "del", &self.far()]).stderr(Stdio::null()).status().ok();
    }
}

#[test]
fn devices_move_with_their_addresses() {
    let pair = Pair::new('a');
    let near = pair.near();
    ip(&format!("link set {near} mtu 1400"));
    ip(&format!("addr add 192.0.2.7/24 dev {near}"));
    ip(&format!("addr add 2001:db8::7/64 dev {near}"));
    let container = Container::new(&["ip", "addr", "show", "dev", "inner0"])
        .with("/linux/netDevices", json!({(near.clone()): {"name": "inner0"}}));
    link_applets(&container, &["ip"]);
    let text = container.stdout();
    for part in ["inner0", "UP", "mtu 1400", "inet 192.0.2.7/24", "inet6 2001:db8::7/64"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!ip("link").contains(&near), "it has left the host");
}

#[test]
fn devices_keep_their_names_or_get_a_number() {
    let pair = Pair::new('b');
    let (near, far) = (pair.near(), pair.far());
    let devices: Value = json!({(near.clone()): {}, (far.clone()): {"name": "lan%d"}});
    let container = Container::new(&["ip", "-o", "link"]).with("/linux/netDevices", devices);
    link_applets(&container, &["ip"]);
    let text = container.stdout();
    assert!(text.contains(&format!("{near}@")) && text.contains("lan0@"), "{text}");
}

#[test]
fn devices_that_cannot_move_stay() {
    let missing = Container::new(&["true"]).with("/linux/netDevices", json!({"none0": {}})).refused();
    assert!(missing.contains(r#"linux.netDevices.none0: there is no network device "none0""#), "{missing}");
    let pair = Pair::new('c');
    let taken = Container::new(&["true"]).with("/linux/netDevices", json!({(pair.near()): {"name": "lo"}})).refused();
    assert!(taken.contains(r#"the container's network namespace has a device "lo" already"#), "{taken}");
    assert!(ip("link").contains(&pair.near()), "it is where it was");
    let mut host = Container::new(&["true"]).with("/linux/netDevices", json!({(pair.near()): {}}));
    host.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
    assert!(host.refused().contains("linux.netDevices: needs an entry of type network"));
}

/// Runs the container from a shell that has set this up.
fn from_shell(container: &Container, setup: &str, options: &str) -> std::process::Output {
    let runtime = container.runtime();
    let script = format!(
        "{setup}; exec {} --root {} run {options} --bundle {} {}",
        runtime.get_program().display(),
        container.state_root().display(),
        container.bundle().display(),
        container.id
    );
    Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn activation_sockets_come_before_preserved_descriptors() {
    let container = Container::script(
        "echo $LISTEN_FDS $LISTEN_PID $$ $LISTEN_FDNAMES; cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '",
    );
    link_applets(&container, &["tr"]);
    for name in ["first", "second"] {
        fs::write(container.bundle().join(name), format!("{name}\n")).unwrap();
    }
    let dir = container.bundle().display().to_string();
    let setup = format!("exec 3<{dir}/first 4<{dir}/second; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web");
    let output = from_shell(&container, &setup, "--preserve-fds 1");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 1 1 web\nfirst\nsecond\n0 1 2 3 4 5 ", "{output:?}");

    let others = Container::script("echo ${LISTEN_FDS-none}; ls /proc/self/fd | tr '\\n' ' '");
    link_applets(&others, &["tr"]);
    let output = from_shell(&others, "exec 3</dev/null; export LISTEN_FDS=1 LISTEN_PID=1", "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "none\n0 1 2 3 ", "they were for somebody else: {output:?}");
}

#[test]
fn a_descriptor_that_is_not_open_is_not_made_up() {
    let container = Container::new(&["ls", "/proc/self/fd"]);
    let output = from_shell(&container, "exec 3<&- 4<&- 5</dev/null 6<&-", "--preserve-fds 4");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "0\n1\n2\n3\n5\n",
        "3 is the directory that ls reads: {output:?}"
    );
}
