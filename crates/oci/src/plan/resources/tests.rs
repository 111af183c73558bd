use super::super::write::Write;
use super::*;
use serde_json::{Value, json};

fn resources(json: Value) -> LinuxResources {
    serde_json::from_value(json).expect("valid resources")
}

fn created(json: Value) -> Result<CgroupPlan> {
    plan(Some(&resources(json)), Place::default())
}

/// `file=value` of each write; `?` after the file where its absence is fine, `|file=value` for what is written instead.
fn show(plan: &CgroupPlan) -> Vec<String> {
    let one = |write: &Write| match &write.absent {
        Absent::Fail => format!("{}={}", write.file, write.value),
        Absent::Skip => format!("{}?={}", write.file, write.value),
        Absent::Instead { file, value } => format!("{}={}|{file}={value}", write.file, write.value),
    };
    plan.writes.iter().map(one).collect()
}

#[test]
fn every_resource_has_its_files() {
    for (given, expected) in [
        (json!({"memory": {"limit": 1000, "swap": 1500}}), vec!["memory.swap.max=500", "memory.max=1000"]),
        (json!({"memory": {"limit": 1000, "swap": 1000}}), vec!["memory.swap.max?=0", "memory.max=1000"]),
        (json!({"memory": {"limit": -1}}), vec!["memory.swap.max?=max", "memory.max=max"]),
        (json!({"memory": {"limit": -1, "swap": 7}}), vec!["memory.swap.max=7", "memory.max=max"]),
        (json!({"memory": {"limit": 0, "reservation": 0, "swap": 0, "kernelTCP": -1}}), vec![]),
        (json!({"cpu": {"shares": 2, "idle": 0}}), vec!["cpu.idle=0", "cpu.weight=1"]),
        (json!({"cpu": {"shares": 2, "idle": 1}}), vec!["cpu.idle=1"]),
        (json!({"cpu": {"quota": 5, "burst": 3}}), vec!["cpu.max=5 100000", "cpu.max.burst=3"]),
        (json!({"cpu": {"period": 9}}), vec!["cpu.max=max 9"]),
        (json!({"pids": {"limit": 0}}), vec!["pids.max=1"]),
        (json!({"pids": {"limit": i64::MIN}}), vec!["pids.max=max"]),
        (json!({"blockIO": {"weight": 100}}), vec!["io.bfq.weight=100|io.weight=910"]),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 1, "weight": 1000}]}}),
            vec!["io.bfq.weight=8:1 1000|io.weight=8:1 10000"],
        ),
        (
            json!({"blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 1}, {"major": 8, "minor": 0, "rate": 2}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 3}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]
            }}),
            vec!["io.max=8:0 rbps=2 riops=4 wiops=max", "io.max=8:16 rbps=1 wbps=3"],
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}),
            vec!["hugetlb.2MB.max=4096", "hugetlb.2MB.rsvd.max?=4096"],
        ),
        (
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}, "mlx4_0": {"hcaObjects": 1}}}),
            vec!["rdma.max=mlx4_0 hca_object=1", "rdma.max=mlx5_1 hca_handle=3 hca_object=10"],
        ),
        (json!({"network": {"classID": 0, "priorities": []}}), vec![]),
    ] {
        assert_eq!(show(&created(given.clone()).unwrap()), expected, "{given}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_field() {
    for (given, field) in [
        (json!({"memory": {"swap": 10}}), "memory.swap"),
        (json!({"memory": {"limit": 10, "swap": 9}}), "memory.swap"),
        (json!({"memory": {"swappiness": 60}}), "memory.swappiness"),
        (json!({"memory": {"disableOOMKiller": true}}), "memory.disableOOMKiller"),
        (json!({"cpu": {"realtimeRuntime": 1}}), "cpu.realtimeRuntime"),
        (json!({"blockIO": {"leafWeight": 10}}), "blockIO.leafWeight"),
        (json!({"blockIO": {"weight": 1001}}), "blockIO.weight"),
        (json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 1}]}}), "blockIO.weightDevice[0]"),
        (
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": -8, "minor": 1, "rate": 1}]}}),
            "blockIO.throttleReadBpsDevice[0].major",
        ),
        (json!({"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}), "hugepageLimits[0].pageSize"),
        (json!({"hugepageLimits": [{"pageSize": "../MB", "limit": 1}]}), "hugepageLimits[0].pageSize"),
        (json!({"rdma": {"mlx5_1": {}}}), "rdma.mlx5_1"),
        (json!({"network": {"classID": 1}}), "network.classID"),
        (json!({"network": {"priorities": [{"name": "eth0", "priority": 1}]}}), "network.priorities"),
        (json!({"unified": {"../x.y": "1"}}), "unified"),
        (json!({"unified": {"memory": "1"}}), "unified"),
        (json!({"unified": {"..": "1"}}), "unified"),
        (json!({"unified": {"cgroup.procs": "1"}}), "unified.cgroup.procs"),
        (json!({"unified": {"cgroup.freeze": "1"}}), "unified.cgroup.freeze"),
    ] {
        assert_eq!(created(given.clone()).unwrap_err().field, format!("linux.resources.{field}"), "{given}");
    }
}

#[test]
fn an_update_changes_what_it_names() {
    let current = Current { memory: Some(Limit::Value(1000)), bandwidth: Some((Limit::Value(50), 1000)) };
    for (given, expected) in [
        (json!({}), vec![]),
        (json!({"memory": {"swap": 1200}}), vec!["memory.swap.max=200"]),
        (json!({"memory": {"limit": 500, "swap": 1200}}), vec!["memory.swap.max=700", "memory.max=500"]),
        (json!({"cpu": {"quota": 70}}), vec!["cpu.max=70 1000"]),
        (json!({"cpu": {"quota": -1}}), vec!["cpu.max=max 1000"]),
        (json!({"cpu": {"period": 2000}}), vec!["cpu.max=50 2000"]),
        (json!({"cpu": {"quota": 0, "period": 0, "shares": 0}}), vec![]),
        (json!({"cpu": {"quota": 7, "burst": 5}}), vec!["cpu.max.burst?=0", "cpu.max=7 1000", "cpu.max.burst=5"]),
        (json!({"cpu": {"burst": 5}}), vec!["cpu.max.burst=5"]),
    ] {
        assert_eq!(show(&update(&resources(given.clone()), current).unwrap()), expected, "{given}");
    }
    let checked = update(&resources(json!({"memory": {"limit": 500, "checkBeforeUpdate": true}})), current).unwrap();
    assert_eq!(checked.memory_check, Some(500));
    let unlimited = update(&resources(json!({"memory": {"limit": -1, "checkBeforeUpdate": true}})), current).unwrap();
    assert_eq!(unlimited.memory_check, None);
}
