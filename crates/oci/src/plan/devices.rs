//! Device nodes: the ones every container has, and those of `linux.devices`.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use podwright_sys::device::Kind;

use super::ids::check_id;
use super::{DeviceNode, PlanError, Result};

/// runtime-spec, config-linux.md, "Default Devices"; `/dev/console` comes with a terminal, `/dev/ptmx` is a link.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// S_IFMT of inode(7).
const TYPE_BITS: u32 = 0o170_000;

/// The nodes to make; a configured one replaces the default one of its path.
pub(super) fn plan(configured: &[LinuxDevice], defaults: bool) -> Result<Vec<DeviceNode>> {
    let listed = |path: &str| configured.iter().any(|device| device.path() == Path::new(path));
    let mut nodes: Vec<DeviceNode> = DEFAULTS
        .iter()
        .filter(|(path, ..)| defaults && !listed(path))
        .map(|(path, major, minor)| DeviceNode {
            path: path.into(),
            kind: Some(Kind::Char),
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for (index, device) in configured.iter().enumerate() {
        let field = format!("linux.devices[{index}]");
        if !device.path().is_absolute() {
            return Err(PlanError::new(field, format!("path {} is not absolute", device.path().display())));
        }
        let kind = match device.typ() {
            LinuxDeviceType::B => Some(Kind::Block),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Char),
            LinuxDeviceType::P => None,
            LinuxDeviceType::A => return Err(PlanError::new(field, "type \"a\" found, one of b, c, u, p accepted")),
        };
        // Nothing has this number; without type p, runtime-spec wants one.
        if kind.is_some() && device.major() == 0 && device.minor() == 0 {
            return Err(PlanError::new(
                format!("{field}.major"),
                "and minor are 0, or missing; they have to name a device",
            ));
        }
        // podman hands over what stat(2) gives, with the bits of the file's type.
        let mode = device.file_mode().unwrap_or(0o666);
        if mode > (TYPE_BITS | 0o7777) {
            let problem = format!("{mode:#o} found, at most 0o7777 accepted, and the bits of the file's type");
            return Err(PlanError::new(format!("{field}.fileMode"), problem));
        }
        let number = |name: &str, value: i64| match (kind, u32::try_from(value)) {
            (None, _) => Ok(0),
            (Some(_), Ok(number)) => Ok(number),
            (Some(_), Err(_)) => Err(PlanError::new(format!("{field}.{name}"), format!("{value} is no device number"))),
        };
        let id = |name: &str, value: Option<u32>| {
            let value = value.unwrap_or(0);
            check_id(|| format!("{field}.{name}"), value).map(|()| value)
        };
        nodes.push(DeviceNode {
            path: device.path().clone(),
            kind,
            major: number("major", device.major())?,
            minor: number("minor", device.minor())?,
            mode: mode & 0o7777,
            uid: id("uid", device.uid())?,
            gid: id("gid", device.gid())?,
        });
    }
    Ok(nodes)
}
