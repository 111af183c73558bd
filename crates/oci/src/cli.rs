//! The command line, as callers of runc and crun know it: docs/runtime.md has the list.

mod args;
mod container;
mod global;
mod help;
mod resources;
mod show;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};
use nix::sys::signal::Signal;

use crate::error::{Error, Result};
use crate::log::{self, Format, Level, Log};
use crate::{OCI_VERSION, example, features, lifecycle};
use args::{flag, only_id, path, require_id, text, usage};
use global::Global;
use podwright_sys::error::chain;

const DEFAULT_ROOT: &str = "/run/podwright-oci";

/// Exit status of an `exec` that did not come to execute its program, as runc's: others may be the program's.
const EXEC_FAILED: u8 = 255;

/// Runs the program; gives its exit status: 0, 1 for an error (255 for `exec`), or the container's own for `run` and `exec`.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    podwright_sys::process::keep_children();
    match command(Parser::from_iter(args)) {
        Ok(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Err((err, status)) => {
            log::error(&chain(&err));
            status
        }
    }
}

/// An error and the exit status that it gives.
type Outcome = std::result::Result<i32, (Error, u8)>;

fn command(mut args: Parser) -> Outcome {
    let mut log = Log::default();
    let parsed = global(&mut args, &mut log);
    log::init(log);
    let (global, name) = match parsed.map_err(|err| (err, 1))? {
        Some(found) => found,
        None => return Ok(0),
    };
    log::debug(|| format!("{name}: podwright-oci {}, --root {}", env!("CARGO_PKG_VERSION"), global.root.display()));
    let failed = if name == "exec" { EXEC_FAILED } else { 1 };
    dispatch(&name, &global, args).map_err(|err| (err, failed))
}

/// Reads the options before the command, and its name; `None` when they have been all.
fn global(args: &mut Parser, log: &mut Log) -> Result<Option<(Global, String)>> {
    let mut global = Global { root: PathBuf::from(DEFAULT_ROOT), systemd: false };
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("root") => {
                global.root = std::path::absolute(path(args)?)
                    .map_err(|err| Error::Usage(format!("--root: the working directory: {err}")))?
            }
            Long("log") => log.file = Some(path(args)?).filter(|path| path != Path::new("")),
            Long("log-format") => {
                log.format = match text(args)?.as_str() {
                    "text" | "" => Format::Text,
                    "json" => Format::Json,
                    other => return Err(Error::Usage(format!("--log-format {other:?}: text or json is accepted"))),
                }
            }
            Long("log-level") => {
                let name = text(args)?;
                log.level = Level::parse(&name).ok_or_else(|| {
                    Error::Usage(format!("--log-level {name:?}: debug, info, warning or error is accepted"))
                })?;
            }
            Long("debug") => {
                if flag(args, "debug")? {
                    log.level = Level::Debug;
                }
            }
            Long("systemd-cgroup") => global.systemd = flag(args, "systemd-cgroup")?,
            // crun's names for the two drivers.
            Long("cgroup-manager") => {
                global.systemd = match text(args)?.as_str() {
                    "systemd" => true,
                    "cgroupfs" => false,
                    other => {
                        return Err(Error::Usage(format!(
                            "--cgroup-manager {other:?}: cgroupfs or systemd is accepted"
                        )));
                    }
                }
            }
            Long("rootless") => rootless(args)?,
            Long("version") | Short('v') => {
                show::line(&format!("podwright-oci version {}\nspec: {OCI_VERSION}", env!("CARGO_PKG_VERSION")))?;
                return Ok(None);
            }
            Long("help") | Short('h') => {
                show::text(help::HELP)?;
                return Ok(None);
            }
            Value(name) => return Ok(Some((global, name.string().map_err(usage)?))),
            other => return Err(usage(other.unexpected())),
        }
    }
    Err(Error::Usage("no command given".into()))
}

/// `--rootless auto|true|false` is about ignored errors of cgroups: this runtime ignores none.
fn rootless(args: &mut Parser) -> Result<()> {
    let value = match args.optional_value() {
        Some(value) => value.string().map_err(usage)?,
        None => text(args)?,
    };
    match value.to_ascii_lowercase().as_str() {
        "auto" | "false" | "0" | "" => Ok(()),
        _ => Err(Error::Usage(format!("--rootless {value:?}: this runtime needs root; auto or false is accepted"))),
    }
}

fn dispatch(name: &str, global: &Global, args: Parser) -> Result<i32> {
    let root = &global.root;
    if matches!(args.clone().next(), Ok(Some(Long("help") | Short('h')))) {
        return show::text(help::HELP).map(|()| 0);
    }
    match name {
        "create" | "run" => return container::create_or_run(name == "run", global, args),
        "exec" => return container::exec(global, args),
        "start" => lifecycle::start(root, &only_id(args)?)?,
        "state" => show::state(&lifecycle::state(root, &only_id(args)?)?)?,
        "kill" => kill(root, args)?,
        "delete" => delete(root, args)?,
        "pause" => lifecycle::pause(root, &only_id(args)?)?,
        "resume" => lifecycle::resume(root, &only_id(args)?)?,
        "list" => show::list(root, args)?,
        "ps" => show::ps(root, args)?,
        "events" => show::events(root, args)?,
        "update" => resources::update(root, args)?,
        "spec" => spec(args)?,
        "features" => {
            args::nothing(args)?;
            show::line(&format!("{:#}", features::features()))?;
        }
        "help" => show::text(help::HELP)?,
        "checkpoint" | "restore" => {
            return Err(Error::Usage(format!("{name}: checkpoints are not supported; use crun or runc with CRIU")));
        }
        other => return Err(Error::Usage(format!("unknown command {other:?}"))),
    }
    Ok(0)
}

fn kill(root: &Path, mut args: Parser) -> Result<()> {
    let (mut all, mut words) = (false, Vec::new());
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("all") | Short('a') => all = flag(&mut args, "all")?,
            Value(word) if words.len() < 2 => words.push(word.string().map_err(usage)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = words.first().map_or("", String::as_str);
    require_id(id)?;
    let signal = words.get(1).map_or(Ok(Signal::SIGTERM as i32), |name| signal_number(name))?;
    lifecycle::kill(root, id, signal, all)
}

/// A signal by number or name, with or without `SIG`. 0 only asks whether there is a process.
fn signal_number(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(Error::Signal(text.into())) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time_signal(name) {
        return Ok(number);
    }
    format!("SIG{name}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| Error::Signal(text.into()))
}

/// `RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`, as the stop signals of images have them.
fn real_time_signal(name: &str) -> Option<i32> {
    let (min, max) = (nix::libc::SIGRTMIN(), nix::libc::SIGRTMAX());
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => min,
        (_, Some("")) => max,
        (Some(offset), _) => min.checked_add(offset.strip_prefix('+')?.parse().ok()?)?,
        (_, Some(offset)) => max.checked_sub(offset.strip_prefix('-')?.parse().ok()?)?,
        _ => return None,
    };
    (min..=max).contains(&number).then_some(number)
}

fn delete(root: &Path, mut args: Parser) -> Result<()> {
    let (mut force, mut id) = (false, String::new());
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("force") | Short('f') => force = flag(&mut args, "force")?,
            Value(word) if id.is_empty() => id = word.string().map_err(usage)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&id)?;
    lifecycle::delete(root, &id, force)
}

fn spec(mut args: Parser) -> Result<()> {
    let (mut bundle, mut rootless) = (PathBuf::from("."), false);
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("bundle") | Short('b') => bundle = path(&mut args)?,
            Long("rootless") => rootless = flag(&mut args, "rootless")?,
            other => return Err(usage(other.unexpected())),
        }
    }
    example::write(&bundle, rootless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let max = nix::libc::SIGRTMAX();
        for (text, number) in [
            ("9", 9),
            ("0", 0),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("usr1", 10),
            ("64", 64),
            ("SIGRTMIN+3", nix::libc::SIGRTMIN() + 3),
            ("rtmax-1", max - 1),
            ("RTMAX", max),
        ] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["65", "-9", "SIGNONE", "", "RTMIN-1", "RTMIN+99", "RTMAX+1", "RTMIN+"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }

    fn code(line: &str) -> Outcome {
        command(Parser::from_iter(line.split(' ').map(OsString::from)))
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "oci",
            "oci frobnicate",
            "oci --log-format xml list",
            "oci --log-level loud list",
            "oci --rootless=true list",
            "oci --debug=maybe list",
            "oci state",
            "oci state a b",
            "oci start --force a",
            "oci kill a 99",
            "oci list --format yaml",
            "oci ps --format yaml a",
            "oci events --interval soon a",
            "oci events --interval 0s a",
            "oci update --memory much a",
            "oci update a b",
            "oci features a",
            "oci checkpoint a",
        ] {
            assert!(matches!(code(line), Err((Error::Usage(_) | Error::Signal(_), 1))), "{line}");
        }
    }

    #[test]
    fn options_take_their_values_as_runc_does() {
        for line in [
            "oci --root /proc/nonexistent state a",
            "oci --root=/proc/nonexistent --debug=false --systemd-cgroup=false --rootless auto state a",
            "oci --root=/proc/nonexistent --rootless=false --log-level error kill -a=true a 9",
            "oci --root=/proc/nonexistent kill a --all TERM",
            "oci --root=/proc/nonexistent delete a",
            "oci --root=/proc/nonexistent pause a",
        ] {
            assert!(matches!(code(line), Err((Error::NotFound(_), 1))), "{line}");
        }
        assert!(matches!(code("oci --root /proc/nonexistent delete a --force"), Ok(0)));
        assert!(matches!(code("oci --root /proc/nonexistent list --format=json"), Ok(0)));
    }
}
