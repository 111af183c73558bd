//! User and time namespaces, and what follows from them.

use podwright_inside as inside;

use super::*;

fn mapping(inside: u32, outside: u32, count: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": count}])
}

/// A container in a user namespace, new or joined.
fn in_user_namespace(namespaces: Value, change: impl FnOnce(&mut Value)) -> Result<Plan> {
    changed(|c| {
        c["linux"]["namespaces"] = namespaces;
        c["linux"]["uidMappings"] = mapping(0, 100_000, 65536);
        c["linux"]["gidMappings"] = mapping(0, 200_000, 65536);
        c["mounts"][3]["options"] = json!(["rw"]);
        change(c);
    })
}

fn all_new() -> Value {
    json!([{"type": "user"}, {"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "cgroup"}, {"type": "ipc"}, {"type": "network"}])
}

#[test]
fn a_user_namespace_owns_all_others() {
    let plan = in_user_namespace(all_new(), |_| {}).unwrap();
    assert!(plan.namespaces.contains(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS));
    assert_eq!(plan.on_the_way, [], "one clone3 makes them all");
    let order = kinds(&plan.steps).join(" ");
    let expected = "AwaitMappings UnshareCgroup Propagation BindRoot BecomeRoot SessionKeyring Hostname";
    assert!(order.starts_with(expected), "{order}");
    assert!(!order.contains("OomScoreAdj"), "only the runtime may lower it");
    let user = plan.user.unwrap();
    let mappings = user.mappings.unwrap();
    assert_eq!(
        (mappings.uids.to_string(), mappings.gids.to_string()),
        ("0 100000 65536\n".into(), "0 200000 65536\n".into())
    );
    assert_eq!((user.new, user.oom_score_adj, user.uid, user.gid), (true, Some(5), 0, 0));
    assert_eq!(plan.cgroup_owner, Some(101_000), "process.user.uid, seen from outside");
}

#[test]
fn a_cgroup_is_given_away_only_for_writing() {
    let readonly = in_user_namespace(all_new(), |c| c["mounts"][3]["options"] = json!(["ro"])).unwrap();
    assert_eq!(readonly.cgroup_owner, None);
    assert_eq!(plan(&everything()).unwrap().cgroup_owner, None);
}

#[test]
fn what_is_joined_is_entered_before_the_user_namespace() {
    let namespaces = json!([
        {"type": "user", "path": "/u"}, {"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/n"}, {"type": "pid", "path": "/p"}
    ]);
    let plan = in_user_namespace(namespaces, |_| {}).unwrap();
    let entered: Vec<_> = plan.on_the_way.iter().map(|(kind, path)| (*kind, path.to_str().unwrap())).collect();
    let expected =
        [(CloneFlags::CLONE_NEWPID, "/p"), (CloneFlags::CLONE_NEWNET, "/n"), (CloneFlags::CLONE_NEWUSER, "/u")];
    assert_eq!(entered, expected);
    assert_eq!((plan.namespaces, plan.pid_namespace), (CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS, None));
    assert!(kinds(&plan.steps).join(" ").starts_with("AwaitMappings CheckMappings Propagation"), "{:?}", plan.steps);
    assert!(!plan.user.unwrap().new);
}

#[test]
fn root_need_not_be_mapped() {
    let plan = in_user_namespace(all_new(), |c| {
        c["linux"]["uidMappings"] = mapping(1000, 7, 1);
        c["linux"]["gidMappings"] = mapping(1001, 8, 1);
        c["process"]["user"]["additionalGids"] = json!([1001]);
    });
    let plan = plan.unwrap();
    assert!(plan.steps.contains(&Step::BecomeRoot { uid: 1000, gid: 1001 }));
    assert_eq!(plan.cgroup_owner, Some(7));
}

/// Who would be in the mappings is `process.user`, and a container that is only created needs none.
#[test]
fn without_a_process_the_first_id_sets_the_container_up() {
    let created = |uids: Value, gids: Value| {
        let mut config = everything();
        config["process"] = Value::Null;
        config["linux"]["namespaces"] = all_new();
        config["linux"]["uidMappings"] = uids;
        config["linux"]["gidMappings"] = gids;
        plan_gated(&config, Gate::Start).unwrap().steps
    };
    let steps = created(mapping(1000, 7, 1), mapping(0, 8, 1));
    assert!(steps.contains(&Step::BecomeRoot { uid: 1000, gid: 0 }), "{steps:?}");
}

#[test]
fn sources_are_opened_by_the_runtime() {
    let plan = in_user_namespace(all_new(), |_| {}).unwrap();
    assert!(plan.steps.iter().any(|step| matches!(step, Step::BindRoot { early: true, .. })));
    assert!(plan.steps.iter().any(|step| matches!(step, Step::Bind(bind) if bind.early)));
    let plan = super::plan(&everything()).unwrap();
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::BindRoot { early: true, .. })));
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Bind(bind) if bind.early)));
}

#[test]
fn views_of_foreign_namespaces_are_bound() {
    let mounts = json!([
        {"destination": "/proc", "type": "proc"}, {"destination": "/sys", "type": "sysfs"}, {"destination": "/mq", "type": "mqueue"}
    ]);
    let bound = |namespaces: Value| {
        let plan = in_user_namespace(namespaces, |c| {
            c["mounts"] = mounts.clone();
            c["linux"]["sysctl"] = json!({});
        });
        let steps = plan.unwrap().steps;
        steps
            .iter()
            .filter_map(|step| match step {
                Step::MountFs(fs) => Some(fs.or_bind.as_ref().map(|path| path.display().to_string())),
                _ => None,
            })
            .flatten()
            .collect::<Vec<_>>()
    };
    assert_eq!(bound(all_new()), Vec::<String>::new());
    assert_eq!(bound(json!([{"type": "user"}, {"type": "mount"}, {"type": "uts"}])), ["/proc", "/sys", "/dev/mqueue"]);
    let joined = json!([{"type": "user"}, {"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": "/p"}, {"type": "network", "path": "/n"}]);
    assert_eq!(bound(joined), ["/sys", "/dev/mqueue"], "another PID namespace's /proc would be a wrong one");
}

#[test]
fn mappings_that_cannot_be_are_refused() {
    let refused = |field: &str, change: &dyn Fn(&mut Value)| {
        assert_eq!(in_user_namespace(all_new(), change).unwrap_err().field, field);
    };
    refused("linux.uidMappings", &|c| {
        c["linux"]["uidMappings"] = json!([]);
        c["linux"]["gidMappings"] = json!([]);
    });
    refused("linux.gidMappings", &|c| c["linux"]["gidMappings"] = json!([]));
    refused("linux.uidMappings", &|c| c["linux"]["uidMappings"] = Value::Null);
    refused("linux.uidMappings[0]", &|c| c["linux"]["uidMappings"] = mapping(0, 1, 0));
    refused("linux.uidMappings[0]", &|c| c["linux"]["uidMappings"] = mapping(0, u32::MAX, 2));
    let overlapping = json!([
        {"containerID": 0, "hostID": 100, "size": 2000}, {"containerID": 5000, "hostID": 200, "size": 1}
    ]);
    refused("linux.gidMappings[1]", &|c| c["linux"]["gidMappings"] = overlapping.clone());
    refused("process.user.uid", &|c| c["linux"]["uidMappings"] = mapping(0, 1, 1000));
    refused("process.user.gid", &|c| c["linux"]["gidMappings"] = mapping(0, 1, 1001));
    refused("process.user.additionalGids", &|c| c["linux"]["gidMappings"] = mapping(1001, 1, 1));
    refused("linux.uidMappings", &|c| c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "user"));
}

#[test]
fn another_process_leaves_its_groups_before_the_user_namespace() {
    let mut config = everything();
    config["linux"]["namespaces"].as_array_mut().unwrap().extend([json!({"type": "user"}), json!({"type": "time"})]);
    let spec: Spec = serde_json::from_value(config).unwrap();
    let plan = exec(&spec, spec.process().as_ref().unwrap(), "test").unwrap();
    let order = kinds(&plan.steps).join(" ");
    assert!(order.starts_with("OomScoreAdj RaiseLimit DropGroups Enter SessionKeyring Await"), "{order}");
    let both = CloneFlags::CLONE_NEWUSER | CLONE_NEWTIME;
    assert!(
        plan.steps.iter().any(|step| matches!(step, Step::Inside(inside::Step::Enter(kinds)) if kinds.contains(both)))
    );
}

#[test]
fn clocks_are_set_in_a_new_time_namespace() {
    let with = |namespace: Value, offsets: Value| {
        changed(|c| {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
            c["linux"]["timeOffsets"] = offsets;
        })
    };
    let offsets = json!({"monotonic": {"secs": -7, "nanosecs": 9}, "boottime": {"secs": 100}});
    let plan = with(json!({"type": "time"}), offsets.clone()).unwrap();
    let expected = Step::UnshareTime { offsets: "boottime 100 0\nmonotonic -7 9\n".into() };
    assert!(plan.steps.contains(&expected), "{:?}", plan.steps);
    assert!(!plan.namespaces.intersects(CLONE_NEWTIME), "clone3 would start the clocks before they are set");
    let joined = with(json!({"type": "time", "path": "/t"}), Value::Null).unwrap();
    assert!(joined.steps.contains(&Step::Join { kind: CLONE_NEWTIME, path: "/t".into() }));
    for (namespace, offsets, field) in [
        (json!({"type": "time", "path": "/t"}), offsets.clone(), "linux.timeOffsets"),
        (json!({"type": "user"}), offsets, "linux.timeOffsets"),
        (json!({"type": "time"}), json!({"realtime": {"secs": 1}}), "linux.timeOffsets.realtime"),
        (
            json!({"type": "time"}),
            json!({"boottime": {"nanosecs": 1_000_000_000}}),
            "linux.timeOffsets.boottime.nanosecs",
        ),
    ] {
        let mapped = changed(|c| {
            if namespace["type"] == "user" {
                c["linux"]["uidMappings"] = mapping(0, 0, 65536);
                c["linux"]["gidMappings"] = mapping(0, 0, 65536);
            }
            c["linux"]["namespaces"].as_array_mut().unwrap().push(namespace.clone());
            c["linux"]["timeOffsets"] = offsets.clone();
        });
        assert_eq!(mapped.unwrap_err().field, field);
    }
}

#[test]
fn devices_move_into_the_containers_network() {
    let own = |c: &mut Value| c["linux"]["namespaces"][5] = json!({"type": "network"});
    let plan = changed(|c| {
        own(c);
        c["linux"]["netDevices"] = json!({"eth1": {"name": "lan%d"}, "eth0": {}});
    });
    let device = |from: &str, to: &str| NetDevice { from: from.into(), to: to.into() };
    let devices = vec![device("eth0", "eth0"), device("eth1", "lan%d")];
    assert_eq!(plan.unwrap().net_devices, Some(NetDevices { devices, namespace: None }));
    let joined = with("/linux/netDevices", json!({"eth0": {}})).unwrap().net_devices.unwrap();
    assert_eq!(joined.namespace, Some("/proc/1/ns/net".into()));
    refused(&[
        ("/linux/netDevices", json!({"a name": {}}), "linux.netDevices.a name"),
        ("/linux/netDevices", json!({"eth%d": {}}), "linux.netDevices.eth%d"),
        ("/linux/netDevices", json!({"eth0": {"name": "sixteencharacter"}}), "linux.netDevices.eth0.name"),
        ("/linux/netDevices", json!({"eth0": {"name": "a%d%d"}}), "linux.netDevices.eth0.name"),
        ("/linux/netDevices", json!({"eth0": {"name": "x"}, "eth1": {"name": "x"}}), "linux.netDevices.eth1.name"),
    ]);
    let host = changed(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().pop();
        c["linux"]["netDevices"] = json!({"eth0": {}});
    });
    assert_eq!(host.unwrap_err().field, "linux.netDevices");
}

#[test]
fn mounts_of_others_are_left_as_they_are() {
    for (entry, inherited) in [(None, true), (Some(json!({"type": "mount", "path": "/m"})), false)] {
        let mut config = everything();
        config["linux"]["namespaces"].as_array_mut().unwrap().remove(0);
        config["linux"]["namespaces"].as_array_mut().unwrap().extend(entry);
        let plan = plan(&config).unwrap();
        let order = kinds(&plan.steps).join(" ");
        assert!(!order.contains("Propagation") && !order.contains("PivotRoot") && order.contains("Chroot"), "{order}");
        assert!(plan.steps.iter().any(|step| matches!(step, Step::BindRoot { early: true, .. })));
        assert_eq!(plan.host_mount, inherited.then(|| "/b/rootfs".into()));
        if !inherited {
            assert!(order.starts_with("Join Join UnshareCgroup"), "{order}");
            assert!(matches!(&plan.steps[1], Step::Join { kind, .. } if *kind == CloneFlags::CLONE_NEWNS));
        }
        let spec: Spec = serde_json::from_value(config).unwrap();
        let other = exec(&spec, spec.process().as_ref().unwrap(), "test").unwrap();
        assert!(
            kinds(&other.steps).join(" ").contains("Enter EnterRoot Await"),
            "chroot(2) is not entered with a namespace"
        );
    }
}
