//! `delete`, `restart` and `create`.

use hyper::Method;
use serde_json::Value;

use super::args::{Create, CreateWhat, Delete, PodNames};
use super::client::encode;
use super::context::Context;
use super::error::{CliError, Done};
use super::get::in_namespace;
use super::kind::Kind;
use super::page::Page;
use super::wait::until_gone;
use super::words;

pub(super) async fn delete(args: Delete, context: &mut Context) -> Done {
    let kinds = [Kind::Pods, Kind::Jobs, Kind::CronJobs];
    let objects = words::object_words(&args.names.what, &kinds).map_err(CliError::Usage)?;
    let grace = if args.now { Some(1) } else { args.grace_period };
    if grace.is_some() && objects.iter().any(|(kind, _)| *kind != Kind::Pods) {
        let message = "--grace-period and --now are for pods only; those of a job have their own";
        return Err(CliError::Usage(message.to_owned()));
    }
    let query = grace.map(|g| format!("?gracePeriodSeconds={g}")).unwrap_or_default();
    let namespace = &args.names.namespace;
    let mut asked = Vec::new();
    for (kind, name) in &objects {
        let target = format!("{}/{}{query}", in_namespace(*kind, namespace), encode(name));
        let status = context.client.json(Method::DELETE, &target).await?;
        let what = kind.word();
        say(context, &format!("{what} \"{name}\" is being removed from {namespace} namespace"), &status)?;
        asked.push((kind, name, status["details"]["uid"].clone()));
    }
    for (kind, name, uid) in asked.into_iter().filter(|_| args.wait) {
        until_gone(context, *kind, namespace, name, Some(&uid)).await?;
        context.out.print(&Page::of_line(format_args!("{} \"{name}\" is gone", kind.word())))?;
    }
    Ok(())
}

pub(super) async fn restart(args: PodNames, context: &mut Context) -> Done {
    for name in words::pod_words(&args.what).map_err(CliError::Usage)? {
        let namespace = encode(&args.namespace);
        let target = format!("/apis/podwright.dev/v1/namespaces/{namespace}/pods/{}/restart", encode(&name));
        let status = context.client.json(Method::POST, &target).await?;
        say(context, &format!("pod \"{name}\" is being restarted"), &status)?;
    }
    Ok(())
}

pub(super) async fn create(args: Create, context: &mut Context) -> Done {
    let CreateWhat::Job { name, from, namespace } = args.what;
    let (_, name) = words::name_of(&name, Kind::Jobs, &[Kind::Jobs]).map_err(CliError::Usage)?;
    let (_, cron) = words::name_of(&from, Kind::CronJobs, &[Kind::CronJobs]).map_err(CliError::Usage)?;
    let path = format!("/apis/podwright.dev/v1/namespaces/{}/cronjobs/{}", encode(&namespace), encode(&cron));
    let status = context.client.json(Method::POST, &format!("{path}/instantiate?job={}", encode(&name))).await?;
    say(context, &format!("job \"{name}\" is made from cronjob \"{cron}\""), &status)
}

/// What was done, then what the agent has to say about it.
fn say(context: &mut Context, done: &str, status: &Value) -> Done {
    let mut page = Page::of_line(done);
    if let Some(note) = status["message"].as_str().filter(|m| !m.is_empty()) {
        page.line(note);
    }
    context.out.print(&page)
}
