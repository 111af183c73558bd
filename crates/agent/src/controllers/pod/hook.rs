//! Lifecycle hooks in the terms of others: the shim's, and of those that make requests.

use podwright_core::pod::observe::HookKind;
use podwright_core::pod::spec::{Hook, HttpGet, PodSpec};
use podwright_proto as proto;

use crate::node::probes::Target;

/// A hook of a container.
pub(crate) fn of(spec: &PodSpec, container: usize, kind: HookKind) -> Option<&Hook> {
    let lifecycle = &spec.containers.get(container)?.lifecycle;
    match kind {
        HookKind::PostStart => lifecycle.post_start.as_ref(),
        HookKind::PreStop => lifecycle.pre_stop.as_ref(),
    }
}

/// In the shim's terms.
pub(crate) fn wire(kind: HookKind) -> proto::HookKind {
    match kind {
        HookKind::PostStart => proto::HookKind::PostStart,
        HookKind::PreStop => proto::HookKind::PreStop,
    }
}

/// Where a hook's request goes; `address` is the pod's.
pub(crate) fn target(get: &HttpGet, address: String) -> Target {
    let HttpGet { scheme, host, port, path, .. } = get.clone();
    Target { scheme, host: host.unwrap_or(address), port, path }
}
