//! `linux.netDevices`: devices of the host that move into the container's network namespace.

use nix::sched::CloneFlags;
use oci_spec::runtime::Linux;
use std::collections::BTreeMap;

use super::{Namespaces, PlanError, Result};

/// Longest name of a device: IFNAMSIZ of linux/if.h without its end.
const MAX_NAME: usize = 15;

/// A device to move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetDevice {
    /// Its name on the host.
    pub from: String,
    /// Its name in the container; one `%d` in it is replaced by the kernel with a number.
    pub to: String,
}

/// Where a namespace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevices {
    /// The devices, by name.
    pub devices: Vec<NetDevice>,
    /// The namespace that the container joins; `None`: the one it has made.
    pub namespace: Option<std::path::PathBuf>,
}

pub(super) fn plan(linux: &Linux, namespaces: &Namespaces) -> Result<Option<NetDevices>> {
    let Some(map) = linux.net_devices().as_ref().filter(|map| !map.is_empty()) else { return Ok(None) };
    if !namespaces.owns(CloneFlags::CLONE_NEWNET) {
        let problem = "needs an entry of type network in linux.namespaces: the devices are in the host's already";
        return Err(PlanError::new("linux.netDevices", problem));
    }
    let mut devices = Vec::with_capacity(map.len());
    for (from, device) in map.iter().collect::<BTreeMap<_, _>>() {
        let field = format!("linux.netDevices.{from}");
        let to = device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| from.clone());
        if !is_name(from, false) {
            return Err(PlanError::new(field, "is no name of a network device"));
        }
        if !is_name(&to, true) {
            let problem =
                format!("{to:?} is no name of a network device, such as eth0, or eth%d for the kernel to number");
            return Err(PlanError::new(format!("{field}.name"), problem));
        }
        devices.push(NetDevice { from: from.clone(), to });
    }
    devices.sort();
    for (index, device) in devices.iter().enumerate() {
        let other = devices[..index].iter().find(|other| other.to == device.to && !device.to.contains('%'));
        if let Some(other) = other {
            let problem = format!("{:?} is the name of linux.netDevices.{}, too", device.to, other.from);
            return Err(PlanError::new(format!("linux.netDevices.{}.name", device.from), problem));
        }
    }
    let joined = namespaces.joins.iter().find(|(kind, _)| *kind == CloneFlags::CLONE_NEWNET);
    Ok(Some(NetDevices { devices, namespace: joined.map(|(_, path)| path.clone()) }))
}

/// As the kernel has it (net/core/dev.c), with or without one `%d`.
fn is_name(name: &str, template: bool) -> bool {
    let bare = if template { name.replacen("%d", "", 1) } else { name.to_owned() };
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != "."
        && name != ".."
        && bare.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"/:%".contains(c))
}
