//! What every task of the agent shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use podwright_core::bundle::NodeFacts;
use podwright_core::pod::NodePolicy;
use podwright_core::pod::backoff::Curve;
use podwright_image::BundleStore;
use podwright_sys::cgroup::Cgroup;
use tokio::sync::watch;

use crate::aside::Aside;
use crate::clock::Clock;
use crate::config::{Fixed, Live};
use crate::node::shim::ShimBinary;
use crate::paths::Paths;
use crate::status::Store;
use crate::storage::Storage;

/// The places for calls on paths that a manifest or a bundle names.
#[derive(Debug)]
pub struct Asides {
    /// Looks at `hostPath` volumes.
    pub host_paths: Aside,
    /// Looks at bundles and runtimes.
    pub bundles: Aside,
    /// Removes what is left of sandboxes, whose processes may be held by a file system.
    pub removals: Aside,
}

impl Asides {
    /// Each with as many threads as are no burden when all of them hang.
    pub fn new(store: &Store, clock: &Arc<Clock>) -> Asides {
        let place = |what| Aside::new(what, 64, store.clone(), Arc::clone(clock));
        Asides {
            host_paths: place("hostPath volumes"),
            bundles: place("bundles"),
            // What has written millions of files takes its time to go.
            removals: place("sandboxes").patient(Duration::from_secs(60)),
        }
    }
}

/// What every task shares.
#[derive(Debug)]
pub struct Context {
    /// Time.
    pub clock: Arc<Clock>,
    /// Directories.
    pub paths: Paths,
    /// Settings that do not change.
    pub fixed: Fixed,
    /// Settings that do.
    pub live: watch::Receiver<Live>,
    /// Where status and events go.
    pub store: Store,
    /// Where what is to survive the agent goes.
    pub storage: Arc<Storage>,
    /// Bundles by image name.
    pub bundles: BundleStore,
    /// The shim.
    pub shim: ShimBinary,
    /// All pods' cgroup.
    pub cgroup_root: Cgroup,
    /// Where the cgroup v2 file system is mounted.
    pub cgroup_mount: PathBuf,
    /// Those of cpu, memory and pids that pods' cgroups have.
    pub controllers: Vec<&'static str>,
    /// What OCI specs depend on.
    pub node: NodeFacts,
    /// The node's host name.
    pub host_name: String,
    /// The node's addresses, the first one for pods in its network.
    pub host_ips: Vec<String>,
    /// Where calls are made that may not return.
    pub asides: Asides,
    /// The node's time zone, for schedules without one.
    pub time_zone: TimeZone,
}

impl Context {
    /// What the node sets for all its pods, now.
    pub fn policy(&self) -> NodePolicy {
        let live = self.live.borrow();
        NodePolicy {
            start_gate: live.sidecar_start_gate,
            crash_backoff: Curve { initial: live.back_off_initial, max: live.back_off_max },
            host_ips: self.host_ips.clone(),
        }
    }

    /// Whether pods' cgroups have this controller.
    pub fn controls(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }
}
