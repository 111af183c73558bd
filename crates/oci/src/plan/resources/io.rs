//! `blockIO` as `io.max`, `io.bfq.weight` and `io.weight`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};
use podwright_sys::cgroup::io_weight;

use super::super::cgroup::{CgroupPlan, not_on_v2};
use super::super::error::{PlanError, Result};
use super::super::write::Absent;

/// Weights that cgroup v1 and the BFQ scheduler accept.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

pub(super) fn plan(block_io: &LinuxBlockIo, plan: &mut CgroupPlan) -> Result<()> {
    if block_io.leaf_weight().is_some_and(|weight| weight != 0) {
        return Err(not_on_v2("blockIO.leafWeight"));
    }
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        check_weight("linux.resources.blockIO.weight", weight)?;
        plan_weight(None, weight, plan);
    }
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        let field = format!("linux.resources.blockIO.weightDevice[{index}]");
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return Err(not_on_v2(&format!("blockIO.weightDevice[{index}].leafWeight")));
        }
        let Some(weight) = device.weight() else { return Err(PlanError::new(field, "has no weight")) };
        check_weight(&format!("{field}.weight"), weight)?;
        plan_weight(Some(number(&field, device.major(), device.minor())?), weight, plan);
    }
    plan_throttle(block_io, plan)
}

fn check_weight(field: &str, weight: u16) -> Result<()> {
    if WEIGHTS.contains(&weight) {
        return Ok(());
    }
    Err(PlanError::new(field, format!("{weight} found, {} to {} accepted", WEIGHTS.start(), WEIGHTS.end())))
}

/// With the BFQ scheduler weights have a file of their own, in the configuration's unit.
fn plan_weight(device: Option<(u32, u32)>, weight: u16, plan: &mut CgroupPlan) {
    let line = |weight: u64| match device {
        Some((major, minor)) => format!("{major}:{minor} {weight}"),
        None => weight.to_string(),
    };
    let instead = Absent::Instead { file: "io.weight".into(), value: line(io_weight(weight)) };
    plan.set_or("io.bfq.weight", line(weight.into()), instead);
}

/// One line of `io.max` per device, with all that is limited of it.
fn plan_throttle(block_io: &LinuxBlockIo, plan: &mut CgroupPlan) -> Result<()> {
    let mut lines: BTreeMap<(u32, u32), String> = BTreeMap::new();
    for (name, key, list) in [
        ("throttleReadBpsDevice", "rbps", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", block_io.throttle_write_iops_device()),
    ] {
        for (index, device) in list.iter().flatten().enumerate() {
            let field = format!("linux.resources.blockIO.{name}[{index}]");
            let line = lines.entry(number(&field, device.major(), device.minor())?).or_default();
            write!(line, " {key}={}", rate(device)).unwrap_or(());
        }
    }
    for ((major, minor), line) in lines {
        plan.set("io.max", format!("{major}:{minor}{line}"));
    }
    Ok(())
}

/// 0 takes the limit away, as in cgroup v1.
fn rate(device: &LinuxThrottleDevice) -> String {
    match device.rate() {
        0 => "max".into(),
        rate => rate.to_string(),
    }
}

fn number(field: &str, major: i64, minor: i64) -> Result<(u32, u32)> {
    let part = |name: &str, value: i64| {
        u32::try_from(value)
            .map_err(|_| PlanError::new(format!("{field}.{name}"), format!("{value} is no device number")))
    };
    Ok((part("major", major)?, part("minor", minor)?))
}
