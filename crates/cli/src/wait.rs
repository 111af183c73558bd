//! `wait`: until something is true of an object, or it is gone.

use std::cell::Cell;

use podwright_sys::printable;
use serde_json::{Value, json};

use super::args::Wait;
use super::client::encode;
use super::context::Context;
use super::error::{CliError, Done};
use super::get::in_namespace;
use super::kind::Kind;
use super::page::Page;
use super::pods::items;
use super::words;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Until {
    Gone,
    /// A condition's type, in any case, and its status.
    Condition(String, String),
}

/// What an object says to that.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    NotYet,
    /// It will never be; why.
    Never(String),
}

pub(super) async fn wait(args: Wait, context: &mut Context) -> Done {
    let until = until(&args.until).map_err(CliError::Usage)?;
    let kinds: &[Kind] = match until {
        Until::Gone => &[Kind::Pods, Kind::Jobs, Kind::CronJobs],
        Until::Condition(..) => &[Kind::Pods, Kind::Jobs],
    };
    let objects = words::object_words(&args.names.what, kinds).map_err(CliError::Usage)?;
    // A manifest that was written a moment ago may not be taken up yet: what is not there is waited for as well.
    let missing = Cell::new(false);
    let all = async {
        for (kind, name) in &objects {
            let namespace = &args.names.namespace;
            match &until {
                Until::Gone => until_gone(context, *kind, namespace, name, None).await?,
                Until::Condition(wanted, status) => {
                    until_met(context, *kind, namespace, name, (wanted, status), &missing).await?;
                }
            }
            context.out.print(&Page::of_line(format_args!("{}/{name} condition met", kind.word())))?;
        }
        Ok(())
    };
    // With no time at all there still is one look.
    let time = args.timeout.max(std::time::Duration::from_millis(500));
    tokio::time::timeout(time, all).await.unwrap_or_else(|_| {
        if missing.get() {
            let names: Vec<String> = objects.iter().map(|(kind, name)| format!("{}/{name}", kind.word())).collect();
            return Err(CliError::NotFound(format!("not there: {}", names.join(", "))));
        }
        Err(CliError::TimedOut(format!("{} is not true within {} s", args.until, args.timeout.as_secs_f64())))
    })
}

fn until(text: &str) -> Result<Until, String> {
    let wrong = || format!("--for: found \"{text}\", accepted: condition=TYPE, condition=TYPE=STATUS, delete");
    match text.split_once('=') {
        None if text == "delete" => Ok(Until::Gone),
        Some(("condition", rest)) if !rest.is_empty() => {
            let (kind, status) = rest.split_once('=').unwrap_or((rest, "True"));
            Ok(Until::Condition(kind.to_owned(), status.to_owned()))
        }
        _ => Err(wrong()),
    }
}

/// Whether the condition is as wanted. What is over stays as it is.
fn verdict(object: &Value, (wanted, status): (&str, &str)) -> Verdict {
    let conditions = || items(&object["status"]["conditions"]);
    let is = |condition: &Value, kind: &str| condition["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind));
    let has = |kind: &str, status: &str| {
        conditions().any(|c| is(c, kind) && c["status"].as_str().is_some_and(|s| s.eq_ignore_ascii_case(status)))
    };
    if has(wanted, status) {
        return Verdict::Met;
    }
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let ended = conditions().find(|c| c["status"] == "True" && (is(c, "Complete") || is(c, "Failed")));
    match ended {
        Some(end) => {
            let (kind, why) = (end["type"].as_str().unwrap_or_default(), end["message"].as_str().unwrap_or_default());
            Verdict::Never(printable::line(&format!("it is {kind}: {why}")).into_owned())
        }
        None if ["Succeeded", "Failed"].contains(&phase) => Verdict::Never(format!("it has {phase}")),
        None => Verdict::NotYet,
    }
}

async fn until_met(
    context: &Context,
    kind: Kind,
    namespace: &str,
    name: &str,
    wanted: (&str, &str),
    missing: &Cell<bool>,
) -> Done {
    let look = |object: Option<&Value>| {
        missing.set(object.is_none());
        match object.map(|object| verdict(object, wanted)) {
            None => None,
            Some(Verdict::Met) => Some(Ok(())),
            Some(Verdict::NotYet) => None,
            Some(Verdict::Never(why)) => {
                Some(Err(CliError::Failed(format!("{}/{name} will not be {}: {why}", kind.word(), wanted.0))))
            }
        }
    };
    follow(context, kind, namespace, name, look).await
}

/// Waits until the object, with this uid if it is given, is no longer among those that are there.
pub(super) async fn until_gone(
    context: &Context,
    kind: Kind,
    namespace: &str,
    name: &str,
    uid: Option<&Value>,
) -> Done {
    let is_it = |object: &Value| uid.is_none_or(|uid| object["metadata"]["uid"] == *uid);
    follow(context, kind, namespace, name, |object| (!object.is_some_and(is_it)).then_some(Ok(()))).await
}

/// Looks at an object, and at each change of it, until there is an answer.
async fn follow(
    context: &Context,
    kind: Kind,
    namespace: &str,
    name: &str,
    look: impl Fn(Option<&Value>) -> Option<Done>,
) -> Done {
    let selector = encode(&format!("metadata.name={name}"));
    let path = format!("{}?fieldSelector={selector}", in_namespace(kind, namespace));
    'list: loop {
        let list = context.client.get(&path).await?;
        if let Some(answer) = look(items(&list["items"]).next()) {
            return answer;
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mut changes = context.client.stream(&format!("{path}&watch=true&resourceVersion={version}")).await?;
        while let Some(change) = changes.json_line().await? {
            let object = match change["type"].as_str() {
                Some("ERROR") if change["object"]["code"] == json!(410) => continue 'list,
                Some("ERROR") => {
                    let message = change["object"]["message"].as_str().unwrap_or("unknown error");
                    return Err(CliError::Failed(printable::line(message).into_owned()));
                }
                Some("DELETED") => None,
                _ => Some(&change["object"]),
            };
            if let Some(answer) = look(object) {
                return answer;
            }
        }
        return Err(context.client.broken("it stopped before there was an answer").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_waited_for() {
        assert_eq!(until("delete"), Ok(Until::Gone));
        assert_eq!(until("condition=complete"), Ok(Until::Condition("complete".into(), "True".into())));
        assert_eq!(until("condition=Ready=False"), Ok(Until::Condition("Ready".into(), "False".into())));
        for bad in ["", "complete", "condition", "condition=", "jsonpath={.x}"] {
            assert!(until(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_over_keeps_nobody_waiting() {
        let job = |kind: &str| json!({"status": {"conditions": [{"type": "Suspended", "status": "False"}, {"type": kind, "status": "True", "message": "m"}]}});
        assert_eq!(verdict(&job("Complete"), ("complete", "True")), Verdict::Met);
        assert_eq!(verdict(&job("Failed"), ("complete", "True")), Verdict::Never("it is Failed: m".into()));
        assert_eq!(verdict(&job("FailureTarget"), ("failed", "true")), Verdict::NotYet);
        assert_eq!(verdict(&job("x"), ("suspended", "false")), Verdict::Met);
        let pod =
            |phase: &str| json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": "False"}]}});
        assert_eq!(verdict(&pod("Running"), ("ready", "True")), Verdict::NotYet);
        assert_eq!(verdict(&pod("Succeeded"), ("ready", "True")), Verdict::Never("it has Succeeded".into()));
    }
}
