//! The way into a container: what a process does from its namespaces to its program, as data ([`Step`]), and what does it
//! ([`apply()`]).
//!
//! Two come this way. The runtime makes the container's first process and those of `exec`, with more steps around these; the
//! shim makes the processes of probes and hooks ([`spawn()`]) as the runtime has written down for it ([`Entry`]).

mod apply;
mod entry;
mod error;
mod program;
mod root;
mod spawn;
mod step;

pub use apply::{Context, apply, set_groups};
pub use entry::{Entry, FILE, VERSION};
pub use error::StepError;
pub use program::{Passed, Program};
pub use root::own_root;
pub use spawn::{EnterError, Entered, Target, spawn};
pub use step::{Step, rlimit_name};
