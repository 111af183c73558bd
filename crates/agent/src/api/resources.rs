//! The handlers, but for logs.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use podwright_core::objects::Kind;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::Api;
use super::command::{Command, Reply};
use super::error::{ApiError, json_response};
use super::query::Params;
use super::selector::Selector;
use super::watch::Watch;
use crate::status::index::EVENT_FIELDS;
use crate::status::{Collection, Snapshot};

pub(super) type Answer = Result<Response, ApiError>;

/// How long the agent may take to answer a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn version(uri: Uri) -> Answer {
    Params::parse(&uri, &[])?;
    let version = env!("CARGO_PKG_VERSION");
    let mut parts = version.split('.');
    let body = json!({
        "major": parts.next(),
        "minor": parts.next(),
        "gitVersion": format!("v{version}"),
        "platform": format!("linux/{}", std::env::consts::ARCH),
    });
    Ok(json_response(StatusCode::OK, body.to_string()))
}

pub(super) async fn pods_everywhere(State(api): State<Api>, uri: Uri) -> Answer {
    list_pods(&api, None, &uri)
}

pub(super) async fn pods(State(api): State<Api>, Path(namespace): Path<String>, uri: Uri) -> Answer {
    list_pods(&api, Some(&namespace), &uri)
}

fn list_pods(api: &Api, namespace: Option<&str>, uri: &Uri) -> Answer {
    let known = ["watch", "all", "labelSelector", "fieldSelector", "resourceVersion", "timeoutSeconds"];
    let params = Params::parse(uri, &known)?;
    let selector = Selector::new(namespace, params.flag("all")?)
        .labels(params.text("labelSelector"))?
        .fields(params.text("fieldSelector"), Kind::Pod.selectable())?;
    list(api, &params, selector, Collection::Objects(Kind::Pod), api.store.pods())
}

pub(super) async fn events_everywhere(State(api): State<Api>, uri: Uri) -> Answer {
    list_events(&api, None, &uri)
}

pub(super) async fn events(State(api): State<Api>, Path(namespace): Path<String>, uri: Uri) -> Answer {
    list_events(&api, Some(&namespace), &uri)
}

fn list_events(api: &Api, namespace: Option<&str>, uri: &Uri) -> Answer {
    let params = Params::parse(uri, &["watch", "fieldSelector", "resourceVersion", "timeoutSeconds"])?;
    let selector = Selector::new(namespace, false).fields(params.text("fieldSelector"), EVENT_FIELDS)?;
    list(api, &params, selector, Collection::Events, api.store.events((api.clock)()))
}

pub(super) fn list(
    api: &Api,
    params: &Params,
    selector: Selector,
    collection: Collection,
    snapshot: Snapshot,
) -> Answer {
    let from = params.number("resourceVersion")?.filter(|v| *v != 0);
    let timeout = params.number("timeoutSeconds")?.filter(|s| *s != 0).map(Duration::from_secs);
    if params.flag("watch")? {
        let watcher = api.store.watch(collection, from.unwrap_or(snapshot.version));
        let watch = Watch { selector, watcher, closing: api.closing.clone(), timeout };
        return Ok(watch.respond(from.is_none().then_some(snapshot)));
    }
    let (version, kind) = match collection {
        Collection::Objects(kind) => (kind.api_version(), kind.name()),
        Collection::Events => ("v1", "Event"),
    };
    let shown: Vec<&str> = snapshot.items.iter().filter(|(i, _)| selector.matches(i)).map(|(_, o)| &**o).collect();
    let body = format!(
        "{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":{{\"resourceVersion\":\"{}\"}},\"items\":[{}]}}\n",
        snapshot.version,
        shown.join(",")
    );
    Ok(json_response(StatusCode::OK, body))
}

pub(super) async fn pod(State(api): State<Api>, Path((ns, name)): Path<(String, String)>, uri: Uri) -> Answer {
    let ended = Params::parse(&uri, &["all"])?.flag("all")?;
    let pod = api.store.pod(&ns, &name, ended).ok_or_else(|| ApiError::no_pod(&name))?;
    Ok(json_response(StatusCode::OK, format!("{}\n", pod.object)))
}

pub(super) async fn files(State(api): State<Api>, uri: Uri) -> Answer {
    Params::parse(&uri, &[])?;
    let body =
        json!({"kind": "FileList", "apiVersion": "podwright.dev/v1", "metadata": {}, "items": api.store.files()});
    Ok(json_response(StatusCode::OK, body.to_string()))
}

/// The part of `metav1.DeleteOptions` that has a meaning here; any other field is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DeleteOptions {
    #[serde(rename = "kind", default)]
    _kind: Option<String>,
    #[serde(rename = "apiVersion", default)]
    _api_version: Option<String>,
    #[serde(default)]
    grace_period_seconds: Option<u64>,
}

pub(super) async fn delete(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    uri: Uri,
    body: Bytes,
) -> Answer {
    let asked = Params::parse(&uri, &["gracePeriodSeconds"])?.number("gracePeriodSeconds")?;
    let options: DeleteOptions = if body.is_empty() {
        DeleteOptions::default()
    } else {
        serde_json::from_slice(&body).map_err(|e| ApiError::bad_request(format!("DeleteOptions in the body: {e}")))?
    };
    let grace = asked.or(options.grace_period_seconds).map(Duration::from_secs);
    let pod = name.clone();
    let reply = ask(&api.commands, |reply| Command::Delete { kind: Kind::Pod, namespace, name, grace, reply }).await?;
    done(&pod, "pods", reply)
}

pub(super) async fn restart(State(api): State<Api>, Path((ns, name)): Path<(String, String)>, uri: Uri) -> Answer {
    Params::parse(&uri, &[])?;
    let pod = name.clone();
    let reply = ask(&api.commands, |reply| Command::Restart { namespace: ns, name, reply }).await?;
    done(&pod, "pods", reply)
}

pub(super) async fn why(State(api): State<Api>, Path((ns, name)): Path<(String, String)>, uri: Uri) -> Answer {
    let container = Params::parse(&uri, &["container"])?.text("container").map(str::to_owned);
    explain(&api, Kind::Pod, (ns, name), container).await
}

pub(super) async fn explain(
    api: &Api,
    kind: Kind,
    (namespace, name): (String, String),
    container: Option<String>,
) -> Answer {
    let command = |reply| Command::Why { kind, namespace, name, container, reply };
    typed("Explanation", &ask(&api.commands, command).await??)
}

pub(super) async fn timeline(State(api): State<Api>, Path((ns, name)): Path<(String, String)>, uri: Uri) -> Answer {
    Params::parse(&uri, &[])?;
    let timeline = ask(&api.commands, |reply| Command::Timeline { namespace: ns, name, reply }).await??;
    typed("Timeline", &timeline)
}

/// A value of podwright's own API group.
fn typed(kind: &str, value: &impl serde::Serialize) -> Answer {
    let mut object = serde_json::to_value(value).map_err(|error| ApiError::internal(error.to_string()))?;
    object["apiVersion"] = json!("podwright.dev/v1");
    object["kind"] = json!(kind);
    Ok(json_response(StatusCode::OK, object.to_string()))
}

pub(super) async fn ask<T>(
    agent: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    agent.try_send(command(reply)).map_err(|e| match e {
        mpsc::error::TrySendError::Full(_) => ApiError::unavailable("too many commands are waiting; try again"),
        mpsc::error::TrySendError::Closed(_) => {
            ApiError::unavailable("the agent is stopping; try again once it is back")
        }
    })?;
    match tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => Err(ApiError::unavailable("the agent stopped before it answered; look at the pod's state")),
        Err(_) => {
            let message =
                format!("the agent did not answer within {} s; look at the pod's state", COMMAND_TIMEOUT.as_secs());
            Err(ApiError { code: StatusCode::GATEWAY_TIMEOUT, reason: "Timeout", message })
        }
    }
}

pub(super) fn done(name: &str, kind: &str, reply: Reply) -> Answer {
    let accepted = reply?;
    let body = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Success",
        "message": accepted.note,
        "details": {"name": name, "kind": kind, "uid": accepted.uid},
    });
    Ok(json_response(StatusCode::OK, body.to_string()))
}
