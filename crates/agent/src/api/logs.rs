//! `GET …/pods/{name}/log`.

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::Api;
use super::error::ApiError;
use super::follow::{LogStream, Target};
use super::logdir::{self, LogReader, Start};
use super::query::Params;
use super::reads::read;
use crate::paths::log_directory;

/// Follows at a time. Each has an inotify instance, of which the kernel gives each user 128 by default, and root is who needs them.
static FOLLOWS: Semaphore = Semaphore::const_new(64);

fn too_many() -> ApiError {
    let message = "64 logs are followed already; end one of them".to_owned();
    ApiError { code: StatusCode::TOO_MANY_REQUESTS, reason: "TooManyRequests", message }
}

pub(super) async fn log(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let params = Params::parse(&uri, &["container", "follow", "previous", "tailLines", "timestamps"])?;
    let (follow, previous) = (params.flag("follow")?, params.flag("previous")?);
    if follow && previous {
        return Err(ApiError::bad_request(
            "follow and previous exclude each other: an earlier instance writes no more",
        ));
    }
    let place = if follow { Some(FOLLOWS.try_acquire().map_err(|_| too_many())?) } else { None };
    let start = params.number("tailLines")?.map_or(Start::Oldest, Start::Tail);
    let timestamps = params.flag("timestamps")?;
    let stored = api.store.pod(&namespace, &name, true).ok_or_else(|| ApiError::no_pod(&name))?;
    let pod: Value =
        serde_json::from_str(&stored.object).map_err(|e| ApiError::internal(format!("stored pod: {e}")))?;
    let container = choose(&pod, &name, params.text("container"))?;
    let key = stored.key;
    let dir = api.log_dir.join(log_directory(&key.namespace, &key.name, &key.uid)).join(&container);
    let unreadable =
        |e: std::io::Error| ApiError::internal(format!("log of container \"{container}\" in {}: {e}", dir.display()));

    let listed = dir.clone();
    let attempts = read(move || logdir::attempts(&listed)).await.and_then(|all| all).map_err(unreadable)?;
    let status = container_status(&pod, &container);
    let attempt = if previous {
        Some(previous_attempt(status).filter(|attempt| attempts.contains(attempt)).ok_or_else(|| {
            ApiError::bad_request(format!("previous terminated container \"{container}\" in pod \"{name}\" not found"))
        })?)
    } else {
        attempts.last().copied()
    };
    if attempt.is_none() && !follow {
        return Err(nothing_yet(status, &name, &container));
    }
    let target =
        Target { store: api.store, pod: key, container: container.clone(), root: api.log_dir, dir: dir.clone() };
    let closing = api.closing;
    // The search for the last lines may read a whole file.
    let opened =
        read(move || LogReader::new(target.dir.clone(), attempt, start, timestamps, follow).map(|r| (target, r)));
    let (target, reader) = opened.await.and_then(|opened| opened).map_err(unreadable)?;
    let stream = LogStream::new(target, reader, place, closing).await.map_err(unreadable)?;
    let body = Body::from_stream(futures_util::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((piece.map(Bytes::from), stream))
    }));
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

/// The container that is meant: the named one, or the only main.
fn choose(pod: &Value, name: &str, asked: Option<&str>) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<&str> {
        let items = pod.pointer(list).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
    };
    let (mains, inits) = (names("/spec/containers"), names("/spec/initContainers"));
    let choices = || {
        let inits = if inits.is_empty() {
            String::new()
        } else {
            format!(" or one of the init containers: [{}]", inits.join(" "))
        };
        format!("choose one of: [{}]{inits}", mains.join(" "))
    };
    match (asked, mains.as_slice()) {
        (Some(asked), _) if mains.contains(&asked) || inits.contains(&asked) => Ok(asked.to_owned()),
        (Some(asked), _) => {
            Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}, {}", choices())))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            Err(ApiError::bad_request(format!("a container name must be specified for pod {name}, {}", choices())))
        }
    }
}

fn container_status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    ["/status/containerStatuses", "/status/initContainerStatuses"]
        .iter()
        .filter_map(|list| pod.pointer(list).and_then(Value::as_array))
        .flatten()
        .find(|s| s["name"] == container)
}

/// The instance that `lastState` tells of. The log files do not say: the next instance has one before it is reported.
fn previous_attempt(status: Option<&Value>) -> Option<u32> {
    let id = status?.pointer("/lastState/terminated/containerID")?.as_str()?;
    id.rsplit_once('-')?.1.parse().ok()
}

fn nothing_yet(status: Option<&Value>, pod: &str, container: &str) -> ApiError {
    let state = status.map(|s| &s["state"]);
    if state.is_some_and(|s| s["running"].is_object() || s["terminated"].is_object()) {
        let message = format!("container \"{container}\" in pod \"{pod}\" has left no log");
        return ApiError { code: StatusCode::NOT_FOUND, reason: "NotFound", message };
    }
    let reason =
        state.and_then(|s| s.pointer("/waiting/reason")).and_then(Value::as_str).unwrap_or("ContainerCreating");
    ApiError::bad_request(format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_is_chosen_or_the_choice_is_named() {
        let one = json!({"spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "proxy"}]}});
        let two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(choose(&one, "p", None).unwrap(), "app");
        assert_eq!(choose(&one, "p", Some("proxy")).unwrap(), "proxy");
        assert_eq!(
            choose(&one, "p", Some("../x")).unwrap_err().message,
            "container ../x is not valid for pod p, choose one of: [app] or one of the init containers: [proxy]"
        );
        assert_eq!(
            choose(&two, "p", None).unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b]"
        );
    }

    #[test]
    fn previous_is_the_instance_before_the_present_one() {
        let status = json!({"lastState": {"terminated": {"containerID": "podwright://0f1e-2d3c-app-12"}}});
        assert_eq!(previous_attempt(Some(&status)), Some(12));
        assert_eq!(previous_attempt(Some(&json!({"lastState": {}}))), None);
        assert_eq!(previous_attempt(None), None);
    }
}
