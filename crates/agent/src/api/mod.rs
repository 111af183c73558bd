//! The HTTP API on the agent's Unix socket: Kubernetes JSON, read from [`crate::status`]; commands go to the agent.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | `ok`; `verbose`: a line for each thing that is looked at, with what is wrong |
//! | `GET /version` | version of the agent |
//! | `GET /api/v1/pods`, `/api/v1/namespaces/{ns}/pods` | PodList; `watch`, `all`, `labelSelector`, `fieldSelector`, `resourceVersion`, `timeoutSeconds` |
//! | `GET …/pods/{name}` | Pod; `all`: also one that has ended and was removed |
//! | `GET …/pods/{name}/log` | text; `container`, `follow`, `previous`, `tailLines`, `timestamps` |
//! | `DELETE …/pods/{name}` | Status; `gracePeriodSeconds` |
//! | `POST /apis/podwright.dev/v1/namespaces/{ns}/pods/{name}/restart` | Status |
//! | `GET …/pods/{name}/why`, below the same path | Explanation, of a job or cron job if there is no such pod, also of a name without an object; `container` |
//! | `GET …/jobs/{name}/why`, `…/cronjobs/{name}/why`, below the same path | Explanation |
//! | `GET …/pods/{name}/timeline`, below the same path | Timeline |
//! | `GET /api/v1/events`, `/api/v1/namespaces/{ns}/events` | EventList; `watch`, `fieldSelector`, `resourceVersion`, `timeoutSeconds` |
//! | `GET /apis/batch/v1/jobs`, `/apis/batch/v1/namespaces/{ns}/jobs`, and `cronjobs` | JobList, CronJobList; as pods, without `all` |
//! | `GET …/jobs/{name}`, `…/cronjobs/{name}` | Job, CronJob |
//! | `DELETE …/jobs/{name}`, `…/cronjobs/{name}` | Status |
//! | `POST /apis/podwright.dev/v1/namespaces/{ns}/cronjobs/{name}/instantiate` | Status; `job`: the name of the job to make |
//! | `GET /apis/podwright.dev/v1/files` | FileList |
//! | `GET /apis/podwright.dev/v1/node` | NodeStatus: conditions of the node, and what could not be removed |
//!
//! Without `resourceVersion` a watch begins with every existing object as ADDED.

mod batch;
pub mod command;
mod connections;
mod cri;
pub mod error;
mod follow;
mod health;
mod inotify;
mod logdir;
mod logs;
mod query;
mod reads;
mod resources;
mod selector;
mod shared;
mod watch;

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::UnixListener;

use error::ApiError;
pub use shared::{Api, Clock, Closing};

/// Serves until `api.closing`, then finishes the requests that run.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: UnixListener, api: Api) -> std::io::Result<()> {
    let closing = api.closing.clone();
    connections::serve(listener, router(api), closing).await
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/version", get(resources::version))
        .route("/api/v1/pods", get(resources::pods_everywhere))
        .route("/api/v1/namespaces/{namespace}/pods", get(resources::pods))
        .route("/api/v1/namespaces/{namespace}/pods/{name}", get(resources::pod).delete(resources::delete))
        .route("/api/v1/namespaces/{namespace}/pods/{name}/log", get(logs::log))
        .route("/apis/podwright.dev/v1/namespaces/{namespace}/pods/{name}/restart", post(resources::restart))
        .route("/apis/podwright.dev/v1/namespaces/{namespace}/pods/{name}/why", get(resources::why))
        .route("/apis/podwright.dev/v1/namespaces/{namespace}/pods/{name}/timeline", get(resources::timeline))
        .route("/api/v1/events", get(resources::events_everywhere))
        .route("/api/v1/namespaces/{namespace}/events", get(resources::events))
        .route("/apis/podwright.dev/v1/files", get(resources::files))
        .route("/apis/podwright.dev/v1/node", get(health::node))
        .merge(batch::router())
        .fallback(async |uri: Uri| ApiError::no_resource(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| ApiError {
            code: StatusCode::METHOD_NOT_ALLOWED,
            reason: "MethodNotAllowed",
            message: format!("{method} is not supported on {}", uri.path()),
        })
        .with_state(api)
        .layer(map_response(as_status))
}

/// What the framework refuses by itself (a path that is not UTF-8, a body that is too long) becomes a Status as well.
async fn as_status(response: Response) -> Response {
    let code = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "application/json");
    if is_json || !(code.is_client_error() || code.is_server_error()) {
        return response;
    }
    let message = code.canonical_reason().unwrap_or("refused").to_owned();
    let reason = if code.is_client_error() { "BadRequest" } else { "InternalError" };
    ApiError { code, reason, message }.into_response()
}
