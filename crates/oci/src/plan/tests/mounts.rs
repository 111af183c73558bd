//! Mounts: every option.

use super::*;

fn step(mount: Value) -> Step {
    let plan = with("/mounts", json!([mount])).unwrap();
    let made = |step: &&Step| {
        matches!(
            step,
            Step::MountFs(_)
                | Step::Bind(_)
                | Step::MountCgroup { .. }
                | Step::ChangeMount { .. }
                | Step::Remount { .. }
        )
    };
    plan.steps.iter().find(made).unwrap().clone()
}

fn bind(options: Value) -> BindMount {
    match step(json!({"destination": "/a", "source": "/s", "options": options})) {
        Step::Bind(bind) => bind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn owners_are_mapped_by_the_mounts_own_mappings() {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let with_mappings = |options: Value| {
        step(json!({"destination": "/a", "source": "/s", "options": options, "uidMappings": map, "gidMappings": map}))
    };
    for (options, recursive) in
        [(json!(["bind"]), false), (json!(["rbind", "idmap"]), false), (json!(["rbind", "ridmap"]), true)]
    {
        let Step::Bind(bind) = with_mappings(options) else { panic!("a bind mount") };
        let mapping = bind.mapping.unwrap();
        assert!(bind.early && mapping.recursive == recursive);
        assert_eq!(mapping.mappings.uids.to_string(), "0 1000 10\n");
    }
    refused(&[
        (
            "/mounts",
            json!([{"destination": "/a", "source": "/s", "options": ["bind", "idmap"]}]),
            "mounts[0].uidMappings",
        ),
        (
            "/mounts",
            json!([{"destination": "/a", "source": "/s", "options": ["bind"], "uidMappings": map}]),
            "mounts[0].gidMappings",
        ),
        (
            "/mounts",
            json!([{"destination": "/a", "type": "tmpfs", "uidMappings": map, "gidMappings": map}]),
            "mounts[0].uidMappings",
        ),
    ]);
}

#[test]
fn mounts_stay_connected_with_the_hosts_where_asked() {
    assert!(!bind(json!(["rbind"])).early && !bind(json!(["rbind", "rprivate"])).early);
    assert!(bind(json!(["rbind", "rshared"])).early, "the new namespace's copy is a slave only");
    assert!(!bind(json!(["rbind", "rslave"])).early, "the new namespace's copy is a slave already");
    let private = changed(|c| {
        c["linux"]["rootfsPropagation"] = json!("private");
        c["mounts"] = json!([{"destination": "/a", "source": "/s", "options": ["rbind", "rslave"]}]);
    });
    let early = private.unwrap().steps.iter().any(|step| matches!(step, Step::Bind(bind) if bind.early));
    assert!(early, "the new namespace's copy is private");
    let shared = bind(json!(["bind", "shared"]));
    assert_eq!(shared.change, Change::default().propagation(MsFlags::MS_SHARED));
}

#[test]
fn roots_have_every_kind_of_propagation() {
    let last = |value: &str| {
        let plan = with("/linux/rootfsPropagation", json!(value)).unwrap();
        plan.steps.iter().find_map(|step| match step {
            Step::RootPropagation(kind) => Some(*kind),
            _ => None,
        })
    };
    assert_eq!(last("shared"), Some(MsFlags::MS_SHARED));
    assert_eq!(last("rshared"), Some(MsFlags::MS_SHARED | MsFlags::MS_REC));
    assert_eq!(last("unbindable"), Some(MsFlags::MS_UNBINDABLE));
    assert_eq!((last("slave"), last("private"), last("")), (None, None, None));
}

#[test]
fn remounts_change_what_is_there() {
    let change = Step::ChangeMount {
        target: "/a".into(),
        change: Change::flags(MsFlags::MS_RDONLY, MsFlags::empty()),
        recursive_change: Change::flags(MsFlags::MS_NOEXEC, MsFlags::empty()).propagation(MsFlags::MS_PRIVATE),
    };
    assert_eq!(step(json!({"destination": "/a", "options": ["remount", "bind", "ro", "rnoexec", "rprivate"]})), change);
    let whole = Step::Remount { target: "/a".into(), flags: MsFlags::MS_NODEV, data: "size=1k".into() };
    assert_eq!(step(json!({"destination": "/a", "options": ["remount", "nodev", "size=1k"]})), whole);
    refused(&[
        ("/mounts", json!([{"destination": "/a", "options": ["remount", "bind", "size=1k"]}]), "mounts[0].options"),
        ("/mounts", json!([{"destination": "/a", "options": ["remount", "rro"]}]), "mounts[0].options"),
    ]);
}

#[test]
fn a_tmpfs_is_filled_on_request() {
    let Step::MountFs(fs) = step(json!({"destination": "/a", "type": "tmpfs", "options": ["tmpcopyup", "size=1k"]}))
    else {
        panic!("a file system")
    };
    assert!(fs.copy_up && fs.data == "size=1k");
    refused(&[
        ("/mounts", json!([{"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}]), "mounts[0].options"),
        (
            "/mounts",
            json!([{"destination": "/a", "source": "/s", "options": ["bind", "tmpcopyup"]}]),
            "mounts[0].options",
        ),
    ]);
}

#[test]
fn the_cgroup_mount_takes_its_options() {
    let found = step(json!({"destination": "/c", "type": "cgroup2", "options": ["nsdelegate", "rslave", "nosuid"]}));
    let expected = Step::MountCgroup {
        target: "/c".into(),
        flags: MsFlags::MS_NOSUID,
        namespaced: true,
        data: "nsdelegate".into(),
        propagation: Some(MsFlags::MS_SLAVE | MsFlags::MS_REC),
    };
    assert_eq!(found, expected);
    let bound = changed(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
        c["mounts"] = json!([{"destination": "/c", "type": "cgroup", "options": ["nsdelegate"]}]);
    });
    assert_eq!(bound.unwrap_err().field, "mounts[0].options");
}

#[test]
fn labels_are_options_of_new_file_systems() {
    let plan = changed(|c| c["linux"]["mountLabel"] = json!("u:o:t:s0:c1,c2")).unwrap();
    let data: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::MountFs(fs) => Some((fs.fstype.as_str(), fs.data.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(data, [("proc", ""), ("tmpfs", "mode=755,context=\"u:o:t:s0:c1,c2\"")]);
    let check = Step::FindModule { module: SecurityModule::SeLinux, field: "linux.mountLabel" };
    assert!(plan.steps.contains(&check));
    refused(&[("/linux/mountLabel", json!("a\",size=1"), "linux.mountLabel")]);
}
