//! `get`, `describe` and `events`: fetch, then print.

use jiff::Timestamp;
use podwright_sys::printable;
use serde_json::{Value, json};

use super::args::{Events, Get, Names, Output, Scope};
use super::client::encode;
use super::context::Context;
use super::error::{CliError, Done};
use super::kind::Kind;
use super::page::Page;
use super::pods::{Columns, items};
use super::table::{Cell, Table};
use super::{describe as printer, describe_job, events as event_printer, files, jobs, output, words};

/// Makes an object's row at a time.
type Row = Box<dyn Fn(&Value, Timestamp) -> Vec<Cell>>;

/// How a list is asked for and shown.
struct Listing {
    /// Path of the list.
    path: String,
    /// Its parameters, encoded.
    query: Vec<String>,
    format: Option<Output>,
    table: Table,
    row: Row,
    /// Whether an object that goes is shown once more.
    shows_deleted: bool,
}

pub(super) async fn get(args: Get, context: &mut Context) -> Done {
    let (kind, names) = words::get_words(&args.what).map_err(CliError::Usage)?;
    let only = [
        ("--all", args.all, kind == Kind::Pods, "pods"),
        ("--selector", args.selector.is_some(), kind.has_names(), "pods and jobs"),
        ("--field-selector", args.field_selector.is_some(), kind.has_names(), "pods and jobs"),
    ];
    if let Some((option, .., what)) = only.iter().find(|(_, given, fits, _)| *given && !fits) {
        return Err(CliError::Usage(format!("{option} is for {what} only")));
    }
    match kind {
        Kind::Pods | Kind::Jobs | Kind::CronJobs => get_objects(kind, args, &names, context).await,
        Kind::Events => {
            let Get { scope, output, watch, .. } = args;
            events(Events { scope, about: None, watch, output }, context).await
        }
        Kind::Files if args.watch => Err(CliError::Usage("files cannot be watched; events can".to_owned())),
        Kind::Files => {
            let list = context.client.get("/apis/podwright.dev/v1/files").await?;
            let all: Vec<Value> = items(&list["items"]).cloned().collect();
            if all.is_empty() && matches!(args.output, None | Some(Output::Wide)) {
                context.out.note(&Page::of_line("No manifest files found."));
                return Ok(());
            }
            match output::object(args.output, &list) {
                Some(data) => context.out.data(&data),
                None => context.out.print(&files::table(&all, context.style)),
            }
        }
    }
}

async fn get_objects(kind: Kind, args: Get, names: &[String], context: &mut Context) -> Done {
    if args.scope.all_namespaces && !names.is_empty() {
        let what = kind.word();
        let message = format!("a {what} cannot be got by name across all namespaces; give its --namespace");
        return Err(CliError::Usage(message));
    }
    let mut query = Vec::new();
    query.extend(args.all.then(|| "all=true".to_owned()));
    query.extend(args.selector.as_deref().map(|s| format!("labelSelector={}", encode(s))));
    let mut fields: Vec<String> = args.field_selector.iter().cloned().collect();
    if let [name] = names {
        fields.push(format!("metadata.name={name}"));
    }
    if !fields.is_empty() {
        query.push(format!("fieldSelector={}", encode(&fields.join(","))));
    }
    let (headings, row) = columns(kind, &args);
    let mut listing = Listing {
        path: scoped(kind, &args.scope),
        query,
        format: args.output,
        table: Table::new(headings, context.style),
        row,
        shows_deleted: true,
    };
    if args.watch {
        if names.len() > 1 {
            return Err(CliError::Usage("one of them or all can be watched, not several by name".to_owned()));
        }
        return watch(&mut listing, context).await;
    }
    let mut list = list(&listing, context).await?;
    let missing = keep_named(kind, &mut list, names, &args);
    let (found, nowhere) = (items(&list["items"]).count(), no_resources("resources", &args.scope));
    // As kubectl: one pod by its name is an object, everything else a list.
    let single = (names.len() == 1 && found == 1).then(|| list["items"][0].clone());
    if found > 0 || (names.is_empty() && !matches!(args.output, None | Some(Output::Wide))) {
        print_list(&mut listing, single.as_ref().unwrap_or(&list), context)?;
    } else if names.is_empty() {
        context.out.note(&Page::of_line(nowhere));
    }
    if missing.is_empty() { Ok(()) } else { Err(CliError::NotFound(missing.join("\nerror: "))) }
}

/// Takes the named pods out of the list, in the order of the names; returns what to say of those that are not there.
fn keep_named(kind: Kind, list: &mut Value, names: &[String], args: &Get) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let mut missing = Vec::new();
    let mut kept = Vec::new();
    for name in names {
        let before = kept.len();
        kept.extend(items(&list["items"]).filter(|p| p["metadata"]["name"] == **name).cloned());
        if kept.len() == before {
            let all = args.all || kind != Kind::Pods;
            let hint = if all { "" } else { "; if it has ended and was removed, --all shows it" };
            let what = kind.resource().0;
            missing.push(format!("{what} \"{name}\" not found in namespace \"{}\"{hint}", args.scope.namespace));
        }
    }
    list["items"] = Value::Array(kept);
    missing
}

pub(super) async fn events(args: Events, context: &mut Context) -> Done {
    let namespace = args.scope.all_namespaces;
    let mut query = Vec::new();
    if let Some(about) = &args.about {
        let kinds = [Kind::Pods, Kind::Jobs, Kind::CronJobs];
        let (kind, name) = words::name_of(about, Kind::Pods, &kinds).map_err(CliError::Usage)?;
        let selector = format!("involvedObject.kind={},involvedObject.name={name}", kind.api());
        query.push(format!("fieldSelector={}", encode(&selector)));
    }
    let mut listing = Listing {
        path: scoped(Kind::Events, &args.scope),
        query,
        format: args.output,
        table: Table::new(event_printer::headings(namespace), context.style),
        row: Box::new(move |event, now| event_printer::row(event, namespace, now)),
        // An event goes because it is old.
        shows_deleted: false,
    };
    if args.watch {
        return watch(&mut listing, context).await;
    }
    let list = list(&listing, context).await?;
    if items(&list["items"]).next().is_none() && matches!(args.output, None | Some(Output::Wide)) {
        context.out.note(&Page::of_line(no_resources("events", &args.scope)));
        return Ok(());
    }
    print_list(&mut listing, &list, context)
}

pub(super) async fn describe(args: Names, context: &mut Context) -> Done {
    let kinds = [Kind::Pods, Kind::Jobs, Kind::CronJobs];
    let objects = words::object_words(&args.what, &kinds).map_err(CliError::Usage)?;
    for (i, (kind, name)) in objects.iter().enumerate() {
        let path = format!("{}/{}", in_namespace(*kind, &args.namespace), encode(name));
        let query = if *kind == Kind::Pods { "?all=true" } else { "" };
        let object = context.client.get(&format!("{path}{query}")).await?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let selector = encode(&format!("involvedObject.uid={uid}"));
        let events = in_namespace(Kind::Events, &args.namespace);
        let events = context.client.get(&format!("{events}?fieldSelector={selector}")).await?;
        let events: Vec<Value> = items(&events["items"]).cloned().collect();
        let (now, style) = (Timestamp::now(), context.style);
        let text = match kind {
            Kind::Jobs => describe_job::job(&object, &events, now, style),
            Kind::CronJobs => describe_job::cron_job(&object, &events, now, style),
            Kind::Pods | Kind::Events | Kind::Files => printer::describe(&object, &events, now, style),
        };
        let mut page = Page::new(style);
        if i > 0 {
            page.end_line();
        }
        page.append("", &text);
        context.out.print(&page)?;
    }
    Ok(())
}

/// The headings of a kind's table, and what makes a row.
fn columns(kind: Kind, args: &Get) -> (Vec<&'static str>, Row) {
    let (namespace, wide) = (args.scope.all_namespaces, args.output == Some(Output::Wide));
    match kind {
        Kind::Jobs => {
            let columns = jobs::Columns { namespace, wide };
            (columns.of_jobs(), Box::new(move |job, now| columns.job(job, now)))
        }
        Kind::CronJobs => {
            let columns = jobs::Columns { namespace, wide };
            (columns.of_cron_jobs(), Box::new(move |cron, now| columns.cron_job(cron, now)))
        }
        Kind::Pods | Kind::Events | Kind::Files => {
            let columns = Columns { namespace, wide, ended: args.all };
            (columns.headings(), Box::new(move |pod, now| columns.row(pod, now)))
        }
    }
}

fn scoped(kind: Kind, scope: &Scope) -> String {
    let (resource, base) = kind.resource();
    if scope.all_namespaces { format!("{base}/{resource}") } else { in_namespace(kind, &scope.namespace) }
}

/// The path of a list in one namespace.
pub(super) fn in_namespace(kind: Kind, namespace: &str) -> String {
    let (resource, base) = kind.resource();
    format!("{base}/namespaces/{}/{resource}", encode(namespace))
}

fn no_resources(what: &str, scope: &Scope) -> String {
    if scope.all_namespaces {
        format!("No {what} found.")
    } else {
        format!("No {what} found in {} namespace.", scope.namespace)
    }
}

async fn list(listing: &Listing, context: &Context) -> Result<Value, CliError> {
    let query = if listing.query.is_empty() { String::new() } else { format!("?{}", listing.query.join("&")) };
    Ok(context.client.get(&format!("{}{query}", listing.path)).await?)
}

fn print_list(listing: &mut Listing, shown: &Value, context: &mut Context) -> Done {
    if let Some(data) = output::object(listing.format, shown) {
        return context.out.data(&data);
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<Cell>> = match shown["items"].as_array() {
        Some(items) => items.iter().map(|item| (listing.row)(item, now)).collect(),
        None => vec![(listing.row)(shown, now)],
    };
    context.out.print(&listing.table.print(&rows))
}

/// Prints what is there, then every change, until the agent ends it.
async fn watch(listing: &mut Listing, context: &mut Context) -> Done {
    loop {
        let list = list(listing, context).await?;
        if matches!(listing.format, None | Some(Output::Wide)) {
            if items(&list["items"]).next().is_some() {
                print_list(listing, &list, context)?;
            }
        } else {
            for item in items(&list["items"]) {
                print_change(listing, item, context)?;
            }
        }
        let mut query = listing.query.clone();
        query.push("watch=true".to_owned());
        query.push(format!("resourceVersion={}", list["metadata"]["resourceVersion"].as_str().unwrap_or_default()));
        let mut changes = context.client.stream(&format!("{}?{}", listing.path, query.join("&"))).await?;
        loop {
            let Some(change) = changes.json_line().await? else {
                return Err(context.client.broken("it ended the watch").into());
            };
            match change["type"].as_str() {
                // Too far behind: begin again with the list.
                Some("ERROR") if change["object"]["code"] == json!(410) => break,
                Some("ERROR") => {
                    let message = change["object"]["message"].as_str().unwrap_or("unknown error");
                    return Err(CliError::Failed(printable::line(message).into_owned()));
                }
                Some("DELETED") if !listing.shows_deleted => {}
                _ => print_change(listing, &change["object"], context)?,
            }
        }
    }
}

fn print_change(listing: &mut Listing, object: &Value, context: &mut Context) -> Done {
    match output::object(listing.format, object) {
        Some(data) if listing.format == Some(Output::Yaml) => context.out.data(&data.parted()),
        Some(data) => context.out.data(&data),
        None => print_list(listing, object, context),
    }
}
