//! What has to be known of a pod after a restart of the agent, besides the records of its instances.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::observe::{Deletion, Observed};
use crate::objects::DurableState;
use crate::time::Time;

/// What outlives the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    /// When this run of it was accepted.
    pub accepted_at: Time,
    /// Sandboxes of earlier runs have smaller numbers.
    pub first_sandbox: u32,
    /// Sandboxes with smaller numbers are to be replaced (`podwright restart`).
    pub restart_below: u32,
    /// When that was asked for.
    pub restart_at: Option<Time>,
    /// The request to remove it.
    pub deletion: Option<Deletion>,
    /// A volume over its limit: when, and the message.
    pub evicted: Option<(Time, String)>,
    /// Set when it will never do anything again.
    pub ended: Option<Ended>,
}

/// The end of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// When it ended.
    pub at: Time,
    /// Its last `v1.PodStatus`.
    pub status: Value,
    /// A main was told to stop before it ended.
    pub stopped: bool,
    /// It is no longer wanted by any file (or was deleted by hand): not listed, but readable.
    pub archived: bool,
}

impl PodState {
    /// A pod that was just accepted.
    pub fn new(now: Time) -> PodState {
        PodState {
            accepted_at: now,
            first_sandbox: 1,
            restart_below: 0,
            restart_at: None,
            deletion: None,
            evicted: None,
            ended: None,
        }
    }

    /// Takes over what of an observation has to be kept.
    pub fn follow(&mut self, observed: &Observed) {
        self.accepted_at = observed.accepted_at;
        self.first_sandbox = observed.first_sandbox;
        self.restart_below = observed.restart_below;
        self.restart_at = observed.restart_at;
        self.deletion.clone_from(&observed.deletion);
        self.evicted.clone_from(&observed.evicted);
    }
}

impl DurableState for PodState {
    fn shift(&mut self, shift_ns: i64, _now: Time) {
        let move_ = |time: &mut Time| time.0 = time.0.saturating_add(shift_ns);
        move_(&mut self.accepted_at);
        self.restart_at.iter_mut().for_each(move_);
        if let Some(deletion) = &mut self.deletion {
            move_(&mut deletion.requested_at);
            move_(&mut deletion.deadline);
        }
        self.evicted.iter_mut().for_each(|(at, _)| move_(at));
        self.ended.iter_mut().for_each(|ended| move_(&mut ended.at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Asker, Cause};

    /// All of its moments are 1.
    fn full() -> PodState {
        let cause = Cause { by: Asker::Owner, text: "it is suspended".into() };
        PodState {
            restart_at: Some(Time(1)),
            deletion: Some(Deletion { cause, requested_at: Time(1), deadline: Time(1) }),
            evicted: Some((Time(1), "full".into())),
            ended: Some(Ended {
                at: Time(1),
                status: serde_json::json!({"phase": "Failed"}),
                stopped: true,
                archived: true,
            }),
            ..PodState::new(Time(1))
        }
    }

    #[test]
    fn it_reads_back_and_every_moment_is_moved() {
        let mut state = full();
        state.shift(41, Time(0));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(text.matches(":42").count() + text.matches("[42,").count(), 6, "{text}");
        assert!(text.contains("\"by\":\"owner\""), "{text}");
        assert_eq!(serde_json::from_str::<PodState>(&text).unwrap(), state);
    }
}
