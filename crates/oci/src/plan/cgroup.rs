//! The cgroup of a container as a plan.

use podwright_sys::device;

use super::error::PlanError;
use super::place::Place;
use super::write::{Absent, Write};

/// The container's cgroup and what is written there before the first process enters it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupPlan {
    /// Which one it is.
    pub place: Place,
    /// Controllers that the writes need, without repetition.
    pub controllers: Vec<String>,
    /// Whether the container may make cgroups of its own in there, and so gets every controller.
    pub open: bool,
    /// What to write, in order.
    pub writes: Vec<Write>,
    /// Nothing is written when the processes use more memory than this many bytes (`checkBeforeUpdate`).
    pub memory_check: Option<u64>,
    /// Device rules; empty: no program is attached.
    pub devices: Vec<device::Rule>,
}

impl CgroupPlan {
    pub(super) fn set(&mut self, file: &str, value: impl ToString) {
        self.set_or(file, value, Absent::Fail);
    }

    pub(super) fn set_or(&mut self, file: &str, value: impl ToString, absent: Absent) {
        let controller = file.split('.').next().unwrap_or(file);
        if controller != "cgroup" && !self.controllers.iter().any(|known| known == controller) {
            self.controllers.push(controller.to_owned());
        }
        self.writes.push(Write { file: file.to_owned(), value: value.to_string(), absent });
    }
}

/// What cgroup v2 lacks.
pub(super) fn not_on_v2(field: &str) -> PlanError {
    PlanError::new(format!("linux.resources.{field}"), "does not exist on cgroup v2; remove it")
}
