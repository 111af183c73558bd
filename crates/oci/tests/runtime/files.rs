//! The container's file system, also with hostile content.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use crate::harness::{Container, eventually, is_ours};

#[test]
fn binds_are_read_only_where_asked_for() {
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("file"), "content").unwrap();
    let source = volume.path().display().to_string();
    let file = volume.path().join("file").display().to_string();
    let container = Container::script(
        "touch /rw/a && echo rw; touch /ro/b || echo ro; touch /rro/b || echo rro; cat /a/file/here; \
         echo x > /a/file/here || echo file; exit 0",
    )
    .mount(json!({"destination": "/rw", "source": source, "options": ["bind"]}))
    .mount(json!({"destination": "/ro", "source": source, "options": ["rbind", "ro"]}))
    .mount(json!({"destination": "/rro", "source": source, "options": ["rbind", "rro"]}))
    .mount(json!({"destination": "/a/file/here", "source": file, "options": ["bind", "ro"]}));
    assert_eq!(container.stdout(), "rw\nro\nrro\ncontentfile\n");
    assert!(volume.path().join("a").exists() && !volume.path().join("b").exists());
}

#[test]
fn recursive_attributes_reach_the_mounts_below() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&inner).status().unwrap().success());
    let source = outer.path().display().to_string();
    let container =
        Container::script("touch /ro/inner/a && echo ro-is-shallow; touch /rro/inner/b || echo rro-is-deep; exit 0")
            .mount(json!({"destination": "/ro", "source": source, "options": ["rbind", "ro"]}))
            .mount(json!({"destination": "/rro", "source": source, "options": ["rbind", "rro"]}));
    let output = container.run();
    assert!(Command::new("umount").arg(&inner).status().unwrap().success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ro-is-shallow\nrro-is-deep\n", "{output:?}");
}

#[test]
fn roots_and_tmpfs_can_be_read_only() {
    let container =
        Container::script("touch /x || echo root; touch /t/x || echo tmpfs; ls -d /t/sub; touch /t/sub/x && echo sub")
            .with("/root/readonly", json!(true))
            .mount(json!({"destination": "/t", "type": "tmpfs", "options": ["ro"]}))
            .mount(json!({"destination": "/t/sub", "type": "tmpfs"}));
    assert_eq!(container.stdout(), "root\ntmpfs\n/t/sub\nsub\n");
}

#[test]
fn masked_and_readonly_paths_hold_against_a_capable_root() {
    let caps = json!(["CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_MKNOD"]);
    let container = Container::script(
        "cat /proc/kcore | head -c4; ls /proc/sys/kernel/domainname; echo x > /proc/sys/kernel/domainname || echo readonly; \
         ls /secret; cat /file; exit 0",
    )
    .with("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}))
    .with("/linux/maskedPaths", json!(["/proc/kcore", "/secret", "/file", "/proc/missing", "/file/below"]))
    .with("/linux/readonlyPaths", json!(["/proc/sys", "/missing"]));
    fs::create_dir(container.rootfs().join("secret")).unwrap();
    fs::write(container.rootfs().join("secret/key"), "k").unwrap();
    fs::write(container.rootfs().join("file"), "k").unwrap();
    assert_eq!(container.stdout(), "/proc/sys/kernel/domainname\nreadonly\n");
}

#[test]
fn a_mount_through_hostile_links_stays_inside() {
    let outside = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("mine"), "").unwrap();
    let container = Container::script("ls /link/sub /climb/sub")
        .mount(json!({"destination": "/link/sub", "source": volume.path(), "options": ["bind"]}))
        .mount(json!({"destination": "/climb/sub", "source": volume.path(), "options": ["bind"]}));
    symlink(outside.path(), container.rootfs().join("link")).unwrap();
    symlink(format!("../../../../../../..{}", outside.path().display()), container.rootfs().join("climb")).unwrap();
    assert_eq!(container.stdout(), "/climb/sub:\nmine\n\n/link/sub:\nmine\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "the outside was touched");
}

#[test]
fn proc_is_mounted_on_a_plain_directory_only() {
    let container = Container::new(&["true"]);
    symlink("elsewhere", container.rootfs().join("proc")).unwrap();
    fs::create_dir(container.rootfs().join("elsewhere")).unwrap();
    let error = container.refused();
    assert!(
        error.contains("/proc: is a symlink; a file system of type proc must be mounted on ordinary directory"),
        "{error}"
    );
}

#[test]
fn a_working_directory_is_made_and_never_left() {
    let container = Container::script("echo $PWD; ls /made/here").with("/process/cwd", json!("/made/here"));
    assert_eq!(container.stdout(), "/made/here\n");
    // CVE-2024-21626: a descriptor of the runtime that still knows the host.
    let container = Container::script("ls").with("/process/cwd", json!("/proc/self/fd/7"));
    assert!(container.refused().contains("process.cwd"));
}

#[test]
fn devices_and_links_are_there() {
    let container = Container::script(
        "for d in null zero full random urandom tty; do stat -c '%F %t:%T %a' /dev/$d; done; \
         readlink /dev/fd; readlink /dev/stdout; readlink /dev/ptmx; stat -c '%F %a %u' /dev/fifo; echo hi > /dev/null",
    )
    .with("/linux/devices", json!([{"path": "/dev/fifo", "type": "p", "fileMode": 384, "uid": 5}]));
    let expected = "character special file 1:3 666\ncharacter special file 1:5 666\ncharacter special file 1:7 666\n\
        character special file 1:8 666\ncharacter special file 1:9 666\ncharacter special file 5:0 666\n\
        /proc/self/fd\n/proc/self/fd/1\npts/ptmx\nfifo 600 5\n";
    assert_eq!(container.stdout(), expected);
}

#[test]
fn the_hosts_null_is_no_substitute_for_a_missing_one() {
    let empty = tempfile::tempdir().unwrap();
    let container = Container::new(&["/bin/true"])
        .mount(json!({"destination": "/dev", "source": empty.path(), "options": ["bind"]}));
    if is_ours() {
        let error = container.refused();
        assert!(error.contains("open the container's /dev/null for stdio: No such file or directory"), "{error}");
    }
}

#[test]
fn null_on_stdio_is_the_containers_own() {
    // The harness opens the host's for reading only.
    let tell = "f='stat -L -c %d:%i'
        tell() { test $($f /proc/self/fd/0) = $($f /dev/null) && echo own; echo written >&0 && echo writable; }
        tell >/new; mv /new ";
    let container = Container::script(&format!("{tell} /first; sleep 1000"));
    let told = |name: &str| {
        eventually(name, || container.rootfs().join(name).exists());
        fs::read_to_string(container.rootfs().join(name)).unwrap()
    };
    container.detach();
    assert_eq!(told("first"), "own\nwritable\n");
    // runc leaves the host's to an exec, and the peers do not look at what they open.
    if is_ours() {
        container.ok(&["exec", "--detach", &container.id, "sh", "-c", &format!("{tell} /second")]);
        assert_eq!(told("second"), "own\nwritable\n");
        container.exec("rm /dev/null; ln -s /bin/busybox /dev/null");
        assert!(!container.exec("true").status.success(), "there is no null to replace the host's with");
    }
}

#[test]
fn nothing_of_the_host_is_mounted() {
    let text = Container::script("cat /proc/mounts").stdout();
    let mut points: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    points.sort_unstable();
    assert_eq!(points, ["/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys"]);
}

#[test]
fn mounts_of_the_container_do_not_reach_the_host() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(&container.bundle().display().to_string()), "{host}");
}
