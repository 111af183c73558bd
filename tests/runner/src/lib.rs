//! Behaviour cases: data in `tests/cases`, run against a real `podwrightd` with real processes.
//!
//! [`case`] reads and checks the files, [`run`] carries the steps out and records what happened as a
//! [`recording::Recording`], [`judge`] says which expectations hold for it. Judging is a pure function, so a recording
//! can be kept, changed and judged again.

pub mod agent;
pub mod case;
pub mod contradict;
pub mod directory;
pub mod grammar;
pub mod host;
pub mod http;
pub mod judge;
pub mod leftovers;
pub mod live;
pub mod recording;
pub mod report;
pub mod run;
pub mod scope;
pub mod shape;
pub mod watch;
pub mod yaml;
