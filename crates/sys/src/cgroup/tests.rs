use super::mount::{find_v2_mount, has_nsdelegate};
use super::*;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

/// The controllers of the v2 hierarchy. A test that finds none shows nothing of them and says so; in the VM that is a failure.
fn available() -> Vec<String> {
    let available = Cgroup::at(v2_mount().unwrap()).controllers().unwrap();
    if available.is_empty() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(
            std::env::var_os("IN_VM").is_none(),
            "{test} needs a controller of cgroup v2, which the VM has to have"
        );
        // Past what libtest catches of a test that passes.
        std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("skipped: {test} needs a controller of cgroup v2\n").as_bytes(),
        )
        .unwrap();
    }
    available
}

fn scratch(name: &str) -> Cgroup {
    let root = v2_mount().expect("these tests need cgroup v2");
    Cgroup::at(root.join(format!("podwright-sys-test-{name}-{}", std::process::id())))
}

#[test]
fn weights_follow_the_current_formula() {
    let known = [(2, 1), (10, 4), (51, 11), (102, 17), (204, 29), (256, 35), (512, 59), (1024, 100), (2048, 174)];
    for (shares, weight) in known.into_iter().chain([(4096, 303), (262_144, 10_000), (1, 1), (1 << 40, 10_000)]) {
        assert_eq!(cpu_weight(shares), Some(weight), "{shares} shares");
    }
    assert_eq!(cpu_weight(0), None);
}

#[test]
fn mountinfo_is_read() {
    let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
                  36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
                  40 31 0:38 /sub /mnt/part rw - cgroup2 cgroup2 rw\n\
                  41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
    assert_eq!(find_v2_mount(hybrid), Some("/sys/fs/cgroup/uni fied".into()));
    assert_eq!(find_v2_mount(&hybrid[..hybrid.find("41 31").unwrap()]), Some("/mnt/part".into()));
    assert_eq!(find_v2_mount("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
}

#[test]
fn the_mount_option_is_found_in_the_options_alone() {
    let line = |source: &str, options: &str| format!("42 31 0:39 / /nsdelegate rw - cgroup2 {source} {options}\n");
    assert!(has_nsdelegate(&line("cgroup2", "rw,nsdelegate,memory_recursiveprot")));
    assert!(!has_nsdelegate(&line("nsdelegate", "rw,nsdelegates")));
    assert!(!has_nsdelegate("42 31 0:39 / /x rw - ext4 cgroup2 rw,nsdelegate\n"));
    limits_hold_in_namespaces().unwrap();
}

#[test]
fn io_weights_are_stretched() {
    assert_eq!([10, 100, 500, 1000].map(io_weight), [1, 910, 4950, 10000]);
}

#[test]
fn frozen_cgroups_are_known() {
    let group = scratch("freeze");
    let inner = group.child("a");
    inner.create().unwrap();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    inner.add(pid).unwrap();
    assert_eq!(group.all_procs().unwrap(), [pid]);
    assert!(!group.is_frozen().unwrap());
    assert!(!group.wait_frozen(true, Duration::from_millis(10)).unwrap());
    group.freeze(true).unwrap();
    assert!(group.wait_frozen(true, Duration::from_secs(10)).unwrap());
    assert!(group.is_frozen().unwrap() && !inner.is_frozen().unwrap(), "what was written, not what follows from above");
    group.freeze(false).unwrap();
    assert!(group.wait_frozen(false, Duration::from_secs(10)).unwrap());
    group.remove().unwrap();
    child.wait().unwrap();
    assert!(!group.is_frozen().unwrap());
    assert!(group.wait_frozen(true, Duration::ZERO).is_err());
}

#[test]
fn limits_are_max_or_a_number() {
    assert_eq!(Limit::parse("max\n"), Some(Limit::Max));
    assert_eq!(Limit::parse("4096\n"), Some(Limit::Value(4096)));
    assert_eq!(Limit::parse("-1"), None);
    assert_eq!(Limit::Max.to_string(), "max");
}

#[test]
fn remove_kills_nested_processes_and_waits() {
    let group = scratch("kill");
    let inner = group.child("a").child("b");
    assert!(inner.create().unwrap());
    assert!(!inner.create().unwrap());
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    inner.add(i32::try_from(child.id()).unwrap()).unwrap();
    assert_eq!(inner.procs().unwrap(), [i32::try_from(child.id()).unwrap()]);
    assert!(group.populated().unwrap());
    assert!(!group.wait_empty(Duration::from_millis(20)).unwrap());
    group.remove().unwrap();
    assert!(!group.exists());
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    group.remove().expect("removing what is gone is fine");
    group.kill().expect("killing what is gone is fine");
    assert!(group.wait_empty(Duration::ZERO).unwrap());
}

#[test]
fn a_missing_controller_is_named() {
    let group = scratch("controller");
    group.create().unwrap();
    let err = group.require_controllers(&["no-such"]).unwrap_err();
    group.remove().unwrap();
    assert!(matches!(&err, CgroupError::MissingController { controller, .. } if controller == "no-such"), "{err:?}");
    assert!(err.to_string().starts_with("the no-such controller is not available in cgroup /"), "{err}");
}

#[test]
fn a_cgroup_gets_all_controllers_that_there_are() {
    let top = scratch("open");
    let leaf = Cgroup::at(top.path().join("a/b"));
    leaf.create().unwrap();
    let (opened, has) = (leaf.open_to_controllers(), leaf.controllers());
    top.remove().unwrap();
    opened.unwrap();
    assert_eq!(has.unwrap(), available());
}

#[test]
fn controllers_are_enabled_from_the_top() {
    let available = available();
    let Some(name) = available.first() else { return };
    let top = scratch("enable");
    let leaf = top.child("a").child("b");
    leaf.create().unwrap();
    let (required, has) = (leaf.require_controllers(&[name]), leaf.controllers());
    top.remove().unwrap();
    required.unwrap();
    assert_eq!(has.unwrap(), std::slice::from_ref(name));
}
