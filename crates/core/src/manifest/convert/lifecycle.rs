//! `lifecycle`: hooks and the stop signal.

use super::super::problem::{At, Problems};
use super::super::quote::shown;
use super::super::suggest::nearest;
use super::facts::PodFacts;
use super::fields::seconds;
use super::probe;
use crate::pod::spec::{Hook, Lifecycle, Port, Role};
use crate::signal;

/// The `lifecycle` of a container; `ports` are those its hooks may refer to.
pub(super) fn lifecycle(
    container: &At<'_>,
    role: Role,
    ports: &[Port],
    pod: &PodFacts<'_>,
    problems: &mut Problems,
) -> Lifecycle {
    let Some(at) = container.get("lifecycle").filter(|at| at.node.is_map()) else { return Lifecycle::default() };
    if role == Role::Init {
        let advice = "remove it, or make this a sidecar with restartPolicy: Always";
        problems.at(&at, format!("an init container that runs to completion has no lifecycle; {advice}"));
    }
    Lifecycle {
        post_start: hook(&at, "postStart", ports, problems),
        pre_stop: pre_stop(&at, ports, pod, problems),
        stop_signal: stop_signal(&at, pod, problems),
    }
}

fn hook(at: &At<'_>, key: &str, ports: &[Port], problems: &mut Problems) -> Option<Hook> {
    let at = at.get(key).filter(|at| at.node.is_map())?;
    let handler = probe::handler(&at, &["exec", "httpGet", "sleep", "tcpSocket"], problems)?;
    let given = at.get(handler)?;
    match handler {
        "exec" => Some(Hook::Exec { command: probe::exec(&given, problems) }),
        "httpGet" => probe::http_get(&given, ports, problems).map(Hook::HttpGet),
        "sleep" => seconds(&given, "seconds").map(Hook::Sleep),
        _ => probe::port(&given, ports, problems).map(|_| Hook::TcpSocket),
    }
}

/// A sleep has to fit into the grace period, as the API server checks it.
fn pre_stop(at: &At<'_>, ports: &[Port], pod: &PodFacts<'_>, problems: &mut Problems) -> Option<Hook> {
    let hook = hook(at, "preStop", ports, problems)?;
    if let Hook::Sleep(time) = hook
        && time > pod.grace
        && let Some(field) = at.get("preStop").and_then(|at| at.get("sleep")?.get("seconds"))
    {
        let (found, most) = (time.as_secs(), pod.grace.as_secs());
        problems.at(&field, format!("found {found}, accepted: at most terminationGracePeriodSeconds, {most}"));
    }
    Some(hook)
}

fn stop_signal(at: &At<'_>, pod: &PodFacts<'_>, problems: &mut Problems) -> Option<i32> {
    let field = at.get("stopSignal")?;
    let name = field.node.as_str()?;
    if !pod.names_os {
        problems.at(&field, "accepted only with spec.os.name: linux; add it");
    }
    let number = signal::by_name(name);
    if number.is_none() {
        let upper = name.to_ascii_uppercase();
        let known: Vec<String> = (1..=64).map(signal::name).filter(|n| n.starts_with("SIG")).collect();
        let near = signal::of_image(name).map(signal::name);
        let near = near.or_else(|| nearest(&upper, known.iter().map(String::as_str)).map(str::to_owned));
        let hint = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        problems.at(
            &field,
            format!("found {}, accepted: a signal of Linux, as in SIGUSR1 or SIGRTMIN+3{hint}", shown(name)),
        );
    }
    number
}
