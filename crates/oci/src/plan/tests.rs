mod mounts;
mod namespaces;
mod process;
mod seccomp;

use super::*;
use podwright_inside as inside;
use podwright_sys::caps::CapSet;
use podwright_sys::device;
use podwright_sys::mount::Change;
use serde_json::{Value, json};

/// A configuration with one of everything, as JSON to be changed by a test.
fn everything() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "box",
        "domainname": "example",
        "process": {
            "user": {"uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 23},
            "args": ["sh"], "env": ["PATH=/bin"], "cwd": "/srv",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}],
            "noNewPrivileges": true, "oomScoreAdj": 5
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "ro", "mode=755"]},
            {"destination": "/data", "source": "volume", "options": ["rbind", "rro", "rprivate"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
        ],
        "hooks": {
            "prestart": [{"path": "/h"}], "createContainer": [{"path": "/h"}], "startContainer": [{"path": "/h"}]
        },
        "linux": {
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "cgroup"}, {"type": "ipc"},
                {"type": "network", "path": "/proc/1/ns/net"}
            ],
            "sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9"},
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
            "cgroupsPath": "/pods/a",
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}
        }
    })
}

fn plan_gated(config: &Value, gate: Gate) -> Result<Plan> {
    let spec: Spec = serde_json::from_value(config.clone()).expect("a valid configuration");
    let context = Context { id: "c1", bundle: Path::new("/b"), gate, keyring: true, pivot: true, systemd: false };
    container(&spec, &context)
}

fn plan(config: &Value) -> Result<Plan> {
    plan_gated(config, Gate::Go)
}

fn changed(change: impl FnOnce(&mut Value)) -> Result<Plan> {
    let mut config = everything();
    change(&mut config);
    plan(&config)
}

/// The kinds of steps, in order.
fn kinds(steps: &[Step]) -> Vec<String> {
    let name = |step: &Step| {
        let text = match step {
            Step::Inside(step) => format!("{step:?}"),
            step => format!("{step:?}"),
        };
        text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
    };
    steps.iter().map(name).collect()
}

#[test]
fn the_order_of_steps() {
    let expected = "Join UnshareCgroup SessionKeyring OomScoreAdj Propagation BindRoot \
        Hostname Domainname MountFs MountFs Bind MountCgroup Devices DevLinks MakeCwd Sysctl Sysctl \
        RuntimeHooks CreateContainerHooks SealMounts ReadonlyPath Mask ReadonlyRoot PivotRoot \
        Await StartContainerHooks NewSession OwnStdio Rlimit CloseDescriptors ResetSignals Chdir Umask \
        LimitBounding SwitchUser Capabilities NoNewPrivileges LoadFilter Exec";
    let plan = plan(&everything()).unwrap();
    assert_eq!(kinds(&plan.steps).join(" "), expected);
    let created = plan_gated(&everything(), Gate::Start).unwrap();
    assert_eq!(
        kinds(&created.steps).join(" "),
        expected.replace("Await", "FindProgram Await").replace("OomScoreAdj", "OomScoreAdj RaiseLimit")
    );
}

#[test]
fn namespaces_are_made_joined_or_inherited() {
    let plan = plan(&everything()).unwrap();
    let made = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    assert_eq!(plan.namespaces, made, "the cgroup namespace is not made by the clone");
    let join = Step::Join { kind: CloneFlags::CLONE_NEWNET, path: "/proc/1/ns/net".into() };
    assert_eq!(plan.steps[0], join);

    let shared = changed(|c| {
        c["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": "/p"}])
    });
    let shared = shared.unwrap();
    assert_eq!(shared.namespaces, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS);
    assert_eq!(shared.pid_namespace, Some("/p".into()));
    assert!(!shared.steps.contains(&Step::UnshareCgroup));
    let checked =
        shared.steps.iter().filter(|step| matches!(step, Step::Sysctl { shared_namespace: Some("net" | "ipc"), .. }));
    assert_eq!(checked.count(), 2, "a parameter of an inherited namespace is checked against the host's");
}

#[test]
fn the_filter_is_loaded_where_it_may_be() {
    let with = changed(|c| c["process"]["noNewPrivileges"] = json!(false)).unwrap();
    let tail = &kinds(&with.steps)[with.steps.len() - 5..];
    assert_eq!(tail, ["LimitBounding", "SwitchUser", "LoadFilter", "Capabilities", "Exec"]);
    let without = changed(|c| c["linux"]["seccomp"] = Value::Null).unwrap();
    assert!(without.seccomp.is_none() && !without.steps.contains(&Step::Inside(inside::Step::LoadFilter)));
}

#[test]
fn mounts_become_steps() {
    let plan = plan(&everything()).unwrap();
    let dev = plan.steps.iter().find_map(|step| match step {
        Step::MountFs(fs) if fs.target == Path::new("/dev") => Some(fs),
        _ => None,
    });
    let dev = dev.unwrap();
    assert!(dev.seal, "a read-only tmpfs is filled first");
    assert_eq!((dev.flags, dev.data.as_str()), (MsFlags::MS_NOSUID, "mode=755"));
    let bind = plan.steps.iter().find_map(|step| match step {
        Step::Bind(bind) => Some(bind),
        _ => None,
    });
    let bind = bind.unwrap();
    assert_eq!((bind.source.as_path(), bind.recursive), (Path::new("/b/volume"), true), "relative to the bundle");
    assert!(bind.change.is_empty());
    let readonly = Change::flags(MsFlags::MS_RDONLY, MsFlags::empty()).propagation(MsFlags::MS_PRIVATE);
    assert_eq!(bind.recursive_change, readonly);
    let cgroup = Step::MountCgroup {
        target: "/sys/fs/cgroup".into(),
        flags: MsFlags::MS_RDONLY,
        namespaced: true,
        data: String::new(),
        propagation: None,
    };
    assert!(plan.steps.contains(&cgroup));
}

#[test]
fn the_hosts_dev_is_left_alone() {
    let bound =
        changed(|c| c["mounts"] = json!([{"destination": "/dev", "source": "/dev", "options": ["rbind"]}])).unwrap();
    assert!(!kinds(&bound.steps).iter().any(|kind| kind == "Devices" || kind == "DevLinks"));
}

#[test]
fn a_configured_device_replaces_the_default_one() {
    // As podman gives it, with the type's bits.
    let devices = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o20_600, "uid": 5},
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    ]);
    let plan = changed(|c| c["linux"]["devices"] = devices).unwrap();
    let nodes = plan.steps.iter().find_map(|step| match step {
        Step::Devices(nodes) => Some(nodes),
        _ => None,
    });
    let nodes = nodes.unwrap();
    assert_eq!(nodes.len(), 7);
    let nulls: Vec<_> = nodes.iter().filter(|node| node.path == Path::new("/dev/null")).collect();
    assert!(matches!(nulls[..], [DeviceNode { mode: 0o600, uid: 5, .. }]), "{nulls:?}");
}

#[test]
fn capabilities_are_sets_and_ambient_ones_need_the_others() {
    let caps = json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]});
    let plan = changed(|c| c["process"]["capabilities"] = caps).unwrap();
    let kill = CapSet::from_names(["KILL"]).unwrap();
    let found = plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Inside(inside::Step::Capabilities { ambient, .. }) if *ambient == kill));
    assert!(found, "{:?}", plan.steps);
    let error = changed(|c| c["process"]["capabilities"] = json!({"inheritable": ["CAP_KILL"]})).unwrap_err();
    assert_eq!(error.field, "process.capabilities.inheritable", "the kernel keeps none that bounding has not");
    let none = changed(|c| c["process"]["capabilities"] = Value::Null).unwrap();
    assert!(
        none.steps.contains(&Step::Inside(inside::Step::LimitBounding(CapSet::default()))),
        "without a word, none is kept"
    );
}

fn writes(resources: Value) -> Vec<(String, String)> {
    let plan = changed(|c| c["linux"]["resources"] = resources).unwrap();
    plan.cgroup.writes.into_iter().map(|write| (write.file, write.value)).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|&(file, value)| (file.to_owned(), value.to_owned())).collect()
}

#[test]
fn resources_become_cgroup_files() {
    let all = json!({
        "memory": {"limit": 1000, "reservation": 500, "swap": 1500},
        "cpu": {"shares": 1024, "quota": 5000, "period": 10000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 7},
        "unified": {"memory.oom.group": "1", "cgroup.max.depth": "3"}
    });
    let expected = [
        ("memory.swap.max", "500"),
        ("memory.max", "1000"),
        ("memory.low", "500"),
        ("cpu.weight", "100"),
        ("cpu.max", "5000 10000"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "7"),
        ("cgroup.max.depth", "3"),
        ("memory.oom.group", "1"),
    ];
    assert_eq!(writes(all.clone()), pairs(&expected));
    let plan = changed(|c| c["linux"]["resources"] = all).unwrap();
    assert_eq!(plan.cgroup.controllers, ["memory", "cpu", "cpuset", "pids"]);

    let unlimited =
        json!({"memory": {"limit": -1, "swap": -1}, "cpu": {"shares": 0, "quota": -1}, "pids": {"limit": -1}});
    let expected = [("memory.swap.max", "max"), ("memory.max", "max"), ("cpu.max", "max 100000"), ("pids.max", "max")];
    assert_eq!(writes(unlimited), pairs(&expected));
    assert_eq!(writes(json!({})), []);
}

#[test]
fn device_rules_are_followed_by_the_usual_devices() {
    let rules =
        |devices: Value| changed(|c| c["linux"]["resources"] = json!({"devices": devices})).unwrap().cgroup.devices;
    let denied =
        rules(json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 8, "access": "r"}]));
    assert!(!denied[0].allow && denied[0].access == device::READ | device::WRITE | device::MKNOD);
    let disk = device::Rule {
        allow: true,
        kind: Some(device::Kind::Block),
        major: Some(8),
        minor: None,
        access: device::READ,
    };
    assert_eq!(denied[1], disk);
    let null = |rule: &device::Rule| rule.allow && rule.major == Some(1) && rule.minor == Some(3);
    assert!(denied.iter().any(null));
    assert!(denied.iter().all(|rule| !rule.allow || rule.major.is_some() || rule.access == device::MKNOD));
    assert_eq!(rules(json!([{"allow": true, "access": "rwm"}])), [], "a privileged container needs no program");
    assert_eq!(rules(json!([])), []);
}

#[test]
fn a_terminal_is_made_before_anything_is_masked() {
    let with = |size: Value| {
        changed(|c| {
            c["process"]["terminal"] = json!(true);
            c["process"]["consoleSize"] = size;
        })
    };
    let plan = with(json!({"height": 24, "width": 80})).unwrap();
    let order = kinds(&plan.steps).join(" ");
    assert!(
        order.contains("DevLinks OpenTerminal MakeCwd")
            && order.contains("PivotRoot NewSession AttachTerminal Await StartContainerHooks OwnStdio"),
        "{order}"
    );
    let size = Some(TerminalSize { rows: 24, columns: 80 });
    assert!(plan.steps.contains(&Step::OpenTerminal { size, console: true }));
    assert!(with(Value::Null).unwrap().steps.contains(&Step::OpenTerminal { size: None, console: true }));
    assert_eq!(with(json!({"height": 65536})).unwrap_err().field, "process.consoleSize.height");
    let ignored = changed(|c| c["process"]["consoleSize"] = json!({"height": 65536})).unwrap();
    assert!(!kinds(&ignored.steps).iter().any(|kind| kind == "OpenTerminal"), "a size alone asks for nothing");
}

#[test]
fn without_pivot_the_root_is_moved() {
    let spec: Spec = serde_json::from_value(everything()).unwrap();
    let context =
        Context { id: "c1", bundle: Path::new("/b"), gate: Gate::Go, keyring: true, pivot: false, systemd: false };
    let steps = kinds(&container(&spec, &context).unwrap().steps);
    assert!(steps.iter().any(|kind| kind == "MoveRoot") && !steps.iter().any(|kind| kind == "PivotRoot"));
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let cases: &[(&str, Value, &str)] = &[
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(["a\u{0}b"]), "process.args"),
        ("/process/cwd", json!("srv"), "process.cwd"),
        ("/linux/namespaces", json!([{"type": "user"}]), "linux.namespaces"),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "mount"}]), "linux.namespaces[1]"),
        ("/linux/maskedPaths", json!(["/a", "b"]), "linux.maskedPaths[1]"),
        ("/linux/readonlyPaths", json!([""]), "linux.readonlyPaths[0]"),
        ("/linux/namespaces", json!([{"type": "mount"}]), "hostname"),
        ("/linux/namespaces", json!([{"type": "pid", "path": "relative"}]), "linux.namespaces[0]"),
        ("/linux/rootfsPropagation", json!("odd"), "linux.rootfsPropagation"),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "linux.sysctl.vm.swappiness"),
        ("/linux/sysctl", json!({"net/../vm/swappiness": "1"}), "linux.sysctl.net/../vm/swappiness"),
        ("/linux/resources", json!({"blockIO": {"leafWeight": 9}}), "linux.resources.blockIO.leafWeight"),
        ("/linux/resources", json!({"memory": {"swappiness": 1}}), "linux.resources.memory.swappiness"),
        ("/linux/resources", json!({"memory": {"swap": 10, "limit": 20}}), "linux.resources.memory.swap"),
        ("/linux/resources", json!({"memory": {"swap": 10}}), "linux.resources.memory.swap"),
        ("/linux/resources", json!({"cpu": {"realtimeRuntime": 1}}), "linux.resources.cpu.realtimeRuntime"),
        ("/linux/resources", json!({"unified": {"../x.y": "1"}}), "linux.resources.unified"),
        ("/linux/resources", json!({"devices": [{"allow": true, "access": "x"}]}), "linux.resources.devices[0].access"),
        ("/mounts", json!([{"destination": "/"}]), "mounts[0].destination"),
        ("/mounts", json!([{"destination": "/a/.."}]), "mounts[0].destination"),
        ("/mounts", json!([{"destination": "/a"}]), "mounts[0].type"),
        ("/mounts", json!([{"destination": "//proc/x/../", "type": "tmpfs"}]), "mounts[0].type"),
        ("/mounts", json!([{"destination": "/a", "options": ["bind"]}]), "mounts[0].source"),
        ("/mounts", json!([{"destination": "/a", "source": "/a", "options": ["bind", "wat"]}]), "mounts[0].options"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/vm", json!({"kernel": {"path": "/k"}}), "vm"),
    ];
    refused(cases);
}

/// Each value, put at its place, is refused by the name of its field.
fn refused(cases: &[(&str, Value, &str)]) {
    for (pointer, value, field) in cases {
        assert_eq!(with(pointer, value.clone()).unwrap_err().field, *field, "{pointer} = {value}");
    }
}

fn with(pointer: &str, value: Value) -> Result<Plan> {
    changed(|config| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
    })
}

#[test]
fn a_process_is_needed_for_the_start_only() {
    let mut config = everything();
    config["process"] = Value::Null;
    assert_eq!(plan(&config).unwrap_err().field, "process");
    let created = plan_gated(&config, Gate::Start).unwrap();
    assert_eq!(kinds(&created.steps)[created.steps.len() - 2..], ["Await", "NoProcess"]);
}

#[test]
fn an_exec_enters_before_it_waits() {
    let mut config = everything();
    config["process"]["noNewPrivileges"] = json!(false);
    let spec: Spec = serde_json::from_value(config).unwrap();
    let ExecPlan { steps, seccomp, .. } = exec(&spec, spec.process().as_ref().unwrap(), "test").unwrap();
    let expected = "OomScoreAdj SessionKeyring Enter Await NewSession OwnStdio Rlimit CloseDescriptors ResetSignals Chdir \
        Umask LimitBounding SwitchUser LoadFilter Capabilities Exec";
    assert_eq!(kinds(&steps).join(" "), expected);
    assert!(seccomp.is_some(), "the container's filter holds for it, too");
}

/// CVE-2016-9962: a holder of CAP_SYS_PTRACE looks into any process from its first moment on.
#[test]
fn an_exec_that_may_be_traced_begins_with_no_more_than_the_container_has() {
    let mut config = everything();
    config["process"]["noNewPrivileges"] = json!(false);
    config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 3});
    let traced = json!(["CAP_KILL", "CAP_SYS_PTRACE"]);
    config["process"]["capabilities"] =
        json!({"bounding": traced, "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    let spec: Spec = serde_json::from_value(config).unwrap();
    let order = |process: &Process| exec(&spec, process, "test").unwrap().steps;
    let steps = order(spec.process().as_ref().unwrap());
    let expected = "OomScoreAdj SessionKeyring Enter OwnStdio Rlimit CloseDescriptors ResetSignals Chdir Umask LimitBounding \
        SwitchUser KeepCapabilities Succeed Await NewSession Scheduler Capabilities NoNewPrivileges LoadFilter Exec";
    assert_eq!(kinds(&steps).join(" "), expected);
    let kept = CapSet::from_names(["KILL", "SYS_NICE"]).unwrap();
    assert!(steps.contains(&Step::Inside(inside::Step::KeepCapabilities(kept))), "{steps:?}");
    assert!(
        steps
            .iter()
            .any(|s| matches!(s, Step::Inside(inside::Step::Enter(kinds)) if kinds.contains(CloneFlags::CLONE_NEWPID)))
    );
    // It is the container that looks, whatever the new process is given.
    let mut process = spec.process().clone().unwrap();
    process.set_capabilities(None);
    assert!(order(&process).contains(&Step::Succeed));
}
