//! `get`, `describe` and `events`: fetch, then print.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::{self, Events, Get, Kind, Output, PodNames, Scope};
use super::client::encode;
use super::pods::{Columns, items};
use super::table::{Cell, Table};
use super::{CliError, Context, Done, describe as printer, events as event_printer, files, output};

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
    let (kind, names) = args::get_words(&args.what).map_err(CliError::Usage)?;
    let only_pods = [
        ("--all", args.all),
        ("--selector", args.selector.is_some()),
        ("--field-selector", args.field_selector.is_some()),
    ];
    if let Some((option, _)) = only_pods.iter().find(|(_, given)| *given && kind != Kind::Pods) {
        return Err(CliError::Usage(format!("{option} is for pods only")));
    }
    match kind {
        Kind::Pods => get_pods(args, &names, context).await,
        Kind::Events => {
            let Get { scope, output, watch, .. } = args;
            events(Events { scope, about: None, watch, output }, context).await
        }
        Kind::Files if args.watch => Err(CliError::Usage("files cannot be watched; events can".to_owned())),
        Kind::Files => {
            let list = context.client.get("/apis/podwright.dev/v1/files").await?;
            let all: Vec<Value> = items(&list["items"]).cloned().collect();
            if all.is_empty() && matches!(args.output, None | Some(Output::Wide)) {
                eprintln!("No manifest files found.");
                return Ok(());
            }
            let text = output::object(args.output, &list).unwrap_or_else(|| files::table(&all, context.style));
            context.out.print(&text)
        }
    }
}

async fn get_pods(args: Get, names: &[String], context: &mut Context) -> Done {
    if args.scope.all_namespaces && !names.is_empty() {
        return Err(CliError::Usage(
            "a pod cannot be got by name across all namespaces; give its --namespace".to_owned(),
        ));
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
    let columns =
        Columns { namespace: args.scope.all_namespaces, wide: args.output == Some(Output::Wide), ended: args.all };
    let mut listing = Listing {
        path: scoped("pods", &args.scope),
        query,
        format: args.output,
        table: Table::new(columns.headings(), context.style),
        row: Box::new(move |pod, now| columns.row(pod, now)),
        shows_deleted: true,
    };
    if args.watch {
        if names.len() > 1 {
            return Err(CliError::Usage("one pod or all of them can be watched, not several by name".to_owned()));
        }
        return watch(&mut listing, context).await;
    }
    let mut list = list(&listing, context).await?;
    let missing = keep_named(&mut list, names, &args);
    let (found, nowhere) = (items(&list["items"]).count(), no_resources("resources", &args.scope));
    // As kubectl: one pod by its name is an object, everything else a list.
    let single = (names.len() == 1 && found == 1).then(|| list["items"][0].clone());
    if found > 0 || (names.is_empty() && !matches!(args.output, None | Some(Output::Wide))) {
        print_list(&mut listing, single.as_ref().unwrap_or(&list), context)?;
    } else if names.is_empty() {
        eprintln!("{nowhere}");
    }
    if missing.is_empty() { Ok(()) } else { Err(CliError::NotFound(missing.join("\nerror: "))) }
}

/// Takes the named pods out of the list, in the order of the names; returns what to say of those that are not there.
fn keep_named(list: &mut Value, names: &[String], args: &Get) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let mut missing = Vec::new();
    let mut kept = Vec::new();
    for name in names {
        let before = kept.len();
        kept.extend(items(&list["items"]).filter(|p| p["metadata"]["name"] == **name).cloned());
        if kept.len() == before {
            let hint = if args.all { "" } else { "; if it has ended and was removed, --all shows it" };
            missing.push(format!("pods \"{name}\" not found in namespace \"{}\"{hint}", args.scope.namespace));
        }
    }
    list["items"] = Value::Array(kept);
    missing
}

pub(super) async fn events(args: Events, context: &mut Context) -> Done {
    let namespace = args.scope.all_namespaces;
    let mut query = Vec::new();
    if let Some(about) = &args.about {
        let name = args::pod_name(about).map_err(CliError::Usage)?;
        query.push(format!("fieldSelector={}", encode(&format!("involvedObject.kind=Pod,involvedObject.name={name}"))));
    }
    let mut listing = Listing {
        path: scoped("events", &args.scope),
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
        eprintln!("{}", no_resources("events", &args.scope));
        return Ok(());
    }
    print_list(&mut listing, &list, context)
}

pub(super) async fn describe(args: PodNames, context: &mut Context) -> Done {
    let names = args::pod_words(&args.what).map_err(CliError::Usage)?;
    for (i, name) in names.iter().enumerate() {
        let namespace = encode(&args.namespace);
        let pod = context.client.get(&format!("/api/v1/namespaces/{namespace}/pods/{}?all=true", encode(name))).await?;
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let selector = encode(&format!("involvedObject.uid={uid}"));
        let events =
            context.client.get(&format!("/api/v1/namespaces/{namespace}/events?fieldSelector={selector}")).await?;
        let events: Vec<Value> = items(&events["items"]).cloned().collect();
        let text = printer::describe(&pod, &events, Timestamp::now(), context.style);
        context.out.print(&format!("{}{text}", if i > 0 { "\n" } else { "" }))?;
    }
    Ok(())
}

fn scoped(resource: &str, scope: &Scope) -> String {
    if scope.all_namespaces {
        format!("/api/v1/{resource}")
    } else {
        format!("/api/v1/namespaces/{}/{resource}", encode(&scope.namespace))
    }
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
    if let Some(text) = output::object(listing.format, shown) {
        return context.out.print(&text);
    }
    let now = Timestamp::now();
    let rows = match shown["items"].as_array() {
        Some(items) => items.iter().map(|item| (listing.row)(item, now)).collect(),
        None => vec![(listing.row)(shown, now)],
    };
    context.out.print(&listing.table.print(rows))
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
                    return Err(CliError::Failed(message.to_owned()));
                }
                Some("DELETED") if !listing.shows_deleted => {}
                _ => print_change(listing, &change["object"], context)?,
            }
        }
    }
}

fn print_change(listing: &mut Listing, object: &Value, context: &mut Context) -> Done {
    match output::object(listing.format, object) {
        Some(text) if listing.format == Some(Output::Yaml) => context.out.print(&format!("---\n{text}")),
        Some(text) => context.out.print(&text),
        None => print_list(listing, object, context),
    }
}
