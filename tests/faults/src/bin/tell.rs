//! `tell KEY [run=SECONDS] [codes=N,...]`: what the containers of the bed run. It tells the truth about itself in `/truth/KEY`, which no fault
//! reaches: a line when it starts, and one right before it leaves.
//!
//! It leaves after `run` seconds (never, if there are none) with the code of its turn, the last of which repeats, or on SIGTERM with 0. The
//! index of a job's pod is part of the key.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use podwright_faults::truth::{self, Line};

/// For a call that cannot be understood or carried out; no scenario uses it.
const EXIT_USAGE: u8 = 120;

fn main() -> ExitCode {
    match tell(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("tell: {message}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn tell(words: &[String]) -> Result<u8, String> {
    let (key, rest) = words.split_first().ok_or("expected KEY [run=SECONDS] [codes=N,...]")?;
    let (mut run, mut codes) = (None, vec![0]);
    for word in rest {
        match word.split_once('=') {
            Some(("run", value)) => {
                let seconds = value.parse().map_err(|_| format!("{word}: expected seconds"))?;
                run = Some(Duration::try_from_secs_f64(seconds).map_err(|e| format!("{word}: {e}"))?);
            }
            Some(("codes", value)) => {
                let parsed: Result<Vec<u8>, _> = value.split(',').map(str::parse).collect();
                codes = parsed.map_err(|_| format!("{word}: expected exit codes"))?;
            }
            _ => return Err(format!("{word}: expected run=SECONDS or codes=N,...")),
        }
    }
    let index = std::env::var("JOB_COMPLETION_INDEX").ok();
    let path = truth::DIRECTORY_INSIDE.to_owned() + "/" + &truth::key(key, index.as_deref());
    let (mut stop, pipe) = UnixStream::pair().map_err(|e| format!("socketpair: {e}"))?;
    signal_hook::low_level::pipe::register(15, pipe).map_err(|e| format!("SIGTERM: {e}"))?;
    let started = podwright_cases::host::boot_ns();
    let turn = truth::starts(&fs::read_to_string(&path).unwrap_or_default());
    write(&path, &Line::Start { at: started })?;
    stop.set_read_timeout(run.map(|run| run.max(Duration::from_millis(1)))).map_err(|e| format!("socketpair: {e}"))?;
    let code = loop {
        match stop.read(&mut [0]) {
            Ok(_) => break 0,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break codes.get(turn).or(codes.last()).copied().unwrap_or(0),
        }
    };
    write(&path, &Line::Exit { started, at: podwright_cases::host::boot_ns(), code: code.into() })?;
    Ok(code)
}

/// One write(2), so that lines of several processes do not mix.
fn write(path: &str, line: &Line) -> Result<(), String> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).map_err(|e| format!("{path}: {e}"))
}
