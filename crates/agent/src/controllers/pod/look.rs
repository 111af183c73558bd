//! What a pod's controller hands out to who asks why.

use podwright_core::pod::Machine;
use podwright_core::pod::spec::PodSpec;

use crate::node::records::Records;
use crate::state::object::Kept;

/// All that it knows.
#[derive(Debug)]
pub struct Snapshot {
    /// What is kept of the pod.
    pub kept: Kept<PodSpec>,
    /// The state machine.
    pub machine: Machine,
    /// What the pod's shim has told and the disk may not have.
    pub told: Records,
}
