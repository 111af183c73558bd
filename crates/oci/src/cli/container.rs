//! Commands that make processes: `create`, `run`, `exec`.

use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};

use super::args::{flag, number, path, require_id, rest, text, usage};
use super::global::Global;
use crate::error::{Error, Result};
use crate::lifecycle::{self, Changes, Command, CreateOptions, ExecOptions};
use crate::protect;

pub(super) fn create_or_run(run: bool, global: &Global, mut args: Parser) -> Result<i32> {
    protect::own_binary()?;
    let mut options = CreateOptions {
        root: global.root.clone(),
        id: String::new(),
        bundle: ".".into(),
        pid_file: None,
        preserve_fds: 0,
        keyring: true,
        systemd: global.systemd,
        console_socket: None,
        pidfd_socket: None,
        pivot: true,
        keep: false,
    };
    let mut detach = false;
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("bundle") | Short('b') => options.bundle = path(&mut args)?,
            Long("pid-file") => options.pid_file = Some(path(&mut args)?),
            Long("preserve-fds") => options.preserve_fds = number(&mut args, "preserve-fds")?,
            Long("no-new-keyring") => options.keyring = !flag(&mut args, "no-new-keyring")?,
            Long("detach") | Short('d') if run => detach = flag(&mut args, "detach")?,
            Long("keep") if run => options.keep = flag(&mut args, "keep")?,
            // This runtime adopts no orphans: those of a container end with its cgroup.
            Long("no-subreaper") if run => {
                flag(&mut args, "no-subreaper")?;
            }
            Long("console-socket") => options.console_socket = Some(path(&mut args)?),
            Long("pidfd-socket") => options.pidfd_socket = Some(path(&mut args)?),
            Long("no-pivot") => options.pivot = !flag(&mut args, "no-pivot")?,
            Value(id) if options.id.is_empty() => options.id = id.string().map_err(usage)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&options.id)?;
    if run { lifecycle::run(&options, detach) } else { lifecycle::create(&options).map(|()| 0) }
}

pub(super) fn exec(global: &Global, mut args: Parser) -> Result<i32> {
    protect::own_binary()?;
    let (mut process, mut changes) = (None, Changes::default());
    let mut options = ExecOptions {
        root: global.root.clone(),
        id: String::new(),
        command: Command::File(PathBuf::new()),
        detach: false,
        pid_file: None,
        preserve_fds: 0,
        console_socket: None,
        pidfd_socket: None,
        cgroup: None,
        ignore_paused: false,
    };
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("process") | Short('p') => process = Some(path(&mut args)?),
            Long("detach") | Short('d') => options.detach = flag(&mut args, "detach")?,
            Long("pid-file") => options.pid_file = Some(path(&mut args)?),
            Long("preserve-fds") => options.preserve_fds = number(&mut args, "preserve-fds")?,
            Long("cgroup") => options.cgroup = Some(path(&mut args)?),
            Long("ignore-paused") => options.ignore_paused = flag(&mut args, "ignore-paused")?,
            Long("env") | Short('e') => changes.env.push(text(&mut args)?),
            Long("cwd") => changes.cwd = Some(path(&mut args)?),
            Long("user") | Short('u') => changes.user = Some(parse_user(&text(&mut args)?)?),
            Long("additional-gids") | Short('g') => changes.groups.push(number(&mut args, "additional-gids")?),
            Long("cap") | Short('c') => changes.capabilities.push(text(&mut args)?),
            Long("no-new-privs") => changes.no_new_privileges = Some(flag(&mut args, "no-new-privs")?),
            Long("apparmor") => changes.apparmor = Some(text(&mut args)?),
            Long("process-label") => changes.selinux = Some(text(&mut args)?),
            Long("console-socket") => options.console_socket = Some(path(&mut args)?),
            Long("pidfd-socket") => options.pidfd_socket = Some(path(&mut args)?),
            Long("tty") | Short('t') => changes.terminal = flag(&mut args, "tty")?,
            Value(id) => {
                options.id = id.string().map_err(usage)?;
                changes.args = rest(&mut args)?;
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&options.id)?;
    if changes.args.first().is_some_and(|word| word == "--") {
        changes.args.remove(0);
    }
    options.command = match (process, changes.args.is_empty()) {
        (Some(file), true) => Command::File(file),
        (None, false) => Command::Changed(changes),
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
