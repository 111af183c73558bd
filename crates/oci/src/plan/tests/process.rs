//! What a process gets, and its labels.

use podwright_inside as inside;

use super::*;

#[test]
fn shares_of_the_machine_are_set_before_privileges_go() {
    let plan = changed(|c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 10, "flags": ["SCHED_RESET_ON_FORK"]});
        c["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 4});
        c["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0-2,4", "flags": ["MPOL_F_STATIC_NODES"]});
        c["linux"]["personality"] = json!({"domain": "LINUX32"});
    });
    let plan = plan.unwrap();
    let order = kinds(&plan.steps).join(" ");
    assert!(
        order.contains("OwnStdio Scheduler IoPriority MemoryPolicy Personality Rlimit CloseDescriptors"),
        "{order}"
    );
    let scheduler = plan.steps.iter().find_map(|step| match step {
        Step::Inside(inside::Step::Scheduler(attributes)) => {
            Some((attributes.policy, attributes.priority, attributes.flags, attributes.nice))
        }
        _ => None,
    });
    assert_eq!(scheduler, Some((1, 10, 1, 0)));
    assert!(plan.steps.contains(&Step::Inside(inside::Step::IoPriority { class: 3, level: 4 })));
    assert!(
        plan.steps.contains(&Step::Inside(inside::Step::MemoryPolicy { mode: 3 | 1 << 15, nodes: vec![0, 1, 2, 4] }))
    );
    assert!(plan.steps.contains(&Step::Inside(inside::Step::Personality(8))));
}

#[test]
fn shares_that_cannot_be_are_refused() {
    let scheduler = |policy: &str, more: Value| {
        let mut value = json!({"policy": policy});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    };
    refused(&[
        ("/process/scheduler", scheduler("SCHED_ISO", json!({})), "process.scheduler.policy"),
        ("/process/scheduler", scheduler("SCHED_OTHER", json!({"nice": 20})), "process.scheduler.nice"),
        ("/process/scheduler", scheduler("SCHED_OTHER", json!({"priority": 1})), "process.scheduler.priority"),
        ("/process/scheduler", scheduler("SCHED_RR", json!({})), "process.scheduler.priority"),
        ("/process/scheduler", scheduler("SCHED_FIFO", json!({"priority": 100})), "process.scheduler.priority"),
        ("/process/scheduler", scheduler("SCHED_BATCH", json!({"runtime": 1})), "process.scheduler.policy"),
        (
            "/process/scheduler",
            scheduler("SCHED_DEADLINE", json!({"runtime": 2, "deadline": 1})),
            "process.scheduler.runtime",
        ),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}), "process.ioPriority.priority"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": -1}), "process.ioPriority.priority"),
        ("/process/user", json!({"uid": u32::MAX, "gid": 0}), "process.user.uid"),
        ("/process/user", json!({"uid": 1, "gid": u32::MAX}), "process.user.gid"),
        (
            "/process/user",
            json!({"uid": 1, "gid": 1, "additionalGids": [1, u32::MAX]}),
            "process.user.additionalGids[1]",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": u32::MAX}]),
            "linux.devices[0].uid",
        ),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), "process.rlimits[0]"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]),
            "process.rlimits[1]",
        ),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "linux.memoryPolicy.nodes"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "2-1"}), "linux.memoryPolicy.nodes"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "99999"}), "linux.memoryPolicy.nodes"),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}), "linux.personality.flags"),
        ("/linux/intelRdt", json!({"closID": "a/b"}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"closID": ".."}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"memBwSchema": "L3:0=1"}), "linux.intelRdt.memBwSchema"),
        ("/linux/intelRdt", json!({"schemata": ["L3:0=1\nMB:0=1"]}), "linux.intelRdt.schemata"),
    ]);
}

#[test]
fn affinity_is_another_processs() {
    let mut config = everything();
    config["process"]["execCPUAffinity"] = json!({"initial": "0-1", "final": "3"});
    let spec: Spec = serde_json::from_value(config.clone()).unwrap();
    let other = exec(&spec, spec.process().as_ref().unwrap(), "test").unwrap();
    assert_eq!(other.first_affinity, Some(vec![0, 1]));
    let order = kinds(&other.steps).join(" ");
    assert!(order.contains("Await Affinity NewSession"), "{order}");
    assert!(other.steps.contains(&Step::Inside(inside::Step::Affinity(vec![3]))));
    let first = kinds(&plan(&config).unwrap().steps);
    assert!(!first.iter().any(|kind| kind == "Affinity"), "not the container's first one's");
}

#[test]
fn labels_are_found_out_about_early_and_asked_for_late() {
    let plan = changed(|c| {
        c["process"]["apparmorProfile"] = json!("strict");
        c["process"]["selinuxLabel"] = json!("u:r:t:s0");
    });
    let plan = plan.unwrap();
    let order = kinds(&plan.steps).join(" ");
    assert!(order.contains("OomScoreAdj FindModule FindModule Propagation"), "{order}");
    assert!(order.contains("Umask Label Label LimitBounding"), "{order}");
    let label = Step::Label { module: SecurityModule::AppArmor, label: "strict".into() };
    assert!(plan.steps.contains(&label));
    let none = changed(|c| c["process"]["apparmorProfile"] = json!("")).unwrap();
    assert!(!kinds(&none.steps).iter().any(|kind| kind == "FindModule"));
}

#[test]
fn groups_for_caches_are_named() {
    let rdt = |value: Value| with("/linux/intelRdt", value).unwrap().rdt.unwrap();
    let own = Rdt { group: "c1".into(), own: true, schemata: vec![], monitor: None };
    assert_eq!(rdt(json!({})), own);
    let lines = ["L3:0=7ff", "MB:0=10", "L2:0=f"].map(str::to_owned).to_vec();
    let all = json!({
        "closID": "gold", "l3CacheSchema": "L3:0=7ff", "memBwSchema": "MB:0=10", "schemata": ["L2:0=f"], "enableMonitoring": true
    });
    assert_eq!(rdt(all), Rdt { group: "gold".into(), own: false, schemata: lines, monitor: Some("c1".into()) });
    assert_eq!(rdt(json!({"closID": "/"})).group, "", "the default group is the root");
}
