//! Mounts with every option.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Container, host_has};

/// A directory that is a mount of its own, with this propagation.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(propagation: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        bind(dir.path(), dir.path());
        mount(&[&format!("--make-{propagation}")], dir.path());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").args(["-R", "-l"]).arg(self.path()).status().ok();
    }
}

fn bind(source: &Path, target: &Path) {
    mount(&["--bind", source.to_str().unwrap()], target);
}

fn mount(args: &[&str], target: &Path) {
    assert!(Command::new("mount").args(args).arg(target).status().unwrap().success(), "{args:?}");
}

fn ids(inside: u32, outside: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": 1000}])
}

#[test]
fn owners_are_mapped() {
    let (volume, other) = (Mounted::new("private"), tempfile::tempdir().unwrap());
    let inner = volume.path().join("inner");
    fs::create_dir(&inner).unwrap();
    // No tmpfs: its owners can be mapped since Linux 6.3 only.
    bind(other.path(), &inner);
    for dir in [volume.path(), &inner] {
        fs::write(dir.join("file"), "").unwrap();
        chown(dir.join("file"), Some(7), Some(8)).unwrap();
    }
    let entry = |at: &str, options: Value| {
        let (uids, gids) = (ids(0, 2000), ids(0, 3000));
        json!({"destination": at, "source": volume.path(), "options": options, "uidMappings": uids, "gidMappings": gids})
    };
    let container = Container::script("for f in /top /top/inner /all /all/inner; do stat -c %u:%g $f/file; done")
        .mount(entry("/top", json!(["rbind", "idmap"])))
        .mount(entry("/all", json!(["rbind", "ridmap"])));
    assert_eq!(container.stdout(), "2007:3008\n7:8\n2007:3008\n2007:3008\n");
    let missing = Container::new(&["true"])
        .mount(json!({"destination": "/a", "source": volume.path(), "options": ["bind", "idmap"]}))
        .refused();
    assert!(missing.contains("mounts[6].uidMappings: is missing for the option idmap or ridmap"), "{missing}");
    let unable = Container::new(&["true"])
        .mount(json!({"destination": "/a", "source": "/proc", "options": ["bind"], "uidMappings": ids(0, 1), "gidMappings": ids(0, 1)}))
        .refused();
    assert!(unable.contains("mount /proc on /a: map the owners of files: Invalid argument"), "{unable}");
}

#[test]
fn owners_are_mapped_for_a_user_namespace() {
    let volume = Mounted::new("private");
    fs::write(volume.path().join("file"), "").unwrap();
    chown(volume.path().join("file"), Some(7), Some(7)).unwrap();
    let mut container = Container::script("stat -c %u:%g /data/file")
        .with("/linux/uidMappings", ids(0, 100_000))
        .with("/linux/gidMappings", ids(0, 100_000))
        .mount(json!({"destination": "/data", "source": volume.path(), "options": ["bind", "idmap"]}));
    container.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    for place in ["data", "proc", "dev", "sys"] {
        fs::create_dir(container.rootfs().join(place)).unwrap();
    }
    assert_eq!(container.stdout(), "7:7\n", "as in the image, without a change of the file");
}

#[test]
fn a_tmpfs_starts_with_what_it_covers() {
    let container = Container::script(
        "cat /full/file /full/dir/deep /full/link; stat -c '%a %u' /full /full/file /full/dir; readlink /full/link; \
         touch /full/new && echo new; touch /sealed/new || echo sealed; cat /sealed/file",
    )
    .mount(json!({"destination": "/full", "type": "tmpfs", "options": ["tmpcopyup"]}))
    .mount(json!({"destination": "/sealed", "type": "tmpfs", "options": ["tmpcopyup", "ro", "mode=700"]}))
    .mount(json!({"destination": "/made", "type": "tmpfs", "options": ["tmpcopyup"]}));
    for name in ["full", "sealed"] {
        let dir = container.rootfs().join(name);
        fs::create_dir_all(dir.join("dir")).unwrap();
        fs::write(dir.join("file"), "text\n").unwrap();
        fs::write(dir.join("dir/deep"), "deep\n").unwrap();
        symlink("file", dir.join("link")).unwrap();
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o4640)).unwrap();
        fs::set_permissions(dir.join("dir"), fs::Permissions::from_mode(0o710)).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o751)).unwrap();
        chown(dir.join("file"), Some(5), Some(6)).unwrap();
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o4640)).unwrap();
    }
    let text = container.with(
        "/process/capabilities",
        json!({"effective": ["CAP_DAC_OVERRIDE"], "permitted": ["CAP_DAC_OVERRIDE"], "bounding": ["CAP_DAC_OVERRIDE"]}),
    );
    assert_eq!(text.stdout(), "text\ndeep\ntext\n751 0\n4640 5\n710 0\nfile\nnew\nsealed\ntext\n");
    assert!(!text.rootfs().join("full/new").exists());
    let small = Container::new(&["true"])
        .mount(json!({"destination": "/bin", "type": "tmpfs", "options": ["tmpcopyup", "size=4k"]}))
        .refused();
    assert!(small.contains("copy up what is at /bin: No space left on device"), "{small}");
}

#[test]
fn what_is_mounted_can_be_changed() {
    let container = Container::script("touch /t/a || echo t; touch /b/a || echo b; grep ' /s ' /proc/mounts")
        .mount(json!({"destination": "/t", "type": "tmpfs"}))
        .mount(json!({"destination": "/t", "options": ["remount", "bind", "ro"]}))
        .mount(json!({"destination": "/b", "source": "volume", "options": ["bind"]}))
        .mount(json!({"destination": "/b", "type": "bind", "options": ["remount", "rro"]}))
        .mount(json!({"destination": "/s", "type": "tmpfs"}))
        .mount(json!({"destination": "/s", "options": ["remount", "size=64k", "nosuid"]}));
    fs::create_dir(container.bundle().join("volume")).unwrap();
    let text = container.stdout();
    assert!(text.starts_with("t\nb\ntmpfs /s tmpfs rw,nosuid,relatime,size=64k"), "{text}");
    let error =
        Container::new(&["true"]).mount(json!({"destination": "/none", "options": ["remount", "ro"]})).refused();
    assert!(error.contains("remount /none: No such file or directory"), "{error}");
}

#[test]
fn flags_of_file_systems_are_no_words_for_them() {
    let container = Container::script("grep -c -E ' /(bound|new) ' /proc/mounts")
        .mount(json!({"destination": "/bound", "source": "volume", "options": ["bind", "noiversion"]}))
        .mount(
            json!({"destination": "/new", "type": "tmpfs", "options": ["iversion", "nolazytime", "loud", "silent"]}),
        );
    fs::create_dir(container.bundle().join("volume")).unwrap();
    assert_eq!(container.stdout(), "2\n");
}

#[test]
fn files_and_links_are_mounted_over() {
    let container = Container::script("cat /file /link /etc/real; ls /dirlink")
        .mount(json!({"destination": "/file", "source": "new", "options": ["bind"]}))
        .mount(json!({"destination": "/link", "source": "new", "options": ["bind"]}))
        .mount(json!({"destination": "/dirlink", "source": "volume", "options": ["bind"]}));
    fs::write(container.bundle().join("new"), "new\n").unwrap();
    fs::create_dir(container.bundle().join("volume")).unwrap();
    fs::write(container.bundle().join("volume/inside"), "").unwrap();
    fs::create_dir(container.rootfs().join("etc")).unwrap();
    fs::write(container.rootfs().join("file"), "old\n").unwrap();
    fs::write(container.rootfs().join("etc/real"), "old\n").unwrap();
    symlink("/etc/real", container.rootfs().join("link")).unwrap();
    fs::create_dir(container.rootfs().join("srv")).unwrap();
    symlink("/srv", container.rootfs().join("dirlink")).unwrap();
    let text = container.stdout();
    assert_eq!(text, "new\nnew\nnew\ninside\n");
}

#[test]
fn mounts_travel_as_far_as_they_are_told() {
    // Mounted on the host below the volume while the container runs; and by the container, seen on the host.
    for (propagation, receives, sends) in [("rprivate", false, false), ("rslave", true, false), ("rshared", true, true)]
    {
        let volume = Mounted::new("shared");
        for name in ["host", "container"] {
            fs::create_dir(volume.path().join(name)).unwrap();
        }
        let caps = json!(["CAP_SYS_ADMIN"]);
        let container = Container::new(&["sleep", "1000"])
            .with("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}))
            .mount(json!({"destination": "/v", "source": volume.path(), "options": ["rbind", propagation]}));
        container.detach();
        mount(&["-t", "tmpfs", "tmpfs"], &volume.path().join("host"));
        let text = String::from_utf8(
            container.exec("mount -t tmpfs n /v/container && grep -c ' /v/host ' /proc/mounts").stdout,
        )
        .unwrap();
        assert_eq!(text.trim(), if receives { "1" } else { "0" }, "{propagation}");
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        assert_eq!(table.contains(&format!("{}/container ", volume.path().display())), sends, "{propagation}");
    }
}

#[test]
fn an_option_may_be_longer_than_a_path_usually_is() {
    let volume = Mounted::new("private");
    // Two of them exceed what fsconfig(2) takes; podman mounts images with such lists.
    let layers = ["one", "two"].map(|name| volume.path().join("l".repeat(200)).join(name));
    for layer in &layers {
        fs::create_dir_all(layer).unwrap();
        fs::write(layer.join(layer.file_name().unwrap()), "").unwrap();
    }
    let lower = format!("lowerdir={}:{}", layers[0].display(), layers[1].display());
    for (propagation, shared) in [("private", false), ("shared", true)] {
        let container = Container::script("echo $(ls /v); grep ' /v ' /proc/self/mountinfo").mount(
            json!({"destination": "/v", "type": "overlay", "source": "overlay", "options": [&lower, propagation]}),
        );
        let output = container.stdout();
        assert!(output.starts_with("one two\n"), "{output}");
        assert_eq!(output.contains(" shared:"), shared, "{propagation}: {output}");
    }
}

#[test]
fn the_root_has_the_propagation_that_is_asked_for() {
    for (value, field) in
        [("shared", "shared:"), ("private", "- "), ("unbindable", "unbindable"), ("rshared", "shared:")]
    {
        let text = Container::script("grep 'rootfs / ' /proc/self/mountinfo")
            .with("/linux/rootfsPropagation", json!(value))
            .stdout();
        let optional = text.split(' ').skip(6).collect::<Vec<_>>().join(" ");
        assert!(optional.starts_with(field), "{value}: {text}");
    }
}

#[test]
fn the_root_is_moved_without_pivot() {
    let container = Container::script("ls /; mount -t proc proc /x; cat /proc/mounts | head -n1");
    let bundle = container.bundle().display().to_string();
    let text = container.ok(&["run", "--no-pivot", "--bundle", &bundle, &container.id]);
    assert!(text.starts_with("bin\ndev\nproc\nsys\n"), "{text}");
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(&bundle) && Path::new("/proc/self").exists(), "the host's mounts are as they were");
}

#[test]
fn a_label_needs_selinux() {
    let selinux = fs::read_to_string("/proc/filesystems").unwrap().contains("selinuxfs");
    if !host_has("to run without SELinux", !selinux) {
        return;
    }
    for (pointer, field) in
        [("/linux/mountLabel", "linux.mountLabel"), ("/process/selinuxLabel", "process.selinuxLabel")]
    {
        let error = Container::new(&["true"]).with(pointer, json!("u:o:t:s0")).refused();
        assert!(error.contains(&format!("{field}: is asked for, and this kernel runs without SELinux")), "{error}");
    }
}

#[test]
fn the_cgroup_is_shown_with_and_without_a_namespace() {
    let show = "ls /c/cgroup.procs; touch /c/x 2>/dev/null || echo readonly";
    let new =
        Container::script(show).mount(json!({"destination": "/c", "type": "cgroup", "options": ["ro", "rprivate"]}));
    assert_eq!(new.stdout(), "/c/cgroup.procs\nreadonly\n");
    let mut none =
        Container::script(show).mount(json!({"destination": "/c", "type": "cgroup", "options": ["ro", "rslave"]}));
    none.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
    assert_eq!(none.stdout(), "/c/cgroup.procs\nreadonly\n");
    assert_eq!(fs::metadata("/sys/fs/cgroup").unwrap().uid(), 0);
}
