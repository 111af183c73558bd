//! User and time namespaces.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::Container;

const FIRST: u32 = 100_000;

fn mappings() -> Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": 65536}])
}

/// The container in a new user namespace, with a root file system that is its root's.
fn mapped(container: Container) -> Container {
    let mut container = container.with("/linux/uidMappings", mappings()).with("/linux/gidMappings", mappings());
    container.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    give_away(&container.rootfs());
    container
}

fn give_away(dir: &Path) {
    assert!(Command::new("chown").args(["-R", "-h", &format!("{FIRST}:{FIRST}")]).arg(dir).status().unwrap().success());
}

#[test]
fn root_inside_is_somebody_else_outside() {
    let container =
        mapped(Container::script("id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; touch /made; sleep 1000"));
    container.detach();
    let pid = container.state()["pid"].to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\n")), "{status}");
    assert!(status.contains("Groups:\t \n"), "no group of the host is left: {status}");
    crate::harness::eventually("made", || container.rootfs().join("made").exists());
    assert_eq!(fs::metadata(container.rootfs().join("made")).unwrap().uid(), FIRST);
    let output = container.exec("id -u; cat /proc/self/uid_map; stat -c %u:%g /made");
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "0:0"]);
}

#[test]
fn its_namespaces_belong_to_it() {
    let caps = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
    let container = mapped(Container::script(
        "hostname changed && hostname; mount -t tmpfs none /tmp && echo mounted; cat /proc/sys/kernel/msgmax; \
         for d in null zero tty; do stat -c '%F' /dev/$d; done; echo x > /dev/null && echo written; \
         ls -d /sys/class/net/lo; stat -f -c %T /sys/fs/cgroup",
    ))
    .with("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}))
    .with("/hostname", json!("box"))
    .with("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
    .with("/linux/maskedPaths", json!(["/proc/kcore", "/proc/acpi"]))
    .with("/linux/readonlyPaths", json!(["/proc/sys"]))
    .with("/root/readonly", json!(true))
    .mount(json!({"destination": "/tmp", "type": "tmpfs"}))
    .mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}));
    fs::create_dir(container.rootfs().join("tmp")).unwrap();
    let text = container.stdout();
    let start = "changed\nmounted\n";
    assert!(text.starts_with(start), "{text}");
    let end = "character special file\ncharacter special file\ncharacter special file\nwritten\n/sys/class/net/lo\n";
    assert!(text.contains(end), "{text}");
}

#[test]
fn a_private_place_is_reached_all_the_same() {
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("file"), "kept").unwrap();
    fs::set_permissions(volume.path().join("file"), fs::Permissions::from_mode(0o644)).unwrap();
    let container = mapped(Container::script("cat /data/file"))
        .mount(json!({"destination": "/data", "source": volume.path().join("."), "options": ["rbind", "ro"]}));
    // Neither the bundle nor what is bound can be looked up by who the container's root is.
    for dir in [container.bundle(), volume.path()] {
        chown(dir, Some(1234), Some(1234)).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let output = container.run();
    // The volume itself is private, too: reached, and its content refused.
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(container.stdout(), "kept");
}

#[test]
fn views_of_the_hosts_namespaces_are_bound() {
    let host = std::process::id();
    let mut container = mapped(Container::script(&format!(
        "cat /proc/{host}/comm; readlink /proc/self/ns/net; ls -d /sys/class/net/lo"
    )));
    container.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "user"}, {"type": "ipc"}]);
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    let net = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(container.stdout(), format!("{comm}{}\n/sys/class/net/lo\n", net.display()));
}

#[test]
fn a_user_namespace_is_shared_by_path() {
    let first = mapped(Container::new(&["sleep", "1000"]));
    first.detach();
    let pid = first.state()["pid"].to_string();
    let path = |kind: &str| format!("/proc/{pid}/ns/{kind}");
    let show = "readlink /proc/self/ns/user; readlink /proc/self/ns/net; readlink /proc/self/ns/pid; id -u; mount -t tmpfs n /tmp && echo mounted";
    let caps = json!(["CAP_SYS_ADMIN"]);
    let mut second = Container::script(show)
        .with("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}))
        .with("/linux/uidMappings", mappings())
        .with("/linux/gidMappings", mappings());
    fs::create_dir(second.rootfs().join("tmp")).unwrap();
    give_away(&second.rootfs());
    second.config["linux"]["namespaces"] = json!([
        {"type": "mount"}, {"type": "ipc"}, {"type": "pid"}, {"type": "cgroup"},
        {"type": "user", "path": path("user")}, {"type": "network", "path": path("net")}, {"type": "uts", "path": path("uts")}
    ]);
    let link = |kind: &str| fs::read_link(path(kind)).unwrap().display().to_string();
    let text = second.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3], lines[4]), (&*link("user"), &*link("net"), "0", "mounted"));
    assert_ne!(lines[2], link("pid"), "a new one");

    second.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": FIRST, "size": 1}]));
    let error = second.refused();
    assert!(
        error.contains("linux.uidMappings: the user namespace that was joined has other mappings: 0 100000 65536"),
        "{error}"
    );
    second.set("/linux/namespaces/4/path", json!("/proc/1/ns/missing"));
    assert!(second.refused().contains("linux.namespaces: enter /proc/1/ns/missing: No such file or directory"));
}

/// The host's, and so not the new user namespace's: entered before it.
#[test]
fn foreign_namespaces_are_joined_by_a_new_user_namespace() {
    let host = format!("/proc/{}/ns/net", std::process::id());
    let mut container = mapped(Container::script("readlink /proc/self/ns/net; readlink /proc/self/ns/user"));
    container.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
    container.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "network", "path": host}));
    let text = container.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    assert_ne!(lines[1], fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap());
}

#[test]
fn a_writable_cgroup_belongs_to_who_executes_the_program() {
    let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]});
    let with_user =
        |container: Container| container.with("/process/user", json!({"uid": 7, "gid": 7})).mount(mount.clone());
    for (container, expected) in [
        (with_user(Container::new(&["sleep", "1000"])), 7),
        (with_user(mapped(Container::new(&["sleep", "1000"]))), FIRST + 7),
    ] {
        container.detach();
        assert_eq!(fs::metadata(container.cgroup().path()).unwrap().uid(), expected);
        assert_eq!(container.exec("mkdir /sys/fs/cgroup/sub && echo made").stdout, b"made\n");
        fs::remove_dir(container.cgroup().path().join("sub")).unwrap();
    }
}

#[test]
fn a_writable_cgroup_belongs_to_the_containers_root() {
    let container = mapped(Container::new(&["sleep", "1000"]))
        .mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["rw"]}));
    container.detach();
    let owner = |name: &str| fs::metadata(container.cgroup().path().join(name)).unwrap().uid();
    assert_eq!((owner("."), owner("cgroup.procs"), owner("cgroup.freeze")), (FIRST, FIRST, 0));
    let output = container.exec("mkdir /sys/fs/cgroup/sub && echo made");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "made\n", "{output:?}");
}

#[test]
fn limits_and_scores_are_set_from_outside() {
    let container = mapped(Container::script("cat /proc/self/oom_score_adj; ulimit -n"))
        .with("/process/oomScoreAdj", json!(321))
        .with("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]));
    assert_eq!(container.stdout(), "321\n100\n");
}

#[test]
fn ids_that_are_not_mapped_are_refused() {
    let error = mapped(Container::new(&["true"])).with("/process/user", json!({"uid": 70000, "gid": 0})).refused();
    assert!(error.contains("process.user.uid: 70000 is not among the ids of linux.uidMappings"), "{error}");
    let overlapping =
        json!([{"containerID": 0, "hostID": 1, "size": 10}, {"containerID": 5, "hostID": 100, "size": 10}]);
    let error = mapped(Container::new(&["true"])).with("/linux/uidMappings", overlapping).refused();
    assert!(error.contains("linux.uidMappings[1]: has ids in common with [0]"), "{error}");
}

#[test]
fn without_a_process_root_need_not_be_mapped() {
    let one = json!([{"containerID": 1000, "hostID": FIRST, "size": 1}]);
    let mut container = mapped(Container::new(&["true"])).with("/linux/uidMappings", one.clone());
    container.set("/linux/gidMappings", one);
    container.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "devpts");
    container.config.as_object_mut().unwrap().remove("process");
    container.create();
    assert_eq!(container.status(), "created");
}

#[test]
fn clocks_are_the_containers() {
    let mut container = Container::script("cat /proc/uptime; readlink /proc/self/ns/time").with(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 2_000_000, "nanosecs": 1}}),
    );
    container.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    let check = |text: &str| {
        let uptime: f64 = text.split(' ').next().unwrap().parse().unwrap();
        assert!(uptime > 1_000_000.0, "{text}");
        let own = text.lines().nth(1).unwrap().to_owned();
        assert_ne!(own, fs::read_link("/proc/self/ns/time").unwrap().to_str().unwrap());
        own
    };
    check(&container.stdout());
    // The same from a user namespace, which owns the clocks then.
    check(&mapped(container).stdout());

    let mut lasting =
        Container::new(&["sleep", "1000"]).with("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}));
    lasting.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    lasting.detach();
    let own = check(&String::from_utf8(lasting.exec("cat /proc/uptime; readlink /proc/self/ns/time").stdout).unwrap());
    let joined = Container::script("cat /proc/uptime; readlink /proc/self/ns/time");
    let mut joined = joined;
    let path = format!("/proc/{}/ns/time", lasting.state()["pid"]);
    joined.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time", "path": path}));
    assert_eq!(check(&joined.stdout()), own);
}

#[test]
fn clocks_cannot_be_negative() {
    let mut container =
        Container::new(&["true"]).with("/linux/timeOffsets", json!({"boottime": {"secs": -1_000_000_000}}));
    container.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    let error = container.refused();
    assert!(
        error.contains("linux.timeOffsets: make a time namespace and set its clocks: Math result not representable"),
        "{error}"
    );
}
