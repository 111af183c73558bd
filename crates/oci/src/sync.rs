//! What the runtime and a container's first process say to each other, over a stream socket that closes on execve(2).
//!
//! To the process: `g` go. From it: `h` run the hooks now (answered by `g`), `r` ready and waiting for `start`, `e` and a text:
//! failed. The end of the stream without an `e` means that it has become the program. `start` speaks the same language over
//! the socket it connects to.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

const GO: u8 = b'g';
const HOOKS: u8 = b'h';
const READY: u8 = b'r';
const ERROR: u8 = b'e';

/// Longest error text that is read, in bytes.
const MAX_TEXT: u64 = 64 * 1024;

/// What the first process says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It wants the prestart and createRuntime hooks to run, and waits for [`send_go`].
    Hooks,
    /// It waits for `start`.
    Ready,
    /// It could not become the program.
    Failed(String),
    /// It has become the program.
    Executing,
}

/// Waits for the next word of the first process.
pub(crate) fn listen(stream: &mut UnixStream) -> io::Result<Said> {
    let mut word = [0];
    loop {
        match stream.read(&mut word) {
            Ok(0) => return Ok(Said::Executing),
            Ok(_) => break,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            // It ended with our last word unread.
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => return Ok(Said::Executing),
            Err(err) => return Err(err),
        }
    }
    match word {
        [HOOKS] => Ok(Said::Hooks),
        [READY] => Ok(Said::Ready),
        _ => {
            let mut text = Vec::new();
            match stream.take(MAX_TEXT).read_to_end(&mut text) {
                Err(err) if err.kind() != io::ErrorKind::ConnectionReset => Err(err),
                _ => Ok(Said::Failed(String::from_utf8_lossy(&text).into_owned())),
            }
        }
    }
}

/// Lets the first process go on. One that has ended meanwhile has left an error behind, which [`listen`] finds.
pub(crate) fn send_go(stream: &mut UnixStream) -> io::Result<()> {
    match stream.write_all(&[GO]) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
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

/// Tells why the first process gives up. Nobody to tell it to is no further error: the process ends either way.
pub(crate) fn send_error(stream: &mut UnixStream, text: &str) {
    let mut message = vec![ERROR];
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
        send_error(&mut init, "exec: \"x\": No such file or directory");
        drop(init);
        assert_eq!(listen(&mut runtime).unwrap(), Said::Hooks);
        assert_eq!(listen(&mut runtime).unwrap(), Said::Ready);
        let failed = Said::Failed("exec: \"x\": No such file or directory".into());
        assert_eq!(listen(&mut runtime).unwrap(), failed);
        send_go(&mut runtime).expect("a process that has ended is no error");
    }

    #[test]
    fn the_end_of_the_stream_is_the_program() {
        let (mut runtime, init) = UnixStream::pair().unwrap();
        drop(init);
        assert_eq!(listen(&mut runtime).unwrap(), Said::Executing);
    }

    #[test]
    fn an_unread_word_is_no_error() {
        let (mut runtime, init) = UnixStream::pair().unwrap();
        send_go(&mut runtime).unwrap();
        drop(init);
        assert_eq!(listen(&mut runtime).unwrap(), Said::Executing);
    }
}
