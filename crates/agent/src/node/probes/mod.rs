//! Probes that the agent tries itself: `httpGet`, `tcpSocket` and `grpc`, and the requests of hooks. What is run in a container
//! is the shim's.
//!
//! The pod's own network has nothing but its loopback, so the agent's sockets are opened inside it: a container that serves
//! on 127.0.0.1 or on all addresses is reached either way. The rules are the kubelet's (`pkg/probe`).

mod grpc;
mod http;
mod paced;
mod socket;
mod target;
mod tls;

pub use target::Target;

use std::sync::Arc;

use podwright_core::manifest::PodDocument;
use podwright_core::pod::observe::ProbeOutcome;
use podwright_core::pod::plan::Notice;
use podwright_core::pod::spec::{HttpGet, Probe, ProbeAction};

use crate::context::Context;
use crate::status::of_pod;

/// Most of what a server has said that is told of it, bytes: as much as of a command's output.
const MAX_TEXT: usize = 10 * 1024;

/// Where warnings of a probe go: an event `ProbeWarning`.
pub struct Warn {
    /// Everybody's.
    pub ctx: Arc<Context>,
    /// The pod.
    pub document: Arc<PodDocument>,
    /// Index of the container.
    pub container: usize,
}

impl Warn {
    fn tell(&self, message: String) {
        let notice = Notice { warning: true, reason: "ProbeWarning", message, container: Some(self.container) };
        self.ctx.store.record_event(of_pod::event(&self.document.spec, &notice, self.ctx.clock.now()));
    }
}

/// Tries once. `address` is where the pod is found, `pid` a process in its network; `None`: the host's.
pub async fn run(probe: &Probe, address: &str, pid: Option<i32>, warn: &Warn) -> ProbeOutcome {
    let attempt = async {
        match &probe.action {
            ProbeAction::Exec { .. } => ProbeOutcome::Error("the shim runs exec probes".to_owned()),
            ProbeAction::TcpSocket { host, port } => {
                let host = host.as_deref().unwrap_or(address);
                match socket::connect(host, *port, pid).await {
                    Ok(_stream) => ProbeOutcome::Success,
                    Err(error) => {
                        let to = target::authority(host, *port);
                        ProbeOutcome::Failure(format!("dial tcp {to}: {error}"))
                    }
                }
            }
            ProbeAction::Grpc { port, service } => match grpc::check(address, *port, service, pid).await {
                Ok(()) => ProbeOutcome::Success,
                Err(failure) => ProbeOutcome::Failure(failure),
            },
            ProbeAction::HttpGet(HttpGet { scheme, host, port, path, headers }) => {
                let host = host.clone().unwrap_or_else(|| address.to_owned());
                let target = Target { scheme: scheme.clone(), host, port: *port, path: path.clone() };
                match http::get(target, headers, pid).await {
                    Ok(http::Verdict::Good) => ProbeOutcome::Success,
                    Ok(http::Verdict::GoodBut(message)) => {
                        warn.tell(bounded(message));
                        ProbeOutcome::Success
                    }
                    Ok(http::Verdict::Bad(message)) => ProbeOutcome::Failure(message),
                    Err(message) => ProbeOutcome::Error(message),
                }
            }
        }
    };
    let outcome = tokio::time::timeout(probe.timeout, attempt)
        .await
        .unwrap_or_else(|_| ProbeOutcome::Failure(format!("no answer within {:?}", probe.timeout)));
    match outcome {
        ProbeOutcome::Failure(why) => ProbeOutcome::Failure(bounded(why)),
        ProbeOutcome::Error(why) => ProbeOutcome::Error(bounded(why)),
        other => other,
    }
}

/// Makes the request of a hook, however long that takes. Any answer will do.
///
/// # Errors
/// That there was no answer, and why, for people.
pub async fn hook(target: Target, headers: &[(String, String)], pid: Option<i32>) -> Result<(), String> {
    http::hook(target, headers, pid).await.map_err(bounded)
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}
