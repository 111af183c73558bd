//! The container itself: starts, listens, waits for its time or its stop signal, leaves.

use std::hint::black_box;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use signal_hook::low_level::pipe;

use crate::args::{Args, seconds, size};
use crate::instance;
use crate::line::{Events, boot_ns};
use crate::serve::{Server, Service};

/// Number of the first real-time signal that is free for programs (glibc keeps 32 and 33 for itself).
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// What the stop signal does.
#[derive(Debug, PartialEq)]
enum OnStop {
    /// `term`, and this long after it `bye`; `None`: it never leaves by itself.
    Leave(Option<Duration>),
    /// `term`, and on it goes.
    Ignore,
    /// There is no handler.
    Default,
}

/// `act KEY=VALUE...`; returns the exit status.
pub(crate) fn run(args: &Args) -> Result<u8, String> {
    let n = instance::count(args)?;
    let life = args.time("run", n, None)?;
    let (exit, code) = (args.code("exit", n)?, args.code("code", n)?);
    let on_stop = on_stop(args.get("term", n).unwrap_or("0"))?;
    let memory = args.get("mem", n).map(size).transpose()?;
    let listen = args.time("listen", n, Some(Duration::ZERO))?;
    let mut server = args.get("serve", n).map(str::parse::<Service>).transpose()?.map(Server::new);
    let mut stops = listen_for_stop(args.get("sig", n).unwrap_or("TERM"), &on_stop)?;
    reap_children()?;

    let begin = Instant::now();
    if listen == Some(Duration::ZERO) {
        server.take().map_or(Ok(()), Server::listen)?;
    }
    let events = Events::own().map_err(|e| format!("stdout: {e}"))?;
    let started = boot_ns();
    let announced = instance::announce_start(started)?;
    events.write_at(started, "started", &[]);
    let kept = memory.map(|bytes| vec![1_u8; bytes]);

    let mut end = life.map(|life| (begin + life, exit));
    let mut stopping = false;
    loop {
        let listen_at = if server.is_some() { listen.map(|s| begin + s) } else { None };
        let next = [end.map(|(at, _)| at), listen_at].into_iter().flatten().min();
        if wait_for_stop(&mut stops, next)? {
            events.write("term", &[]);
            if let (OnStop::Leave(delay), false) = (&on_stop, stopping) {
                stopping = true;
                end = delay.map(|delay| (Instant::now() + delay, code));
            }
        }
        let now = Instant::now();
        if let Some((at, status)) = end
            && now >= at
        {
            events.write("bye", &[]);
            black_box((&kept, &announced));
            return Ok(status);
        }
        if listen_at.is_some_and(|at| now >= at) {
            server.take().map_or(Ok(()), Server::listen)?;
        }
    }
}

fn on_stop(text: &str) -> Result<OnStop, String> {
    match text {
        "ignore" => Ok(OnStop::Ignore),
        "none" => Ok(OnStop::Default),
        text => seconds(text).map(OnStop::Leave),
    }
}

/// A stream that gets one byte per stop signal. With a stop signal of its own, TERM is taken and nothing is made of it.
fn listen_for_stop(name: &str, on_stop: &OnStop) -> Result<UnixStream, String> {
    let stop = signal_number(name)?;
    let (read, write) = UnixStream::pair().map_err(|e| format!("socketpair: {e}"))?;
    let register = |signal, to: UnixStream| pipe::register(signal, to).map_err(|e| format!("signal {signal}: {e}"));
    if stop != Signal::SIGTERM as i32 {
        let (_, nowhere) = UnixStream::pair().map_err(|e| format!("socketpair: {e}"))?;
        register(Signal::SIGTERM as i32, nowhere)?;
    }
    if *on_stop == OnStop::Default {
        // Kept open, so that waiting on `read` waits.
        std::mem::forget(write);
    } else {
        register(stop, write)?;
    }
    Ok(read)
}

/// The number of `USR1`, `RTMIN+3`, …
fn signal_number(name: &str) -> Result<i32, String> {
    let real_time = name
        .strip_prefix("RTMIN")
        .map(|rest| (SIGRTMIN, rest))
        .or_else(|| name.strip_prefix("RTMAX").map(|rest| (SIGRTMAX, rest)));
    let number = match real_time {
        Some((base, "")) => Some(base),
        Some((base, rest)) => rest.parse::<i32>().ok().map(|offset| base + offset),
        None => Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32),
    };
    number.filter(|n| (1..=SIGRTMAX).contains(n)).ok_or_else(|| format!("{name:?} is no signal"))
}

/// Waits for a stop signal until `next`; whether one came.
fn wait_for_stop(stops: &mut UnixStream, next: Option<Instant>) -> Result<bool, String> {
    let left = next.map(|next| next.saturating_duration_since(Instant::now()));
    if left == Some(Duration::ZERO) {
        return Ok(false);
    }
    stops.set_read_timeout(left).map_err(|e| format!("socketpair: {e}"))?;
    match stops.read(&mut [0]) {
        Ok(count) => Ok(count > 0),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(false),
        Err(e) => Err(format!("socketpair: {e}")),
    }
}

/// Process 1 of a container inherits every orphan in it and has to wait for them.
fn reap_children() -> Result<(), String> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let (mut read, write) = UnixStream::pair().map_err(|e| format!("socketpair: {e}"))?;
    pipe::register(Signal::SIGCHLD as i32, write).map_err(|e| format!("SIGCHLD: {e}"))?;
    let reap = move || {
        while read.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
            while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
        }
    };
    thread::Builder::new().stack_size(64 << 10).spawn(reap).map(|_| ()).map_err(|e| format!("thread: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name() {
        assert_eq!(signal_number("TERM"), Ok(15));
        assert_eq!(signal_number("USR1"), Ok(10));
        assert_eq!(signal_number("RTMIN+3"), Ok(37));
        assert_eq!(signal_number("RTMAX-1"), Ok(63));
        assert!(signal_number("SOON").is_err() && signal_number("RTMAX+1").is_err());
    }

    #[test]
    fn what_the_stop_signal_does() {
        assert_eq!(on_stop("1.5"), Ok(OnStop::Leave(Some(Duration::from_millis(1500)))));
        assert_eq!(on_stop("inf"), Ok(OnStop::Leave(None)));
        assert_eq!(on_stop("ignore"), Ok(OnStop::Ignore));
        assert_eq!(on_stop("none"), Ok(OnStop::Default));
        assert!(on_stop("later").is_err());
    }
}
