//! Terminals: who gets the master, and what the program sees.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use podwright_sys::fdpass;
use serde_json::json;

use crate::harness::Container;

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
        assert!(name.starts_with(b"/dev/pts/"), "{name:?}");
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
    let text = read(master);
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
fn a_terminal_and_a_console_socket_belong_together() {
    let console = Console::new();
    let with = Container::new(&["true"]).with("/process/terminal", json!(true));
    assert!(with.refused().contains("process.terminal is true: it needs --console-socket"));
    let without = Container::new(&["true"]);
    let (bundle, socket) = (without.bundle().display().to_string(), console.path.display().to_string());
    let error = without.fails(&["create", "--bundle", &bundle, "--console-socket", &socket, &without.id]);
    assert!(error.contains("--console-socket: process.terminal is not true"), "{error}");
    let bundle = with.bundle().display().to_string();
    let error = with.fails(&["create", "--bundle", &bundle, "--console-socket", "/nonexistent/s", &with.id]);
    assert!(error.contains("open /nonexistent: No such file or directory"), "{error}");
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
