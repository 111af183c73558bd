//! A server over a real Unix socket with a store that the test fills, and somebody who answers its commands.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podwright_agent::api::command::{Accepted, COMMAND_QUEUE, Command, Refused};
use podwright_agent::api::{Api, Closing, serve};
use podwright_agent::status::{EventInput, PodKey, Store, Subject};
use podwright_core::api::SOCKET;
use podwright_core::objects::Kind;
use podwright_core::pod::why::{Explanation, Known, missing};
use podwright_core::time::Time;
use podwright_core::timeline::Timeline;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

/// 2026-11-23T12:00:00Z, when the tests' pods were made.
pub const BORN: Time = Time(1_795_435_200_000_000_000);

/// A running server; it ends with this.
pub struct Server {
    /// What it shows.
    pub store: Store,
    /// Has its socket and the logs.
    pub dir: tempfile::TempDir,
    /// The commands that came, in words.
    pub asked: Arc<Mutex<Vec<String>>>,
    closing: watch::Sender<bool>,
}

/// `seconds` after [`BORN`].
pub fn after(seconds: u64) -> Time {
    BORN + Duration::from_secs(seconds)
}

impl Server {
    /// Starts one on the running runtime.
    pub fn start() -> Self {
        Server::telling(Told::default())
    }

    /// One that tells this.
    pub fn telling(told: Told) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        let store = Store::new(BORN);
        let (closing, closed) = watch::channel(false);
        let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(answer(inbox, store.clone(), asked.clone(), told));
        let api = Api {
            store: store.clone(),
            commands,
            log_dir: dir.path().join("logs"),
            clock: Arc::new(|| after(60)),
            closing: Closing(closed),
        };
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        tokio::spawn(async move { serve(listener, api).await.unwrap() });
        Server { store, dir, asked, closing }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// Ends every stream.
    pub fn close(&self) {
        self.closing.send(true).unwrap();
    }

    /// Adds or updates a job.
    pub fn put_job(&self, job: Value) {
        self.store.put_object(Kind::Job, job).unwrap();
    }

    /// Adds or updates a pod.
    pub fn put(&self, pod: Value) {
        self.store.put_pod(pod, after(1)).unwrap();
    }

    /// The log file of a container of [`pod`] `name`.
    pub fn log(&self, name: &str, container: &str, file: &str) -> PathBuf {
        let dir = self.dir.path().join("logs").join(format!("default_{name}_uid-{name}")).join(container);
        std::fs::create_dir_all(&dir).unwrap();
        dir.join(file)
    }

    /// Appends lines to it.
    pub fn write_log(&self, name: &str, container: &str, file: &str, lines: &[&str]) {
        let path = self.log(name, container, file);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for line in lines {
            writeln!(file, "2026-11-23T12:00:00.123456789Z stdout F {line}").unwrap();
        }
    }

    /// Records an event of [`pod`] `pod`.
    pub fn event(&self, pod: &str, reason: &str, message: &str, seconds: u64) {
        let subject = Subject::Pod {
            namespace: "default".into(),
            name: pod.into(),
            uid: format!("uid-{pod}"),
            field_path: Some("spec.containers{app}".into()),
        };
        let warning = reason == "BackOff";
        self.store.record_event(EventInput {
            subject,
            reason: reason.into(),
            message: message.into(),
            warning,
            at: after(seconds),
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.send_replace(true);
    }
}

/// What is told when somebody asks; nothing: that there is none.
#[derive(Clone, Default)]
pub struct Told {
    /// To `why`.
    pub why: Option<Explanation>,
    /// To `timeline`.
    pub timeline: Option<Timeline>,
    /// What the agent adds to what it did.
    pub note: Option<String>,
}

async fn answer(mut inbox: mpsc::Receiver<Command>, store: Store, asked: Arc<Mutex<Vec<String>>>, told: Told) {
    while let Some(command) = inbox.recv().await {
        let (namespace, name, what, reply) = match command {
            Command::Delete { kind: Kind::Pod, namespace, name, grace, reply } => {
                (namespace, name, format!("delete {grace:?}"), reply)
            }
            Command::Restart { namespace, name, reply } => (namespace, name, "restart".to_owned(), reply),
            Command::Why { kind, namespace, name, reply, .. } => {
                let missing = || missing(kind, &namespace, &name, &Known::default());
                reply.send(Ok(told.why.clone().unwrap_or_else(missing))).ok();
                continue;
            }
            Command::Timeline { namespace, name, reply } => {
                let missing = || Refused::NotFound { kind: Kind::Pod, namespace, name };
                reply.send(told.timeline.clone().ok_or_else(missing)).ok();
                continue;
            }
            Command::Delete { kind, namespace, name, reply, .. } => {
                asked.lock().unwrap().push(format!("delete {kind} {namespace}/{name}"));
                reply.send(Ok(Accepted { uid: format!("uid-{name}"), note: None })).ok();
                continue;
            }
            Command::Instantiate { namespace, name, job, reply } => {
                asked.lock().unwrap().push(format!("instantiate {namespace}/{name} {job}"));
                reply.send(Err(Refused::NotFound { kind: Kind::CronJob, namespace, name })).ok();
                continue;
            }
        };
        asked.lock().unwrap().push(format!("{what} {namespace}/{name}"));
        let result = match store.pod(&namespace, &name, false) {
            None => Err(Refused::NotFound { kind: Kind::Pod, namespace, name: name.clone() }),
            Some(pod) if pod.object.contains("deletionTimestamp") && what == "restart" => {
                Err(Refused::Conflict { message: format!("pod \"{name}\" is being removed") })
            }
            Some(pod) => {
                let note = format!("{name}.yaml is left alone: the pod stays away until that file changes");
                Ok(Accepted {
                    uid: pod.key.uid,
                    note: told.note.clone().or(what.starts_with("delete").then_some(note)),
                })
            }
        };
        reply.send(result).ok();
    }
}

/// The key of [`pod`] `name`.
pub fn key(name: &str) -> PodKey {
    PodKey { namespace: "default".into(), name: name.into(), uid: format!("uid-{name}") }
}

/// A pod with a sidecar `proxy` and a main `app`; both are in `state`.
pub fn pod(name: &str, phase: &str, state: &Value) -> Value {
    let running = state.get("running").is_some();
    let status = |container: &str| {
        json!({"name": container, "image": "busybox", "imageID": "busybox", "ready": running, "started": running,
               "restartCount": 0, "state": state, "lastState": {}})
    };
    let initialized = if state.get("waiting").is_some() { "False" } else { "True" };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"), "labels": {"app": name},
                     "creationTimestamp": "2026-11-23T12:00:00Z"},
        "spec": {
            "nodeName": "edge-1",
            "restartPolicy": "Always",
            "initContainers": [{"name": "proxy", "image": "busybox", "restartPolicy": "Always"}],
            "containers": [{"name": "app", "image": "busybox"}],
        },
        "status": {"phase": phase, "podIP": "10.1.2.3", "conditions": [{"type": "Initialized", "status": initialized}],
                   "initContainerStatuses": [status("proxy")],
                   "containerStatuses": [status("app")]},
    })
}

/// A job with this condition, if one is given.
pub fn job(name: &str, condition: Option<&str>) -> Value {
    let conditions: Vec<Value> = condition
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "reason": "R", "message": "because", "lastTransitionTime": "2026-11-23T12:00:30Z"}))
        .collect();
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"), "labels": {"team": "shop"},
                     "creationTimestamp": "2026-11-23T12:00:00Z"},
        "spec": {"completions": 3, "parallelism": 2, "template": {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}},
        "status": {"startTime": "2026-11-23T12:00:01Z", "succeeded": 1, "conditions": conditions},
    })
}

/// The state of a container that runs.
pub fn running() -> Value {
    json!({"running": {"startedAt": "2026-11-23T12:00:02Z"}})
}

/// The state of a container that has ended.
pub fn ended(code: i64) -> Value {
    let reason = if code == 0 { "Completed" } else { "Error" };
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": "2026-11-23T12:00:02Z",
                          "finishedAt": "2026-11-23T12:00:05Z"}})
}
