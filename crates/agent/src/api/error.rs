//! Errors as `metav1.Status` JSON.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use podwright_core::objects::Kind;
use serde_json::{Value, json};

use super::command::Refused;
use crate::status::Expired;

/// A refused request. Always a 4xx or 5xx code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub code: StatusCode,
    /// metav1's machine-readable word for it.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl ApiError {
    /// 400: the request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        ApiError { code: StatusCode::BAD_REQUEST, reason: "BadRequest", message: message.into() }
    }

    /// 404 for a pod, in Kubernetes' words.
    pub fn no_pod(name: &str) -> Self {
        ApiError { code: StatusCode::NOT_FOUND, reason: "NotFound", message: format!("pods \"{name}\" not found") }
    }

    /// 404 for a job or cron job, in Kubernetes' words.
    pub fn no_object(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        ApiError { code: StatusCode::NOT_FOUND, reason: "NotFound", message }
    }

    /// 404 for a path that is no resource.
    pub fn no_resource(path: &str) -> Self {
        let message = format!("the server could not find the requested resource: {path}");
        ApiError { code: StatusCode::NOT_FOUND, reason: "NotFound", message }
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        ApiError { code: StatusCode::INTERNAL_SERVER_ERROR, reason: "InternalError", message: message.into() }
    }

    /// 503: try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        ApiError { code: StatusCode::SERVICE_UNAVAILABLE, reason: "ServiceUnavailable", message: message.into() }
    }

    /// The `metav1.Status` object.
    pub fn status(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "code": self.code.as_u16(),
            "reason": self.reason,
            "message": self.message,
        })
    }
}

impl From<Expired> for ApiError {
    fn from(expired: Expired) -> Self {
        ApiError { code: StatusCode::GONE, reason: "Expired", message: expired.to_string() }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::NotFound { .. } => ApiError { code: StatusCode::NOT_FOUND, reason: "NotFound", message },
            Refused::Conflict { .. } => ApiError { code: StatusCode::CONFLICT, reason: "Conflict", message },
            Refused::Invalid { .. } => ApiError { code: StatusCode::UNPROCESSABLE_ENTITY, reason: "Invalid", message },
            Refused::Internal { .. } => ApiError::internal(message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        json_response(self.code, self.status().to_string())
    }
}

/// A response with a JSON text as its body.
pub(super) fn json_response(code: StatusCode, body: String) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
