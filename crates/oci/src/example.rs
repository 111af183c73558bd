//! `spec`: a configuration to start from.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::OCI_VERSION;
use crate::error::{Error, Result, file};

/// Writes `config.json` into a bundle.
///
/// # Errors
/// [`Error::SpecExists`]; open(2)'s and write(2)'s.
pub(crate) fn write(bundle: &Path, rootless: bool) -> Result<()> {
    let path = bundle.join("config.json");
    let spec =
        if rootless { rootless_spec(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()) } else { spec() };
    let mut out = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Err(Error::SpecExists(path)),
        other => other.map_err(file("make", &path))?,
    };
    writeln!(out, "{spec:#}").map_err(file("write", &path))
}

/// A shell on a terminal, with the usual mounts and nothing of the host but its kernel.
fn spec() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": OCI_VERSION,
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "podwright",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
            "noNewPrivileges": true
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// The same with a user namespace whose root is the caller: the host's network and no limits, which take privileges; and a
/// file system without owners that are not mapped.
fn rootless_spec(uid: u32, gid: u32) -> Value {
    let mut spec = spec();
    let linux = &mut spec["linux"];
    linux["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "user"}]);
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            // A new sysfs belongs to a network namespace, and this one is the host's.
            *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
        }
        if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
            options.retain(|option| option != "gid=5");
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Context, Gate};
    use oci_spec::runtime::Spec;

    #[test]
    fn the_examples_are_configurations() {
        let mut plain = spec();
        plain["process"]["terminal"] = json!(false);
        let parsed: Spec = serde_json::from_value(plain).unwrap();
        let context =
            Context { id: "c", bundle: Path::new("/b"), gate: Gate::Go, keyring: true, pivot: true, systemd: false };
        plan::container(&parsed, &context).unwrap();
        let rootless = rootless_spec(1000, 1001);
        serde_json::from_value::<Spec>(rootless.clone()).unwrap();
        assert_eq!(rootless["linux"]["gidMappings"][0]["hostID"], 1001);
        assert!(!rootless.to_string().contains("gid=5") && !rootless.to_string().contains("null"), "{rootless}");
    }

    #[test]
    fn a_configuration_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), false).unwrap();
        assert!(matches!(write(dir.path(), true), Err(Error::SpecExists(_))));
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), spec());
    }
}
