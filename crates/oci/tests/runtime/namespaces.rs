//! Namespaces, names, kernel parameters.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::{Container, eventually};

/// A process with namespaces to join.
struct Holder(Child);

impl Holder {
    fn new(flags: &str) -> Self {
        let child = Command::new("unshare").args([flags, "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap();
        let holder = Self(child);
        let name = format!("/proc/{}/comm", holder.0.id());
        eventually("unshared", || std::fs::read_to_string(&name).is_ok_and(|comm| comm == "sleep\n"));
        holder
    }

    fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn link(path: &str) -> String {
    std::fs::read_link(path).unwrap().display().to_string()
}

const SHOW: &str = "for kind in net ipc uts pid cgroup mnt; do readlink /proc/self/ns/$kind; done";

#[test]
fn namespaces_are_new_by_default_of_the_bundle() {
    let container = Container::script(SHOW);
    let text = container.stdout();
    for (line, kind) in text.lines().zip(["net", "ipc", "uts", "pid", "cgroup", "mnt"]) {
        assert_ne!(line, link(&format!("/proc/self/ns/{kind}")), "{kind} is the host's");
    }
}

#[test]
fn namespaces_are_joined_by_path() {
    let holder = Holder::new("-niu");
    let container = Container::script(SHOW).with(
        "/linux/namespaces",
        json!([
            {"type": "mount"}, {"type": "network", "path": holder.path("net")}, {"type": "ipc", "path": holder.path("ipc")},
            {"type": "uts", "path": holder.path("uts")}, {"type": "pid", "path": "/proc/self/ns/pid"}
        ]),
    );
    let text = container.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], link(&holder.path("net")));
    assert_eq!(lines[1], link(&holder.path("ipc")));
    assert_eq!(lines[2], link(&holder.path("uts")));
    assert_eq!(lines[3], link("/proc/self/ns/pid"), "the host's, joined");
    assert_eq!(lines[4], link("/proc/self/ns/cgroup"), "inherited");
}

#[test]
fn a_pid_namespace_is_shared_with_another_container() {
    let first = Container::new(&["sleep", "1000"]);
    first.detach();
    let pid = first.state()["pid"].as_i64().unwrap();
    let mut second = Container::script("cat /proc/1/cmdline; echo $$");
    second.set("/linux/namespaces/0/path", json!(format!("/proc/{pid}/ns/pid")));
    let text = second.stdout();
    assert!(text.starts_with("sleep") && !text.ends_with("\n1\n"), "{text}");
}

#[test]
fn a_missing_namespace_is_named() {
    let error = Container::new(&["true"])
        .with("/linux/namespaces/4", json!({"type": "network", "path": "/proc/1/ns/missing"}))
        .refused();
    assert!(error.contains("linux.namespaces: enter /proc/1/ns/missing: No such file or directory"), "{error}");
}

#[test]
fn names_and_parameters_are_the_containers() {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let container = Container::script(
        "hostname; cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/domainname",
    )
    .with("/hostname", json!("box"))
    .with("/domainname", json!("example"))
    .with("/linux/sysctl", json!({"kernel.msgmax": "4321", "net.ipv4.ip_forward": "1"}));
    assert_eq!(container.stdout(), "box\n4321\n1\nexample\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host);
}

#[test]
fn a_parameter_of_the_host_is_never_written() {
    let before = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    let error = Container::new(&["true"])
        .with("/linux/namespaces", json!([{"type": "mount"}, {"type": "network"}]))
        .with("/linux/sysctl", json!({"kernel.msgmax": "4321"}))
        .refused();
    assert!(error.contains("kernel/msgmax: the container shares the host's ipc namespace"), "{error}");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
}

#[test]
fn a_mount_namespace_is_joined_and_its_root_stays() {
    let holder = Holder::new("-m");
    let mut container = Container::script("readlink /proc/self/ns/mnt; ls /; sleep 1000");
    container.set("/linux/namespaces/1/path", json!(holder.path("mnt")));
    container.detach();
    assert_eq!(link(&format!("/proc/{}/ns/mnt", container.state()["pid"])), link(&holder.path("mnt")));
    let output = container.exec("ls -d /bin/busybox /etc 2>/dev/null; readlink /proc/self/ns/mnt");
    let expected = format!("/bin/busybox\n{}\n", link(&holder.path("mnt")));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "in the container's root: {output:?}");
    assert_eq!(link(&format!("/proc/{}/root", holder.0.id())), "/");
}

#[test]
fn without_a_mount_namespace_the_hosts_is_cleaned_up() {
    let mut container = Container::script("readlink /proc/self/ns/mnt; ls -d /bin /etc 2>/dev/null; sleep 1000");
    container.config["linux"]["namespaces"].as_array_mut().unwrap().remove(1);
    container.detach();
    assert_eq!(link(&format!("/proc/{}/ns/mnt", container.state()["pid"])), link("/proc/self/ns/mnt"));
    let table = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let rootfs = container.rootfs().display().to_string();
    assert!(table().contains(&rootfs));
    let output = container.exec("ls -d /bin /etc 2>/dev/null; exit 0");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/bin\n", "{output:?}");
    container.ok(&["delete", "--force", &container.id]);
    assert!(!table().contains(&rootfs), "{}", table());
}

#[test]
fn a_process_is_needed_for_the_start_only() {
    let mut container = Container::new(&["true"]);
    container.config.as_object_mut().unwrap().remove("process");
    assert!(container.refused().contains("process: is missing; there is nothing to start"));
    container.create();
    assert_eq!(container.status(), "created");
    let error = container.fails(&["start", &container.id]);
    assert!(error.contains("process: is missing; there is nothing to start"), "{error}");
    eventually("stopped", || container.status() == "stopped");
}
