//! `delete` and `restart`.

use hyper::Method;
use serde_json::{Value, json};

use super::args::{self, Delete, PodNames};
use super::client::encode;
use super::pods::items;
use super::{CliError, Context, Done};

pub(super) async fn delete(args: Delete, context: &mut Context) -> Done {
    let names = args::pod_words(&args.pods.what).map_err(CliError::Usage)?;
    let grace = if args.now { Some(1) } else { args.grace_period };
    let query = grace.map(|g| format!("?gracePeriodSeconds={g}")).unwrap_or_default();
    let namespace = &args.pods.namespace;
    let mut asked = Vec::new();
    for name in &names {
        let target = format!("/api/v1/namespaces/{}/pods/{}{query}", encode(namespace), encode(name));
        let status = context.client.json(Method::DELETE, &target).await?;
        say(context, &format!("pod \"{name}\" is being removed from {namespace} namespace"), &status)?;
        asked.push((name, status["details"]["uid"].clone()));
    }
    for (name, uid) in asked.into_iter().filter(|_| args.wait) {
        until_gone(context, namespace, name, &uid).await?;
        context.out.print(&format!("pod \"{name}\" is gone\n"))?;
    }
    Ok(())
}

pub(super) async fn restart(args: PodNames, context: &mut Context) -> Done {
    for name in args::pod_words(&args.what).map_err(CliError::Usage)? {
        let namespace = encode(&args.namespace);
        let target = format!("/apis/podwright.dev/v1/namespaces/{namespace}/pods/{}/restart", encode(&name));
        let status = context.client.json(Method::POST, &target).await?;
        say(context, &format!("pod \"{name}\" is being restarted"), &status)?;
    }
    Ok(())
}

/// What was done, then what the agent has to say about it.
fn say(context: &mut Context, done: &str, status: &Value) -> Done {
    let note = status["message"].as_str().filter(|m| !m.is_empty()).map(|m| format!("{m}\n")).unwrap_or_default();
    context.out.print(&format!("{done}\n{note}"))
}

/// Waits until the pod with this uid is no longer among those that run.
async fn until_gone(context: &Context, namespace: &str, name: &str, uid: &Value) -> Done {
    let selector = encode(&format!("metadata.name={name}"));
    let path = format!("/api/v1/namespaces/{}/pods?fieldSelector={selector}", encode(namespace));
    'list: loop {
        let list = context.client.get(&path).await?;
        if !items(&list["items"]).any(|pod| pod["metadata"]["uid"] == *uid) {
            return Ok(());
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mut changes = context.client.stream(&format!("{path}&watch=true&resourceVersion={version}")).await?;
        while let Some(change) = changes.json_line().await? {
            match change["type"].as_str() {
                Some("DELETED") if change["object"]["metadata"]["uid"] == *uid => return Ok(()),
                Some("ERROR") if change["object"]["code"] == json!(410) => continue 'list,
                Some("ERROR") => {
                    let message = change["object"]["message"].as_str().unwrap_or("unknown error");
                    return Err(CliError::Failed(message.to_owned()));
                }
                _ => {}
            }
        }
        return Err(context.client.broken("it stopped before the pod was gone").into());
    }
}
