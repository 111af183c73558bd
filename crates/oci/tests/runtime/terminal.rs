//! Terminals: who gets the master, and what the program sees.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use podwright_sys::{fdpass, process, terminal};
use serde_json::json;

use crate::harness::{Container, is_ours};

/// The other end of a console socket.
struct Console {
    _dir: tempfile::TempDir,
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self { _dir: dir, path, listener }
    }

    fn master(&self) -> fs::File {
        let (stream, _) = self.listener.accept().unwrap();
        let (name, mut fds): (Vec<u8>, Vec<OwnedFd>) = fdpass::receive(&stream, 64).unwrap();
        // Peers send other words along.
        assert!(!is_ours() || name.starts_with(b"/dev/pts/"), "{name:?}");
        assert_eq!(fds.len(), 1);
        fs::File::from(fds.remove(0))
    }
}

/// What comes out of a terminal until its last user is gone.
fn read(mut master: fs::File) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // EIO: nobody has the other end any more.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

const SHOW: &str = "readlink /proc/self/fd/0; stat -c %t:%T /dev/console; stat -c %u /proc/self/fd/1; read line < /dev/tty; echo got $line; \
    set -- $(cat /proc/self/stat); echo $5 $6 $8";

#[test]
fn the_program_has_the_terminal_of_its_own_devpts() {
    let console = Console::new();
    let container = Container::script(SHOW)
        .with("/process/terminal", json!(true))
        .with("/process/user", json!({"uid": 1000, "gid": 1000}));
    let (bundle, socket) = (container.bundle().display().to_string(), console.path.display().to_string());
    container.ok(&["create", "--bundle", &bundle, "--console-socket", &socket, &container.id]);
    let mut master = console.master();
    container.ok(&["start", &container.id]);
    master.write_all(b"typed\n").unwrap();
    // What is typed is shown whenever it arrives.
    let text = read(master).replacen("typed\n", "", 1);
    // 88:0 is the first terminal of its devpts; 1000 owns it; the last line: group, session, foreground group.
    assert!(text.contains("/dev/pts/0\n88:0\n1000\n") && text.contains("got typed\n1 1 1\n"), "{text}");
}

#[test]
fn a_terminal_has_the_configured_size() {
    let console = Console::new();
    let container = Container::new(&["stty", "size"])
        .with("/process/terminal", json!(true))
        .with("/process/consoleSize", json!({"height": 33, "width": 77}));
    symlink("busybox", container.rootfs().join("bin/stty")).unwrap();
    let (bundle, socket) = (container.bundle().display().to_string(), console.path.display().to_string());
    container.ok(&["run", "-d", "--bundle", &bundle, "--console-socket", &socket, &container.id]);
    assert_eq!(read(console.master()), "33 77\n");
}

#[test]
fn another_process_gets_a_terminal_of_its_own() {
    let console = Console::new();
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let file = container.bundle().join("process.json");
    let script = "readlink /proc/self/fd/2; [ -t 0 ] && echo terminal";
    let process = json!({"terminal": true, "user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"]});
    fs::write(&file, process.to_string()).unwrap();
    let (file, socket) = (file.display().to_string(), console.path.display().to_string());
    container.ok(&["exec", "-d", "--console-socket", &socket, "--process", &file, &container.id]);
    assert_eq!(read(console.master()), "/dev/pts/0\nterminal\n");
}

#[test]
fn a_terminal_belongs_to_the_user_of_a_process_that_may_be_traced() {
    let sets = json!(["CAP_KILL", "CAP_SYS_PTRACE"]);
    let capabilities = json!({"bounding": sets, "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    let container = Container::new(&["sleep", "1000"]).with("/process/capabilities", capabilities);
    container.ok(&["run", "-d", "--bundle", container.bundle().to_str().unwrap(), &container.id]);
    let script =
        "stat -c %u $(readlink /proc/self/fd/0); id -u; tty >/dev/tty; grep -E 'Cap(Prm|Bnd)' /proc/self/status";
    let output = container.call(&["exec", "-t", "-u", "1000", &container.id, "sh", "-c", script]);
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let bounding = "CapBnd:\t0000000000080020\n";
    assert_eq!(text, format!("1000\n1000\n/dev/pts/0\nCapPrm:\t0000000000000000\n{bounding}"), "{output:?}");
}

#[test]
fn a_terminal_and_a_console_socket_belong_together() {
    let console = Console::new();
    let with = Container::new(&["true"]).with("/process/terminal", json!(true));
    let bundle = with.bundle().display().to_string();
    let error = with.fails(&["create", "--bundle", &bundle, &with.id]);
    assert!(error.contains("process.terminal is true: a command that does not wait needs --console-socket"), "{error}");
    with.assert_nothing_left();
    let without = Container::new(&["true"]);
    let (bundle, socket) = (without.bundle().display().to_string(), console.path.display().to_string());
    let error = without.fails(&["create", "--bundle", &bundle, "--console-socket", &socket, &without.id]);
    assert!(error.contains("--console-socket: process.terminal is not true"), "{error}");
    let bundle = with.bundle().display().to_string();
    let error = with.fails(&["create", "--bundle", &bundle, "--console-socket", "/proc/nonexistent/s", &with.id]);
    assert!(error.contains("open /proc/nonexistent: No such file or directory"), "{error}");
    with.assert_nothing_left();
}

/// CVE-2025-52565: what is bound to `/dev/console` and used as the terminal is what was opened, no name of the image's choosing.
#[test]
fn a_hostile_dev_gets_no_terminal() {
    let console = Console::new();
    let refused = |container: &Container| {
        let (bundle, socket) = (container.bundle().display().to_string(), console.path.display().to_string());
        let error = container.fails(&["create", "--bundle", &bundle, "--console-socket", &socket, &container.id]);
        container.assert_nothing_left();
        error
    };
    let mut container = Container::new(&["true"]).with("/process/terminal", json!(true));
    let mounts = container.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    fs::create_dir_all(container.rootfs().join("dev/pts")).unwrap();
    fs::write(container.rootfs().join("dev/pts/ptmx"), "").unwrap();
    let error = refused(&container);
    assert!(error.contains("process.terminal: /dev/pts/ptmx of the container: No such device"), "{error}");

    let container = container.mount(json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts"}));
    symlink("/proc/self/status", container.rootfs().join("dev/console")).unwrap();
    let error = refused(&container);
    assert!(error.contains("process.terminal: mount /dev/console: Too many symbolic links encountered"), "{error}");
}

/// A terminal for the runtime to be called from, and the runtime on it, as the leader of its session.
struct Caller {
    master: fs::File,
    terminal: OwnedFd,
    child: Child,
}

impl Caller {
    fn new(container: &Container, args: &[&str]) -> Self {
        let pair = openpty(None, None).unwrap();
        // Other tests start programs meanwhile, which must not hold them.
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        terminal::set_size(&pair.master, 40, 100).unwrap();
        let runtime = container.runtime();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(runtime.get_program()).args(runtime.get_args()).args(args);
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { master: fs::File::from(pair.master), terminal: pair.slave, child }
    }

    /// Reads until the text is there.
    fn expect(&mut self, wanted: &str) {
        let (mut text, mut byte) = (String::new(), [0]);
        while !text.contains(wanted) {
            // We have the other end, too: nothing would end a wait for a program that does not start.
            let mut readable = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut readable, PollTimeout::from(30_000_u16)), Ok(1), "{wanted:?} is not in {text:?}");
            self.master.read_exact(&mut byte).unwrap();
            text.push(byte[0].into());
            assert!(text.len() < 10_000, "{wanted:?} is not in {text:?}");
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ICANON)
    }
}

#[test]
fn in_the_foreground_the_callers_terminal_is_the_containers() {
    let script = "stty size; echo ready; read line; echo got $line; \
                  until stty size | grep -q '^50 120$'; do sleep 0.05; done; echo resized; read line; exit 7";
    let container = Container::script(script).with("/process/terminal", json!(true));
    symlink("busybox", container.rootfs().join("bin/stty")).unwrap();
    let bundle = container.bundle().display().to_string();
    let mut caller = Caller::new(&container, &["run", "--bundle", &bundle, &container.id]);
    caller.expect("40 100\r\nready");
    assert!(caller.is_raw(), "the caller's terminal edits lines itself");
    caller.master.write_all(b"typed\r").unwrap();
    caller.expect("got typed");
    terminal::set_size(&caller.master, 50, 120).unwrap();
    caller.expect("resized");
    caller.master.write_all(b"end\r").unwrap();
    assert_eq!(caller.child.wait().unwrap().code(), Some(7));
    assert!(!caller.is_raw(), "the caller's terminal is left raw");
    container.assert_nothing_left();
}

#[test]
fn an_exec_in_the_foreground_has_a_terminal_too() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let mut caller = Caller::new(&container, &["exec", "--tty", &container.id, "sh", "-c", "echo up; read a; exit 3"]);
    caller.expect("up");
    // Ctrl-C is the container's.
    caller.master.write_all(b"\x03").unwrap();
    assert_eq!(caller.child.wait().unwrap().code(), Some(130));
    assert!(!caller.is_raw());
    // Without a terminal of its own, as CRI-O calls it with pipes, it works all the same.
    let output = container.call(&["exec", "-t", &container.id, "readlink", "/proc/self/fd/0"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/dev/pts/0\r\n", "{output:?}");
}

#[test]
fn a_pidfd_is_sent_where_it_is_asked_for() {
    let socket = Console::new();
    let container = Container::new(&["sleep", "1000"]);
    let (bundle, path) = (container.bundle().display().to_string(), socket.path.display().to_string());
    let call = |args: &[&str]| {
        // The container's processes keep what they get.
        let mut command = container.runtime();
        assert!(command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success(), "{args:?}");
    };
    call(&["create", "--bundle", &bundle, "--pidfd-socket", &path, &container.id]);
    let receive = || {
        let (stream, _) = socket.listener.accept().unwrap();
        fdpass::receive(&stream, 64).unwrap().1.remove(0)
    };
    let first = receive();
    process::pidfd_send_signal(&first, 0).unwrap();
    container.ok(&["start", &container.id]);
    call(&["exec", "--detach", "--pidfd-socket", &path, &container.id, "sleep", "1000"]);
    process::pidfd_send_signal(receive(), 9).unwrap();
    process::pidfd_send_signal(first, 9).unwrap();
    crate::harness::eventually("stopped", || container.status() == "stopped");
}
