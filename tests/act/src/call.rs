//! Hooks and probes: commands that the agent runs inside the container.

use std::thread::{park, sleep};
use std::time::Duration;

use crate::args::Args;
use crate::instance;
use crate::line::Events;

/// `act hook pre|post`: `_begin`, the time it takes, `_end`, its exit status.
pub(crate) fn hook(kind: &str, args: &Args) -> Result<u8, String> {
    let (events, n) = (events()?, instance::read(args)?);
    let (run, code) = (args.time("run", n, Some(Duration::ZERO))?, args.code("exit", n)?);
    events.write(&format!("{kind}_begin"), &[]);
    pass(run);
    events.write(&format!("{kind}_end"), &[]);
    Ok(code)
}

/// `act probe KIND`: fails while process 1 is younger than `up`, and again once it is `until` old. The event is written
/// before the time it takes, so that a probe that is killed at its timeout is counted too.
pub(crate) fn probe(kind: &str, args: &Args) -> Result<u8, String> {
    let (events, n) = (events()?, instance::read(args)?);
    let up = args.time("up", n, Some(Duration::ZERO))?;
    let (until, run) = (args.time("until", n, None)?, args.time("run", n, Some(Duration::ZERO))?);
    let age = instance::process_1_age()?;
    let ok = up.is_some_and(|up| age >= up) && until.is_none_or(|until| age < until);
    events.write("probe", &[("kind", kind), ("ok", if ok { "true" } else { "false" })]);
    pass(run);
    Ok(u8::from(!ok))
}

fn events() -> Result<Events, String> {
    Events::of_process_1().map_err(|e| format!("/proc/1/fd/1: {e}"))
}

/// Lets a time pass; `None`: for ever.
fn pass(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time),
        None => loop {
            park();
        },
    }
}
