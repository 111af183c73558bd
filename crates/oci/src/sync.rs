//! What the runtime and a container's first process say to each other, over a stream socket that closes on execve(2).
//!
//! To the process: `g` go. From it: `h` run the hooks now (answered by `g`), `r` ready and waiting for `start`, `e` and a text:
//! failed, `k` and a text: a hook failed, `l` here is a filter's listener, for those who are named (answered by `g`). The end of
//! the stream without an `e` or `k` means that it has become the program. `start` speaks the same language over
//! the socket it connects to.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use podwright_sys::fdpass;

use crate::plan::Listener;

const GO: u8 = b'g';
const HOOKS: u8 = b'h';
const READY: u8 = b'r';
const ERROR: u8 = b'e';
const PID: u8 = b'p';
const LISTENER: u8 = b'l';
const HOOK_ERROR: u8 = b'k';

/// Longest error text that is read, in bytes.
const MAX_TEXT: u64 = 64 * 1024;

/// What the first process says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It wants the prestart and createRuntime hooks to run, and waits for [`send_go`].
    Hooks,
    /// It waits for `start`.
    Ready,
    /// Its filter's listener is for these; [`receive_listener`] gets it. It waits for [`send_go`].
    Listener(Listener),
    /// It could not become the program.
    Failed(String),
    /// A hook in the container failed, and with it the container.
    HookFailed(String),
    /// It has become the program.
    Executing,
    /// It has ended with our last word unread.
    Ended,
}

/// Waits for the next word of the first process.
pub(crate) fn listen(stream: &mut UnixStream) -> io::Result<Said> {
    let mut word = [0];
    loop {
        match stream.read(&mut word) {
            Ok(0) => return Ok(Said::Executing),
            Ok(_) => break,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => return Ok(Said::Ended),
            Err(err) => return Err(err),
        }
    }
    match word {
        [HOOKS] => Ok(Said::Hooks),
        [READY] => Ok(Said::Ready),
        [LISTENER] => {
            let path = PathBuf::from(OsString::from_vec(read_block(stream)?));
            let metadata = String::from_utf8_lossy(&read_block(stream)?).into_owned();
            Ok(Said::Listener(Listener { path, metadata }))
        }
        _ => {
            let mut text = Vec::new();
            match stream.take(MAX_TEXT).read_to_end(&mut text) {
                Err(err) if err.kind() != io::ErrorKind::ConnectionReset => Err(err),
                _ => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    Ok(if word == [HOOK_ERROR] { Said::HookFailed(text) } else { Said::Failed(text) })
                }
            }
        }
    }
}

fn read_array<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_block(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = u64::from(u32::from_ne_bytes(read_array(stream)?));
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends a filter's listener with those whom it is for, and waits until they have it.
pub(crate) fn send_listener(stream: &mut UnixStream, fd: &OwnedFd, listener: &Listener) -> io::Result<()> {
    let mut message = vec![LISTENER];
    for block in [listener.path.as_os_str().as_bytes(), listener.metadata.as_bytes()] {
        let length = u32::try_from(block.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        message.extend(length.to_ne_bytes());
        message.extend(block);
    }
    stream.write_all(&message)?;
    // read(2) would lose a descriptor that comes with the first word.
    fdpass::send(stream, &[LISTENER], &[fd.as_fd()])?;
    wait_for_go(stream)
}

/// The descriptor that [`send_listener`] sends.
pub(crate) fn receive_listener(stream: &UnixStream) -> io::Result<OwnedFd> {
    let (_, fds) = fdpass::receive(stream, 1)?;
    fds.into_iter().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Lets the first process go on. One that has ended meanwhile may have left an error behind, which [`listen`] finds. If it has
/// not, the end of the stream does not stand for the program: `false`.
pub(crate) fn send_go(stream: &mut UnixStream) -> io::Result<bool> {
    match stream.write_all(&[GO]) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

pub(crate) fn wait_for_go(stream: &mut UnixStream) -> io::Result<()> {
    stream.read_exact(&mut [0])
}

pub(crate) fn ask_for_hooks(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(&[HOOKS])?;
    wait_for_go(stream)
}

pub(crate) fn send_ready(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(&[READY])
}

/// Tells the pid of a process that was made on behalf of the runtime.
pub(crate) fn send_pid(stream: &mut UnixStream, pid: i32) -> io::Result<()> {
    let mut message = vec![PID];
    message.extend(pid.to_ne_bytes());
    stream.write_all(&message)
}

/// Waits for what [`send_pid`] sends, or for the text of [`send_error`].
pub(crate) fn receive_pid(stream: &mut UnixStream) -> io::Result<Result<i32, String>> {
    let mut word = [0];
    stream.read_exact(&mut word)?;
    if word == [PID] {
        let mut pid = [0; 4];
        stream.read_exact(&mut pid)?;
        return Ok(Ok(i32::from_ne_bytes(pid)));
    }
    let mut text = Vec::new();
    stream.take(MAX_TEXT).read_to_end(&mut text)?;
    Ok(Err(String::from_utf8_lossy(&text).into_owned()))
}

/// Tells why the first process gives up. Nobody to tell it to is no further error: the process ends either way.
pub(crate) fn send_error(stream: &mut UnixStream, text: &str, by_hook: bool) {
    let mut message = vec![if by_hook { HOOK_ERROR } else { ERROR }];
    message.extend_from_slice(text.as_bytes());
    stream.write_all(&message).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_in_order() {
        let (mut runtime, mut init) = UnixStream::pair().unwrap();
        send_go(&mut runtime).unwrap();
        ask_for_hooks(&mut init).unwrap();
        send_ready(&mut init).unwrap();
        send_error(&mut init, "exec: \"x\": No such file or directory", false);
        drop(init);
        assert_eq!(listen(&mut runtime).unwrap(), Said::Hooks);
        assert_eq!(listen(&mut runtime).unwrap(), Said::Ready);
        let failed = Said::Failed("exec: \"x\": No such file or directory".into());
        assert_eq!(listen(&mut runtime).unwrap(), failed);
        assert!(!send_go(&mut runtime).expect("a process that has ended is no error"));
    }

    #[test]
    fn a_listener_is_announced_with_who_gets_it() {
        let (mut runtime, mut init) = UnixStream::pair().unwrap();
        let listener = Listener { path: "/run/agent".into(), metadata: "text".into() };
        send_go(&mut runtime).unwrap();
        send_listener(&mut init, &std::fs::File::open("/dev/null").unwrap().into(), &listener).unwrap();
        assert_eq!(listen(&mut runtime).unwrap(), Said::Listener(listener));
        receive_listener(&runtime).unwrap();
        drop(init);
        assert!(receive_listener(&runtime).is_err());
    }

    #[test]
    fn a_process_in_between_tells_a_pid_or_an_error() {
        let (mut runtime, mut between) = UnixStream::pair().unwrap();
        send_pid(&mut between, 4711).unwrap();
        send_error(&mut between, "no", false);
        drop(between);
        assert_eq!(receive_pid(&mut runtime).unwrap(), Ok(4711));
        assert_eq!(receive_pid(&mut runtime).unwrap(), Err("no".into()));
        assert!(receive_pid(&mut runtime).is_err());
    }

    #[test]
    fn the_end_of_the_stream_is_the_program() {
        let (mut runtime, init) = UnixStream::pair().unwrap();
        drop(init);
        assert_eq!(listen(&mut runtime).unwrap(), Said::Executing);
    }

    #[test]
    fn an_unread_word_is_the_end_of_its_reader() {
        let (mut runtime, init) = UnixStream::pair().unwrap();
        send_go(&mut runtime).unwrap();
        drop(init);
        assert_eq!(listen(&mut runtime).unwrap(), Said::Ended);
    }
}
