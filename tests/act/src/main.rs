//! `act`, the actor of the behaviour cases: a container, hook or probe that does what its arguments say and writes one
//! line per event, `@<CLOCK_BOOTTIME ns> EVENT [key=value ...]`. The calls and keys are described in
//! `tests/cases/README.md`.

mod args;
mod call;
mod grpc;
mod instance;
mod line;
mod run;
mod serve;
mod spy;
mod traced;

use std::process::ExitCode;

use args::{Args, HOOK_KEYS, PROBE_KEYS, RUN_KEYS, SPY_KEYS, TRACED_KEYS};

const USAGE: &str = "\
act KEY=VALUE...                                  run, exit, term, code, sig, mem, serve, listen
act hook pre|post KEY=VALUE...                    run, exit
act probe startup|readiness|liveness KEY=VALUE... up, until, run
act spy KEY=VALUE                                 slow, for
act traced KEY=VALUE...                           sig, exit";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("act: {message}\n{USAGE}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Exit status for a call that `act` does not understand or cannot carry out; no case uses it for anything else.
const EXIT_USAGE: u8 = 120;

fn dispatch(words: &[&str]) -> Result<u8, String> {
    match words {
        ["hook", kind @ ("pre" | "post"), rest @ ..] => call::hook(kind, &Args::parse(rest, HOOK_KEYS)?),
        ["probe", kind @ ("startup" | "readiness" | "liveness"), rest @ ..] => {
            call::probe(kind, &Args::parse(rest, PROBE_KEYS)?)
        }
        ["spy", rest @ ..] => spy::spy(&Args::parse(rest, SPY_KEYS)?),
        ["traced", rest @ ..] => traced::traced(&Args::parse(rest, TRACED_KEYS)?),
        ["hook" | "probe", rest @ ..] => Err(format!("{:?} is no kind of {}", rest.first().unwrap_or(&""), words[0])),
        rest => run::run(&Args::parse(rest, RUN_KEYS)?),
    }
}
