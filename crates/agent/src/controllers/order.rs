//! What controllers ask of the registry. None of it is lost while the agent lives.

use podwright_core::manifest::Resource;
use podwright_core::objects::{Identity, OwnerReference};
use tokio::sync::{mpsc, oneshot};

use super::frame::Recorded;

/// Where orders go.
pub type Orders = mpsc::UnboundedSender<Order>;

/// Tells an owner the name of an object of its, and what is seen of it.
pub type Tell<T> = Box<dyn Fn(String, T) + Send>;

/// What a controller asks for.
#[derive(Debug)]
pub enum Order {
    /// Make an object, unless it is there.
    Create {
        /// Whose it is.
        owner: OwnerReference,
        /// The object.
        object: Resource,
        /// Answered when it would survive a power cut, or why there is none. Without it whoever owns a pod is told, and the pod is on
        /// disk before anything of it starts.
        reply: Option<oneshot::Sender<Result<(), String>>>,
    },
    /// Stop and remove an object.
    Delete {
        /// Which.
        identity: Identity,
        /// Why its owner does not want it any more, for people.
        why: &'static str,
        /// Told when that would survive a power cut, or why it does not yet. Dropped: there is none.
        recorded: Option<Recorded>,
    },
    /// These pods are over, and that is written down in their job: they need not be kept for it.
    Counted {
        /// Whose.
        owner: OwnerReference,
        /// Which.
        pods: Vec<Identity>,
    },
    /// An object's time after its end is over.
    Expired {
        /// Which.
        identity: Identity,
        /// Its uid.
        uid: String,
    },
    /// The end of a pod is on disk, which had refused it.
    EndSaved {
        /// Of the pod.
        uid: String,
    },
}
