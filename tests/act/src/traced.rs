//! `act traced`: makes its parent its tracer, which needs no privilege, and lets a signal stop it for that tracer.

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

use crate::args::Args;
use crate::line::Events;

/// Leaves with the status `exit`, once somebody has had it go on after the signal `sig`.
pub(crate) fn traced(args: &Args) -> Result<u8, String> {
    let name = args.get("sig", 1).unwrap_or("CHLD");
    let signal: Signal = format!("SIG{name}").parse().map_err(|_| format!("sig={name}: no such signal"))?;
    let events = Events::own().map_err(|error| error.to_string())?;
    ptrace::traceme().map_err(|errno| format!("cannot be traced: {errno}"))?;
    events.write("started", &[]);
    raise(signal).map_err(|errno| format!("cannot raise {signal}: {errno}"))?;
    events.write("bye", &[]);
    args.code("exit", 1)
}
