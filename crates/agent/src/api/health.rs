//! `GET /healthz`: whether the agent answers; with `verbose`, also what it waits for or lacks, in the form of Kubernetes' servers.
//! And the node as it is, for `podwright status`.

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::Api;
use super::error::{ApiError, json_response};
use super::query::Params;
use super::resources::Answer;
use crate::status::{FileState, Store};

/// The agent answers, so it is in health, whatever it waits for: nobody is to restart it for that.
pub(super) async fn healthz(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let verbose = Params::parse(&uri, &["verbose"])?.flag("verbose")?;
    let text = if verbose { report(&api.store) } else { "ok".to_owned() };
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

fn report(store: &Store) -> String {
    let mut lines = vec!["[+]ping ok".to_owned()];
    let silent = silent(store);
    if silent.is_empty() {
        lines.push("[+]file-systems ok".to_owned());
    }
    lines.extend(silent.iter().map(|problem| format!("[-]file-systems failed: {}", problem.replace('\n', " "))));
    lines.extend(conditions(store));
    lines.push("healthz check passed\n".to_owned());
    lines.join("\n")
}

/// What does not answer: files of the manifest directory, and what else the agent has to look at.
fn silent(store: &Store) -> Vec<String> {
    let files = store.files().into_iter().filter(|report| report.state == FileState::Unresponsive);
    let mut all: Vec<String> = files.flat_map(|report| report.problems).collect();
    all.extend(
        store
            .silent()
            .into_iter()
            .map(|(path, since)| crate::sources::directory::decide::silent(&path.display().to_string(), since)),
    );
    all
}

/// A line for each condition of the node; `Ready` is said by the answer itself.
fn conditions(store: &Store) -> Vec<String> {
    let node = store.node();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().replace('\n', " ");
    let others = node.conditions.iter().filter(|condition| condition["type"] != "Ready");
    let mut lines: Vec<String> = others
        .map(|condition| match condition["status"].as_str() {
            Some("True") => {
                let since = text(&condition["lastTransitionTime"]);
                format!("[-]{} failed: since {since}: {}", text(&condition["type"]), text(&condition["message"]))
            }
            _ => format!("[+]{} ok", text(&condition["type"])),
        })
        .collect();
    lines.extend(node.leftovers.iter().map(|leftover| {
        format!("[-]clean-up failed: {} cannot be removed: {}", text(&leftover["path"]), text(&leftover["error"]))
    }));
    lines
}

/// The node: its conditions, and what could not be removed.
pub(super) async fn node(State(api): State<Api>, uri: Uri) -> Answer {
    Params::parse(&uri, &[])?;
    let node = api.store.node();
    let body = json!({
        "kind": "NodeStatus",
        "apiVersion": "podwright.dev/v1",
        "nodeName": node.name,
        "agentVersion": format!("v{}", env!("CARGO_PKG_VERSION")),
        "conditions": node.conditions,
        "leftovers": node.leftovers,
    });
    Ok(json_response(StatusCode::OK, body.to_string()))
}
