//! Rules over devices.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use podwright_sys::device::{Kind, MKNOD, READ, Rule, WRITE};

use super::super::error::{PlanError, Result};

/// Major numbers of the devices that every container may use: memory devices, terminals, Unix98 terminals.
const MEM: u32 = 1;
const TTY: u32 = 5;
const PTS: u32 = 136;

/// The configured rules followed by the ones every container needs. A configuration that ends by allowing everything needs no
/// program, and neither does one without rules.
pub(super) fn device_rules(configured: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> =
        configured.iter().enumerate().map(|(index, rule)| device_rule(rule, index)).collect::<Result<_>>()?;
    let everything = Rule { allow: true, kind: None, major: None, minor: None, access: READ | WRITE | MKNOD };
    if rules.last().is_none_or(|last| *last == everything) {
        return Ok(Vec::new());
    }
    let char = Rule { kind: Some(Kind::Char), ..everything };
    // Nodes may be made, since using one is another question.
    rules.push(Rule { access: MKNOD, ..everything });
    rules.extend([3, 5, 7, 8, 9].map(|minor| Rule { major: Some(MEM), minor: Some(minor), ..char }));
    rules.extend([0, 2].map(|minor| Rule { major: Some(TTY), minor: Some(minor), ..char }));
    rules.push(Rule { major: Some(PTS), ..char });
    Ok(rules)
}

fn device_rule(rule: &LinuxDeviceCgroup, index: usize) -> Result<Rule> {
    let field = format!("linux.resources.devices[{index}]");
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Char),
        Some(LinuxDeviceType::P) => {
            return Err(PlanError::new(format!("{field}.type"), "\"p\" found, one of a, b, c accepted"));
        }
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| PlanError::new(format!("{field}.{name}"), format!("{value} is no device number"))),
    };
    let text = rule.access().as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    let access = text.chars().try_fold(0, |bits, c| match c {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MKNOD),
        _ => Err(PlanError::new(format!("{field}.access"), format!("{text:?} found, letters of rwm accepted"))),
    })?;
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        access,
    })
}
