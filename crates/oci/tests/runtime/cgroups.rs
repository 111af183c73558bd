//! The container's cgroup: membership, limits, killing.

use podwright_sys::cgroup::{Cgroup, v2_mount};
use serde_json::json;

use crate::harness::{Container, Stranger, eventually, host_has, is_ours};

#[test]
fn every_process_is_in_the_cgroup() {
    let container = Container::script("sleep 1000 & sleep 1000");
    container.detach();
    eventually("both run", || container.cgroup().procs().unwrap().len() == 2);
}

#[test]
fn a_cgroup_namespace_hides_what_is_above() {
    let container = Container::script("cat /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs").mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]
    }));
    let text = container.stdout();
    assert!(text.contains("0::/\n") && text.contains("/sys/fs/cgroup/cgroup.procs"), "{text}");

    let open = Container::script("grep 0:: /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs")
        .with("/linux/namespaces", json!([{"type": "mount"}, {"type": "ipc"}, {"type": "network"}]))
        .mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}));
    assert!(open.stdout().starts_with(&format!("0::/{}\n", open.id)));
}

#[test]
fn a_cgroup_can_be_mounted_where_a_bind_of_the_hosts_sys_has_it() {
    let mount = v2_mount().unwrap();
    let list = format!("cat /proc/self/cgroup; ls -d {}/cgroup.procs", mount.display());
    let mut container = Container::script(&list)
        .mount(json!({"destination": mount, "type": "cgroup", "source": "cgroup", "options": ["ro"]}));
    container
        .set("/mounts/5", json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]}));
    let text = container.stdout();
    assert!(text.contains(&format!("0::/\n{}/cgroup.procs\n", mount.display())), "{text}");
}

#[test]
fn a_container_that_may_write_its_cgroup_gets_every_controller() {
    let available = Cgroup::at(v2_mount().unwrap()).controllers().unwrap();
    if !host_has("a controller of cgroup v2", !available.is_empty()) {
        return;
    }
    for (options, expected) in [(json!(["rw"]), available), (json!(["ro"]), vec![])] {
        let mut container = Container::new(&["sleep", "1000"])
            .mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
        // In a cgroup of its own, so that what others have enabled does not show.
        let top = container.cgroup();
        container.set("/linux/cgroupsPath", json!(format!("/{}/inner", container.id)));
        container.detach();
        let found = Cgroup::at(top.path().join("inner")).controllers().unwrap();
        assert!(found == expected || !is_ours(), "{options}: {found:?}");
        container.ok(&["delete", "--force", &container.id]);
        top.remove().unwrap();
    }
}

#[test]
fn limits_are_written_or_their_controller_is_named() {
    let error = Container::new(&["true"]).with("/linux/resources", json!({"unified": {"nosuch.max": "1"}})).refused();
    assert!(error.contains("linux.resources: the nosuch controller is not available in cgroup"), "{error}");

    let available = Cgroup::at(v2_mount().unwrap()).controllers().unwrap();
    if !available.iter().any(|found| found == "pids") {
        let error = Container::new(&["true"]).with("/linux/resources", json!({"pids": {"limit": 77}})).refused();
        assert!(error.contains("the pids controller is not available"), "{error}");
    }
    let unified =
        Container::new(&["sleep", "1000"]).with("/linux/resources", json!({"unified": {"cgroup.max.depth": "3"}}));
    unified.detach();
    assert_eq!(unified.cgroup().read("cgroup.max.depth").unwrap(), "3\n");
}

#[test]
fn a_controller_is_enabled_on_the_way() {
    let available = Cgroup::at(v2_mount().unwrap()).controllers().unwrap();
    let known = [("pids", "pids.max", "77"), ("hugetlb", "hugetlb.2MB.max", "0")];
    let found = known.iter().find(|(name, ..)| available.iter().any(|found| found == name));
    host_has("the pids or the hugetlb controller of cgroup v2", found.is_some());
    let Some(&(_, file, value)) = found else { return };
    let mut container = Container::new(&["sleep", "1000"]).with("/linux/resources", json!({"unified": {file: value}}));
    let top = container.cgroup();
    container.set("/linux/cgroupsPath", json!(format!("/{}/inner/leaf", container.id)));
    container.detach();
    assert_eq!(top.child("inner").child("leaf").read(file).unwrap(), format!("{value}\n"));
    container.ok(&["delete", "--force", &container.id]);
    top.remove().unwrap();
}

#[test]
fn a_cgroup_in_use_is_refused_and_left_alone() {
    let container = Container::new(&["true"]);
    let cgroup = container.cgroup();
    cgroup.create().unwrap();
    let mut stranger = Stranger::new();
    cgroup.add(stranger.pid()).unwrap();
    let bundle = container.bundle().display().to_string();
    let error = container.fails(&["run", "--bundle", &bundle, &container.id]);
    assert!(error.contains("has processes already"), "{error}");
    assert!(stranger.lives(), "the stranger was killed");
    cgroup.remove().unwrap();
    stranger.wait();
}

#[test]
fn without_a_pid_namespace_the_cgroup_ends_them_all() {
    let namespaces = json!([{"type": "mount"}, {"type": "ipc"}, {"type": "network"}]);
    let left = || {
        let container = Container::script("sleep 1000 & exit 0").with("/linux/namespaces", namespaces.clone());
        container.detach();
        eventually("stopped", || container.status() == "stopped");
        assert_eq!(container.cgroup().procs().unwrap().len(), 1, "one is left behind");
        container
    };
    let container = left();
    container.ok(&["kill", "--all", &container.id, "TERM"]);
    eventually("empty", || !container.cgroup().populated().unwrap());
    let container = left();
    container.ok(&["kill", "--all", &container.id, "KILL"]);
    eventually("empty", || !container.cgroup().populated().unwrap());
    let container = left();
    container.ok(&["delete", &container.id]);
    container.assert_nothing_left();
}

#[test]
fn devices_are_denied_but_for_the_usual_ones() {
    let script = "head -c1 /dev/zero >/dev/null && echo zero; head -c1 /dev/kmsg && echo kmsg; exit 0";
    let kmsg = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
    let container = Container::script(script).with("/linux/devices", kmsg);
    let container = container.with("/linux/resources", json!({"devices": [{"allow": false, "access": "rwm"}]}));
    assert_eq!(container.stdout(), "zero\n");
}
