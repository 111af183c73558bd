//! `podwright-shim SANDBOX.json`: the sandbox of one pod. Started by the agent with a listening socket as standard input.
//!
//! It ends by `Shutdown`, or by SIGKILL (then the kernel takes namespaces and mounts, and the agent the rest). Other
//! signals that ask a daemon to leave do nothing: a stop of the service must not stop the pods.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use podwright_proto::{Event, SandboxConfig, VERSION};
use podwright_sys::error::chain;
use podwright_sys::own::{MAX_STATE, read_regular};
use podwright_sys::{child, printable};

mod clock;
mod connection;
mod direct_exec;
mod event_loop;
mod evidence;
mod execs;
mod execute;
mod log;
mod message;
mod records;
mod runtime;
mod sandbox;
mod site;
mod stdio;

/// How long a shim that could not make its sandbox waits for the agent to come and hear why.
const FAILURE_WAIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // Commands enter containers as copies of this process: nobody there may look into them (see `podwright_inside::spawn`).
    if let Err(errno) = nix::sys::prctl::set_dumpable(false) {
        return outcome(Err(format!("cannot be hidden from containers: {errno}").into()));
    }
    // It was executed from a descriptor. A name is no reason to fail.
    child::set_name(c"podwright-shim").unwrap_or(());
    child::keep_heap_small();
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.as_slice() {
        [flag, layer] if flag == execute::REMOVE_FLAG => {
            outcome(podwright_sys::tree::remove(Path::new(layer)).map_err(Into::into))
        }
        [config] => outcome(run(Path::new(config))),
        _ => outcome(Err("usage: podwright-shim SANDBOX.json, with a listening Unix socket as standard input".into())),
    }
}

fn outcome(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// How long `shim.log` gets, bytes, before it begins anew: it is in the run directory, the node's memory.
const MAX_LOG: u64 = 64 << 10;

/// Says something on stderr, which is the agent's: one line, whatever names of files or a runtime's words are in it.
fn say(text: impl std::fmt::Display) {
    let text = format!("podwright-shim: {text}");
    podwright_sys::stdio::bound_stderr(MAX_LOG);
    // Nobody hears that nobody hears.
    podwright_sys::stdio::say(format_args!("{}", printable::line(&text)));
}

fn run(path: &Path) -> Result<(), Box<dyn Error>> {
    let listener = take_listener()?;
    // Some kernels lack it; then what the agent left open stays open.
    child::close_on_exec_from(3).unwrap_or(());
    // Out of reach of the keys of a terminal that the agent may run on. EPERM: the agent has seen to that already.
    match nix::unistd::setsid() {
        Ok(_) | Err(nix::Error::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let config = read_config(path)?;
    let signals = child::watch_signals(&event_loop::SIGNALS)?;
    if let Err(error) = sandbox::enter(&config) {
        tell_failure(&listener, chain(&error))?;
        return Err(error.into());
    }
    event_loop::run(config, listener, signals)
}

/// The socket leaves standard input, which becomes /dev/null: no child may hold it, since refused connections are how
/// the agent knows that a shim is gone.
fn take_listener() -> std::io::Result<UnixListener> {
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn read_config(path: &Path) -> Result<SandboxConfig, Box<dyn Error>> {
    let text = read_regular(path, MAX_STATE).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let config: SandboxConfig =
        serde_json::from_slice(&text).map_err(|error| format!("cannot understand {}: {error}", path.display()))?;
    if config.version != VERSION {
        let found = config.version;
        return Err(format!("{} has version {found}; this shim understands {VERSION}", path.display()).into());
    }
    Ok(config)
}

fn tell_failure(listener: &UnixListener, message: String) -> Result<(), Box<dyn Error>> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let wait = PollTimeout::try_from(FAILURE_WAIT)?;
    if poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], wait)? > 0 {
        let (stream, _) = listener.accept()?;
        serde_json::to_writer(&stream, &Event::Failed { message })?;
        std::io::Write::write_all(&mut &stream, b"\n")?;
    }
    Ok(())
}
