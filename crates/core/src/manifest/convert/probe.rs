//! Probes.

use std::time::Duration;

use super::super::names;
use super::super::problem::{At, Problems};
use super::super::quote::shown;
use super::super::suggest::nearest;
use super::fields::{named, seconds};
use crate::pod::spec::{HttpGet, Port, Probe, ProbeAction, Role};

/// The probe `key` of a container; `ports` are those its names may refer to.
pub(super) fn probe(
    container: &At<'_>,
    key: &str,
    role: Role,
    ports: &[Port],
    problems: &mut Problems,
) -> Option<Probe> {
    let at = container.get(key).filter(|at| at.node.is_map())?;
    if role == Role::Init {
        let advice = "remove it, or make this a sidecar with restartPolicy: Always";
        problems.at(&at, format!("an init container that runs to completion has no probes; {advice}"));
    }
    let success = at.int("successThreshold").unwrap_or(1);
    if let Some(field) = at.get("successThreshold").filter(|_| key != "readinessProbe" && success > 1) {
        problems.at(&field, format!("found {success}, accepted in a {key}: 1"));
    }
    if let Some(field) = at.get("terminationGracePeriodSeconds").filter(|_| key == "readinessProbe") {
        problems.at(&field, "not accepted in a readinessProbe, whose failure stops nothing; remove it");
    }
    let count = |key: &str, default: u32| at.int(key).and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
    Some(Probe {
        action: action(&at, ports, problems)?,
        initial_delay: seconds(&at, "initialDelaySeconds").unwrap_or_default(),
        period: seconds(&at, "periodSeconds").unwrap_or(Duration::from_secs(10)),
        timeout: seconds(&at, "timeoutSeconds").unwrap_or(Duration::from_secs(1)),
        success_threshold: count("successThreshold", 1),
        failure_threshold: count("failureThreshold", 3),
        grace: seconds(&at, "terminationGracePeriodSeconds"),
    })
}

fn action(at: &At<'_>, ports: &[Port], problems: &mut Problems) -> Option<ProbeAction> {
    let handler = handler(at, &["exec", "httpGet", "tcpSocket", "grpc"], problems)?;
    let given = at.get(handler)?;
    Some(match handler {
        "exec" => ProbeAction::Exec { command: exec(&given, problems) },
        "httpGet" => ProbeAction::HttpGet(http_get(&given, ports, problems)?),
        "tcpSocket" => ProbeAction::TcpSocket { host: host(&given, problems), port: port(&given, ports, problems)? },
        _ => ProbeAction::Grpc {
            port: given.int("port").and_then(|port| u16::try_from(port).ok())?,
            service: given.str("service").unwrap_or_default().to_owned(),
        },
    })
}

/// The one handler that is given.
pub(super) fn handler<'h>(at: &At<'_>, handlers: &[&'h str], problems: &mut Problems) -> Option<&'h str> {
    let given: Vec<&str> = handlers.iter().copied().filter(|key| at.get(key).is_some()).collect();
    let accepted = handlers.join(", ");
    match given[..] {
        [one] => Some(one),
        [] => {
            problems.at(at, format!("nothing to do; accepted: one of {accepted}"));
            None
        }
        [first, second, ..] => {
            problems.at(at, format!("found {first} and {second}, accepted: one of {accepted}"));
            None
        }
    }
}

/// The command of an `exec` handler.
pub(super) fn exec(at: &At<'_>, problems: &mut Problems) -> Vec<String> {
    if let Some(list) = at.get("command")
        && list.node.elements().is_empty()
        && list.node.is_seq()
    {
        problems.at(&list, "found empty list, accepted: a program and its arguments");
    }
    at.strings("command")
}

/// An `httpGet` handler.
pub(super) fn http_get(at: &At<'_>, ports: &[Port], problems: &mut Problems) -> Option<HttpGet> {
    let mut headers = Vec::new();
    for header in at.items("httpHeaders") {
        let name = named(&header, "name", names::header, problems);
        headers.push((name, named(&header, "value", names::header_value, problems)));
    }
    let path = match at.str("path") {
        None | Some("") => "/".to_owned(),
        // A whole URL stays one: only its path and query are asked for, as by the kubelet.
        Some(path) if path.starts_with('/') || path.contains("://") => path.to_owned(),
        // kubelet joins it to the address, which adds the slash.
        Some(path) => format!("/{path}"),
    };
    let scheme = at.str("scheme").unwrap_or("HTTP").to_lowercase();
    Some(HttpGet { scheme, host: host(at, problems), port: port(at, ports, problems)?, path, headers })
}

fn host(at: &At<'_>, problems: &mut Problems) -> Option<String> {
    at.str("host").filter(|host| !host.is_empty())?;
    Some(named(at, "host", names::host, problems))
}

/// `port`, a number, also one in quotes, or the name of one of the container's ports.
pub(super) fn port(at: &At<'_>, ports: &[Port], problems: &mut Problems) -> Option<u16> {
    let field = at.get("port")?;
    if let Some(number) = field.node.as_int() {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() {
            problems.at(&field, format!("found {number}, accepted: from 1 to 65535, or the name of a port"));
        }
        return port;
    }
    let name = field.node.as_str()?;
    if let Some(port) = ports.iter().find(|port| port.name.as_deref() == Some(name)) {
        return Some(port.container_port);
    }
    if let Some(port) = name.parse::<u16>().ok().filter(|port| *port > 0) {
        return Some(port);
    }
    let named: Vec<&str> = ports.iter().filter_map(|port| port.name.as_deref()).collect();
    let hint = match nearest(name, named.iter().copied()) {
        Some(near) => format!("; did you mean \"{near}\"?"),
        None if named.is_empty() => "; this container names no ports".to_owned(),
        None => format!("; accepted: a number or {}", named.join(", ")),
    };
    problems.at(&field, format!("no port of this container is named {}{hint}", shown(name)));
    None
}
