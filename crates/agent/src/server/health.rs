//! `GET /healthz`: whether the agent answers; with `verbose`, also what it waits for or lacks, in the form of Kubernetes' servers.

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::error::ApiError;
use super::query::Params;
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
            .map(|(path, since)| crate::source::decide::silent(&path.display().to_string(), since)),
    );
    all
}
