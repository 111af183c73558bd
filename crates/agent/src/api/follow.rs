//! A log as a stream: what is there, and then, if asked for, what comes until the container will not run again.

use std::io;
use std::path::PathBuf;

use serde_json::Value;
use tokio::sync::SemaphorePermit;

use super::Closing;
use super::inotify::DirWatch;
use super::logdir::{LogReader, Step};
use super::reads::read;
use crate::status::{Collection, PodKey, Store, Watcher};

/// Whose log.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) store: Store,
    pub(super) pod: PodKey,
    pub(super) container: String,
    /// The directory of all logs.
    pub(super) root: PathBuf,
    /// The directory of this container's.
    pub(super) dir: PathBuf,
}

/// The stream.
pub(super) struct LogStream {
    target: Target,
    /// Absent while a blocking read has it, and after the end.
    reader: Option<LogReader>,
    follow: Option<Follow>,
    closing: Closing,
}

struct Follow {
    /// Absent only after a failure.
    files: Option<DirWatch>,
    pods: Watcher,
    _place: SemaphorePermit<'static>,
}

impl LogStream {
    /// With a `place` among the follows, it goes on until the container will not run again.
    pub(super) async fn new(
        target: Target,
        reader: LogReader,
        place: Option<SemaphorePermit<'static>>,
        closing: Closing,
    ) -> io::Result<Self> {
        let follow = if let Some(place) = place {
            let files = Some(DirWatch::new(&target.dir, &target.root)?);
            let mut follow = Follow { files, pods: watch_pods(&target.store), _place: place };
            // Before the first look at the pod and its files, so that nothing falls in between.
            follow.arm().await?;
            Some(follow)
        } else {
            None
        };
        Ok(LogStream { target, reader: Some(reader), follow, closing })
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            // First the pod, then the files: what it wrote before its end is there by then.
            let over = self.follow.is_none() || self.target.is_over();
            let mut reader = self.reader.take()?;
            let (step, reader) = match read(move || (reader.step(), reader)).await {
                Ok(done) => done,
                Err(e) => return Some(Err(e)),
            };
            match step {
                Ok(Step::Text(text)) => {
                    self.reader = Some(reader);
                    return Some(Ok(text));
                }
                Ok(Step::End) if over => return finish(reader),
                Ok(Step::End) => {
                    let reader = self.reader.insert(reader);
                    match Self::wait(self.follow.as_mut()?, &self.target, &mut self.closing).await {
                        Ok(true) => {}
                        Ok(false) => {
                            let rest = reader.finish();
                            self.reader = None;
                            return (!rest.is_empty()).then_some(Ok(rest));
                        }
                        Err(e) => {
                            self.reader = None;
                            return Some(Err(e));
                        }
                    }
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }

    /// Waits for a reason to look again; false if the agent stops.
    async fn wait(follow: &mut Follow, target: &Target, closing: &mut Closing) -> io::Result<bool> {
        if follow.arm().await? {
            return Ok(true);
        }
        let Some(files) = &mut follow.files else { return Ok(false) };
        // Every arm may be dropped at any time: each is a wait for a state that the next look finds by itself.
        tokio::select! {
            () = closing.wait() => return Ok(false),
            changed = files.changed() => changed?,
            changed = follow.pods.next() => if changed.is_err() {
                // Too far behind: only the present state matters here.
                follow.pods = watch_pods(&target.store);
            },
        }
        Ok(true)
    }
}

impl Follow {
    /// Watches the directory, or what is there of its parents; whether that is new. In the file system of the logs, so not here.
    async fn arm(&mut self) -> io::Result<bool> {
        if self.files.as_ref().is_none_or(DirWatch::is_armed) {
            return Ok(false);
        }
        let Some(mut files) = self.files.take() else { return Ok(false) };
        let (armed, files) = read(move || (files.arm(), files)).await?;
        self.files = Some(files);
        armed
    }
}

fn finish(mut reader: LogReader) -> Option<io::Result<Vec<u8>>> {
    let rest = reader.finish();
    (!rest.is_empty()).then_some(Ok(rest))
}

fn watch_pods(store: &Store) -> Watcher {
    store.watch(Collection::Objects(podwright_core::objects::Kind::Pod), store.version())
}

impl Target {
    /// Whether no instance of the container will run under this pod any more.
    fn is_over(&self) -> bool {
        let Some(pod) = self.store.pod(&self.pod.namespace, &self.pod.name, true) else { return true };
        if pod.key.uid != self.pod.uid || pod.ended_at.is_some() {
            return true;
        }
        serde_json::from_str(&pod.object).is_ok_and(|object: Value| has_run_for_the_last_time(&object, &self.container))
    }
}

/// Whether the pod's status says that the container will not run again: the pod is terminal, or the container has ended
/// in a way after which its restart policy leaves it (a plain init counts as `OnFailure` under `Always`).
fn has_run_for_the_last_time(pod: &Value, container: &str) -> bool {
    let text = |v: &Value, path: &str| v.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    if matches!(text(pod, "/status/phase").as_str(), "Succeeded" | "Failed") {
        return true;
    }
    let named = |list: &str| {
        let items = pod.pointer(list).and_then(Value::as_array);
        items.into_iter().flatten().find(|c| text(c, "/name") == container)
    };
    let init = named("/spec/initContainers");
    let status = named("/status/containerStatuses").or_else(|| named("/status/initContainerStatuses"));
    let Some(code) = status.and_then(|s| s.pointer("/state/terminated/exitCode")).and_then(Value::as_i64) else {
        return false;
    };
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        return true;
    }
    let policy = text(pod, "/spec/restartPolicy");
    match init {
        Some(init) if text(init, "/restartPolicy") == "Always" => false,
        Some(_) => code == 0 || policy == "Never",
        None => policy == "Never" || (policy == "OnFailure" && code == 0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn over(policy: &str, phase: &str, container: &str, code: Option<i64>) -> bool {
        let state = code.map_or(json!({"running": {}}), |c| json!({"terminated": {"exitCode": c}}));
        let status = |name: &str| json!({"name": name, "state": if name == container { state.clone() } else { json!({"running": {}}) }});
        let pod = json!({
            "metadata": {},
            "spec": {"restartPolicy": policy, "containers": [{"name": "main"}],
                     "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}]},
            "status": {"phase": phase, "containerStatuses": [status("main")],
                       "initContainerStatuses": [status("init"), status("side")]},
        });
        has_run_for_the_last_time(&pod, container)
    }

    #[test]
    fn the_end_of_a_log() {
        for (policy, container, code, expected) in [
            ("Always", "main", Some(0), false),
            ("Always", "main", None, false),
            ("OnFailure", "main", Some(0), true),
            ("OnFailure", "main", Some(1), false),
            ("Never", "main", Some(1), true),
            ("Never", "side", Some(0), false),
            ("Always", "init", Some(0), true),
            ("Always", "init", Some(1), false),
            ("Never", "init", Some(1), true),
            ("Never", "init", None, false),
        ] {
            assert_eq!(over(policy, "Running", container, code), expected, "{policy} {container} {code:?}");
            assert!(over(policy, "Failed", container, code));
        }
    }
}
