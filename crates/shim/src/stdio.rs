//! The shim's ends of a container's stdout and stderr: pipes that become log lines.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use crate::log::{Batch, MAX_LINE_TEXT};

/// Bytes taken with one read(2).
const READ_SIZE: usize = 16 << 10;

/// Reads from one pipe before the loop looks at the others again: a flooding container starves nobody.
const READS_PER_TURN: usize = 4;

/// A pipe: our end, which never blocks, and the one for the container.
pub(crate) fn pipe() -> nix::Result<(File, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // Only our end: the other one belongs to programs that expect a write to wait.
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((File::from(read), write))
}

/// One of the two streams of a container.
#[derive(Debug)]
pub(crate) struct Stream {
    name: &'static str,
    pipe: Option<File>,
    /// The beginning of a line that is not through.
    partial: Vec<u8>,
}

impl Stream {
    /// A stream of that name, as it stands in the log.
    pub(crate) fn new(name: &'static str, pipe: File) -> Self {
        Self { name, pipe: Some(pipe), partial: Vec::new() }
    }

    /// What to poll, until its end.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there, within one turn's share, and adds the complete lines to `batch`.
    pub(crate) fn read(&mut self, time: &str, batch: &mut Batch) {
        let mut buffer = vec![0; READ_SIZE];
        for _ in 0..READS_PER_TURN {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => return self.close(time, batch),
                Ok(length) => {
                    split(&mut self.partial, buffer.get(..length).unwrap_or_default(), self.name, time, batch);
                    if length < READ_SIZE {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(time, batch),
            }
        }
    }

    /// Ends the stream, with what was written after the last newline as its last line.
    pub(crate) fn close(&mut self, time: &str, batch: &mut Batch) {
        self.pipe = None;
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            batch.push(time, self.name, true, &[&rest]);
        }
    }
}

/// Adds `data`, which follows on `partial`, as lines; what has no newline yet stays in `partial`.
fn split(partial: &mut Vec<u8>, data: &[u8], name: &str, time: &str, batch: &mut Batch) {
    for piece in data.split_inclusive(|byte| *byte == b'\n') {
        let (mut text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
        while partial.len() + text.len() > MAX_LINE_TEXT {
            let (head, tail) = text.split_at(MAX_LINE_TEXT - partial.len());
            batch.push(time, name, false, &[partial, head]);
            partial.clear();
            text = tail;
        }
        if ends {
            batch.push(time, name, true, &[partial, text]);
            *partial = Vec::new();
        } else {
            partial.extend_from_slice(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Feeds pieces and returns the lines of the log, without their time and stream.
    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (read, write) = pipe().unwrap();
        let mut stream = Stream::new("stdout", read);
        let (mut batch, mut write) = (Batch::default(), File::from(write));
        for piece in pieces {
            write.write_all(piece).unwrap();
            stream.read("T", &mut batch);
        }
        drop(write);
        while stream.fd().is_some() {
            stream.read("T", &mut batch);
        }
        let text = String::from_utf8(batch.bytes).unwrap();
        assert_eq!(text.lines().count() as u64, batch.lines);
        text.lines().map(|line| line.strip_prefix("T stdout ").unwrap().to_owned()).collect()
    }

    #[test]
    fn lines_are_put_together_and_the_last_one_needs_no_newline() {
        assert_eq!(lines(&[b"a\nb", b"c", b"d\n\n", b"end"]), ["F a", "F bcd", "F ", "F end"]);
        assert_eq!(lines(&[]), [""; 0]);
    }

    #[test]
    fn long_lines_are_split_like_containerd_does() {
        let long = vec![b'x'; MAX_LINE_TEXT];
        let text = |tag: &str, length: usize| format!("{tag} {}", "x".repeat(length));
        assert_eq!(lines(&[&long, b"\n"]), [text("F", MAX_LINE_TEXT)]);
        assert_eq!(lines(&[&long, b"xy\n"]), [text("P", MAX_LINE_TEXT), "F xy".to_owned()]);
        let longer = vec![b'x'; 2 * MAX_LINE_TEXT + 5];
        assert_eq!(lines(&[&longer]), [text("P", MAX_LINE_TEXT), text("P", MAX_LINE_TEXT), text("F", 5)]);
    }

    #[test]
    fn one_turn_takes_a_share_and_not_all() {
        let (read, write) = pipe().unwrap();
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        File::from(write).write_all(&[b'\n'; 1 << 20]).unwrap();
        let (mut stream, mut batch) = (Stream::new("stdout", read), Batch::default());
        stream.read("T", &mut batch);
        assert_eq!(batch.lines as usize, READS_PER_TURN * READ_SIZE);
    }
}
