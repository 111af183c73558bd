//! The command line, as callers of runc and crun know it.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};
use nix::sys::signal::Signal;

use crate::error::{Error, Result, chain};
use crate::lifecycle::{self, Command as Exec, CreateOptions, ExecOptions};
use crate::log::{Format, Log};
use crate::{OCI_VERSION, features, protect};

const DEFAULT_ROOT: &str = "/run/podwright-oci";

const HELP: &str = "\
podwright-oci, an OCI runtime for Linux with cgroup v2

podwright-oci [--root DIR] [--log FILE] [--log-format text|json] COMMAND

  create [-b BUNDLE] [--pid-file FILE] [--console-socket SOCKET] [--preserve-fds N] [--no-new-keyring] [--no-pivot] ID
  start ID
  run    as create, and [-d|--detach]
  state ID
  kill [-a|--all] ID [SIGNAL]
  delete [-f|--force] ID
  exec [-p|--process FILE] [-d|--detach] [--pid-file FILE] [-e|--env K=V]... [--cwd DIR] [-u|--user UID[:GID]]
       [--console-socket SOCKET] [--preserve-fds N] ID [COMMAND [ARG]...]
  list [-f|--format table|json] [-q|--quiet]
  features

  --root     where the states of containers are kept [/run/podwright-oci]
  --version  this program's version and the one of runtime-spec
";

/// Runs the program; gives its exit status: 0, 1 for an error, or the container's own for `run` and `exec`.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let mut log = Log::default();
    let result = command(Parser::from_iter(args), &mut log);
    match result {
        Ok(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Err(err) => {
            log.error(&chain(&err));
            1
        }
    }
}

fn usage(err: lexopt::Error) -> Error {
    Error::Usage(err.to_string())
}

fn command(mut args: Parser, log: &mut Log) -> Result<i32> {
    let mut root = PathBuf::from(DEFAULT_ROOT);
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("root") => root = path(&mut args)?,
            Long("log") => log.file = Some(path(&mut args)?),
            Long("log-format") => {
                log.format = match text(&mut args)?.as_str() {
                    "text" => Format::Text,
                    "json" => Format::Json,
                    other => return Err(Error::Usage(format!("--log-format {other:?}: text or json is accepted"))),
                }
            }
            // There is nothing to add: errors carry their causes.
            Long("debug") => {}
            Long("systemd-cgroup") => {
                return Err(Error::Usage("--systemd-cgroup: only the file system driver is supported".into()));
            }
            Long("version") | Short('v') => {
                println!("podwright-oci {}\nspec: {OCI_VERSION}", env!("CARGO_PKG_VERSION"));
                return Ok(0);
            }
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            Value(name) => {
                let name = name.string().map_err(usage)?;
                return dispatch(&name, root, args);
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    Err(Error::Usage("no command given".into()))
}

fn dispatch(name: &str, root: PathBuf, args: Parser) -> Result<i32> {
    match name {
        "create" | "run" => create_or_run(name == "run", root, args),
        "start" => lifecycle::start(&root, &only_id(args)?).map(|()| 0),
        "state" => {
            println!("{}", lifecycle::state(&root, &only_id(args)?)?);
            Ok(0)
        }
        "kill" => kill(root, args),
        "delete" => delete(root, args),
        "exec" => exec(root, args),
        "list" => list(root, args),
        "features" => {
            println!("{:#}", features::features());
            Ok(0)
        }
        "help" => {
            print!("{HELP}");
            Ok(0)
        }
        other => Err(Error::Usage(format!("unknown command {other:?}"))),
    }
}

fn create_or_run(run: bool, root: PathBuf, mut args: Parser) -> Result<i32> {
    protect::own_binary()?;
    let mut options = CreateOptions {
        root,
        id: String::new(),
        bundle: ".".into(),
        pid_file: None,
        preserve_fds: 0,
        keyring: true,
        console_socket: None,
        pivot: true,
    };
    let mut detach = false;
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("bundle") | Short('b') => options.bundle = path(&mut args)?,
            Long("pid-file") => options.pid_file = Some(path(&mut args)?),
            Long("preserve-fds") => options.preserve_fds = number(&mut args)?,
            Long("no-new-keyring") => options.keyring = false,
            Long("detach") | Short('d') if run => detach = true,
            Long("console-socket") => options.console_socket = Some(path(&mut args)?),
            Long("no-pivot") => options.pivot = false,
            Value(id) if options.id.is_empty() => options.id = id.string().map_err(usage)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&options.id)?;
    if run { lifecycle::run(&options, detach) } else { lifecycle::create(&options).map(|()| 0) }
}

fn kill(root: PathBuf, mut args: Parser) -> Result<i32> {
    let (mut all, mut words) = (false, Vec::new());
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("all") | Short('a') => all = true,
            Value(word) if words.len() < 2 => words.push(word.string().map_err(usage)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = words.first().map_or("", String::as_str);
    require_id(id)?;
    let signal = words.get(1).map_or(Ok(Signal::SIGTERM as i32), |name| signal_number(name))?;
    lifecycle::kill(&root, id, signal, all).map(|()| 0)
}

/// A signal by number or name, with or without `SIG`.
fn signal_number(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(Error::Signal(text.into())) };
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<Signal>().map(|signal| signal as i32).map_err(|_| Error::Signal(text.into()))
}

fn delete(root: PathBuf, mut args: Parser) -> Result<i32> {
    let (mut force, mut id) = (false, String::new());
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("force") | Short('f') => force = true,
            Value(word) if id.is_empty() => id = word.string().map_err(usage)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&id)?;
    lifecycle::delete(&root, &id, force).map(|()| 0)
}

fn exec(root: PathBuf, mut args: Parser) -> Result<i32> {
    protect::own_binary()?;
    let (mut file, mut env, mut cwd, mut user) = (None, Vec::new(), None, None);
    let mut options = ExecOptions {
        root,
        id: String::new(),
        command: Exec::File(PathBuf::new()),
        detach: false,
        pid_file: None,
        preserve_fds: 0,
        console_socket: None,
    };
    let mut command = Vec::new();
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("process") | Short('p') => file = Some(path(&mut args)?),
            Long("detach") | Short('d') => options.detach = true,
            Long("pid-file") => options.pid_file = Some(path(&mut args)?),
            Long("env") | Short('e') => env.push(text(&mut args)?),
            Long("cwd") => cwd = Some(path(&mut args)?),
            Long("user") | Short('u') => user = Some(parse_user(&text(&mut args)?)?),
            Long("preserve-fds") => options.preserve_fds = number(&mut args)?,
            Long("console-socket") => options.console_socket = Some(path(&mut args)?),
            Long("tty") | Short('t') => return Err(no_terminal("--tty")),
            Value(id) => {
                options.id = id.string().map_err(usage)?;
                // What follows belongs to the command, dashes or not.
                for word in args.raw_args().map_err(usage)? {
                    command.push(word.string().map_err(usage)?);
                }
                break;
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&options.id)?;
    if command.first().is_some_and(|word| word == "--") {
        command.remove(0);
    }
    options.command = match (file, command.is_empty()) {
        (Some(file), true) => Exec::File(file),
        (None, false) => Exec::Args { args: command, env, cwd, user },
        (Some(_), false) => return Err(Error::Usage("both --process and a command given".into())),
        (None, true) => return Err(Error::Usage("neither --process nor a command given".into())),
    };
    lifecycle::exec(&options)
}

fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let number = |part: &str| {
        part.parse().map_err(|_| Error::Usage(format!("--user {text:?}: numbers UID or UID:GID are accepted")))
    };
    Ok((number(uid)?, gid.map(number).transpose()?))
}

fn list(root: PathBuf, mut args: Parser) -> Result<i32> {
    let (mut json, mut quiet) = (false, false);
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("format") | Short('f') => {
                json = match text(&mut args)?.as_str() {
                    "json" => true,
                    "table" => false,
                    other => return Err(Error::Usage(format!("--format {other:?}: table or json is accepted"))),
                }
            }
            Long("quiet") | Short('q') => quiet = true,
            other => return Err(usage(other.unexpected())),
        }
    }
    let found = lifecycle::list(&root)?;
    if quiet {
        found.iter().for_each(|container| println!("{}", container.id));
    } else if json {
        println!("{}", serde_json::to_string(&found).unwrap_or_default());
    } else {
        let width = found.iter().map(|container| container.id.len()).max().unwrap_or(0).max(2);
        println!("{:width$}  {:>7}  {:8}  {:30}  BUNDLE", "ID", "PID", "STATUS", "CREATED");
        for c in &found {
            println!("{:width$}  {:>7}  {:8}  {:30}  {}", c.id, c.pid, c.status, c.created, c.bundle);
        }
    }
    Ok(0)
}

fn only_id(mut args: Parser) -> Result<String> {
    let mut id = String::new();
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Value(word) if id.is_empty() => id = word.string().map_err(usage)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&id)?;
    Ok(id)
}

fn require_id(id: &str) -> Result<()> {
    if id.is_empty() { Err(Error::Usage("no container id given".into())) } else { Ok(()) }
}

fn no_terminal(option: &str) -> Error {
    Error::Usage(format!("{option}: is not supported yet; set terminal in the file given with --process"))
}

fn path(args: &mut Parser) -> Result<PathBuf> {
    args.value().map(PathBuf::from).map_err(usage)
}

fn text(args: &mut Parser) -> Result<String> {
    args.value().and_then(|value| value.string()).map_err(usage)
}

fn number(args: &mut Parser) -> Result<u32> {
    args.value().and_then(|value| value.parse()).map_err(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("usr1", 10), ("64", 64)] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["0", "65", "-9", "SIGNONE", ""] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_lines_are_refused() {
        let code = |line: &str| command(Parser::from_iter(line.split(' ').map(OsString::from)), &mut Log::default());
        for line in [
            "oci",
            "oci frobnicate",
            "oci --log-format xml list",
            "oci --systemd-cgroup list",
            "oci state",
            "oci state a b",
            "oci start --force a",
            "oci kill a 99",
            "oci list --format yaml",
        ] {
            assert!(matches!(code(line), Err(Error::Usage(_) | Error::Signal(_))), "{line}");
        }
        assert!(matches!(code("oci --root /nonexistent state a"), Err(Error::NotFound(_))));
        assert_eq!(code("oci --root /nonexistent delete --force a").unwrap(), 0);
    }
}
