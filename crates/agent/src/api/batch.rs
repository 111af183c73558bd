//! The handlers of `batch/v1`.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use podwright_core::objects::Kind;

use super::Api;
use super::command::Command;
use super::error::{ApiError, json_response};
use super::query::Params;
use super::resources::{Answer, ask, done, explain, list};
use super::selector::Selector;
use crate::status::Collection;

/// All of them.
pub(super) fn router() -> Router<Api> {
    let mut router = Router::new();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pod) {
        let (api_path, resource) = (kind.api_path(), kind.plural());
        let everywhere = move |State(api): State<Api>, uri: Uri| async move { all(&api, kind, None, &uri) };
        let of_namespace = move |State(api): State<Api>, Path(namespace): Path<String>, uri: Uri| async move {
            all(&api, kind, Some(&namespace), &uri)
        };
        let single = move |State(api): State<Api>, Path((namespace, name)): Path<(String, String)>, uri: Uri| async move {
            one(&api, kind, (&namespace, &name), &uri)
        };
        let removal = move |State(api): State<Api>, Path((namespace, name)): Path<(String, String)>, uri: Uri| async move {
            delete(&api, kind, namespace, name, &uri).await
        };
        let why = move |State(api): State<Api>, Path(object): Path<(String, String)>, uri: Uri| async move {
            Params::parse(&uri, &[])?;
            explain(&api, kind, object, None).await
        };
        router = router
            .route(&format!("/apis/podwright.dev/v1/namespaces/{{namespace}}/{resource}/{{name}}/why"), get(why))
            .route(&format!("{api_path}/{resource}"), get(everywhere))
            .route(&format!("{api_path}/namespaces/{{namespace}}/{resource}"), get(of_namespace))
            .route(&format!("{api_path}/namespaces/{{namespace}}/{resource}/{{name}}"), get(single).delete(removal));
    }
    let path = "/apis/podwright.dev/v1/namespaces/{namespace}/cronjobs/{name}/instantiate";
    router.route(path, post(instantiate))
}

fn all(api: &Api, kind: Kind, namespace: Option<&str>, uri: &Uri) -> Answer {
    let known = ["watch", "labelSelector", "fieldSelector", "resourceVersion", "timeoutSeconds"];
    let params = Params::parse(uri, &known)?;
    let selector = Selector::new(namespace, false)
        .labels(params.text("labelSelector"))?
        .fields(params.text("fieldSelector"), kind.selectable())?;
    list(api, &params, selector, Collection::Objects(kind), api.store.objects(kind))
}

fn one(api: &Api, kind: Kind, (namespace, name): (&str, &str), uri: &Uri) -> Answer {
    Params::parse(uri, &[])?;
    let object = api.store.object(kind, namespace, name).ok_or_else(|| ApiError::no_object(kind, name))?;
    Ok(json_response(StatusCode::OK, format!("{object}\n")))
}

async fn delete(api: &Api, kind: Kind, namespace: String, name: String, uri: &Uri) -> Answer {
    // kubectl says it; there is no other way here.
    match Params::parse(uri, &["propagationPolicy"])?.text("propagationPolicy") {
        None | Some("Background" | "Foreground") => {}
        Some(other) => {
            let message =
                format!("query parameter propagationPolicy: found \"{other}\", accepted: Background, Foreground");
            return Err(ApiError::bad_request(message));
        }
    }
    let asked = name.clone();
    let reply = ask(&api.commands, |reply| Command::Delete { kind, namespace, name, grace: None, reply }).await?;
    done(&asked, kind.resource(), reply)
}

async fn instantiate(State(api): State<Api>, Path((namespace, name)): Path<(String, String)>, uri: Uri) -> Answer {
    let params = Params::parse(&uri, &["job"])?;
    let missing = || ApiError::bad_request("query parameter job: required; accepted: the name of the job to make");
    let job = params.text("job").ok_or_else(missing)?.to_owned();
    let made = job.clone();
    let reply = ask(&api.commands, |reply| Command::Instantiate { namespace, name, job, reply }).await?;
    done(&made, Kind::Job.resource(), reply)
}
