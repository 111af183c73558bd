//! Lines of a container's log: `TIME stdout|stderr P|F TEXT` (kubernetes `pkg/kubelet/kuberuntime/logs`). A line tagged P
//! goes on in the next one of its stream.

/// Most bytes of an unfinished line kept back, per stream; beyond that its parts are passed on as they come.
const MAX_PENDING: usize = 256 << 10;

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) time: &'a [u8],
    pub(super) stderr: bool,
    pub(super) partial: bool,
    pub(super) text: &'a [u8],
}

/// Parses a line without its newline; `None` if it has another form.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = parts.next().filter(|t| t.first().is_some_and(u8::is_ascii_digit))?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    // Tags may be joined by colons in a later version of the format; the first one is P or F.
    let partial = match parts.next()?.split(|b| *b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Line { time, stderr, partial, text: parts.next().unwrap_or_default() })
}

/// Turns the file's lines into what the container wrote.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    timestamps: bool,
    pending: [Pending; 2],
}

#[derive(Debug, Default)]
struct Pending {
    open: bool,
    text: Vec<u8>,
}

impl Joiner {
    pub(super) fn new(timestamps: bool) -> Self {
        Joiner { timestamps, ..Joiner::default() }
    }

    /// Takes one line of the file; writes what is complete by it. A line of another form is passed on as it is.
    pub(super) fn push(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = parse(line) else {
            out.extend_from_slice(line);
            out.push(b'\n');
            return;
        };
        let pending = &mut self.pending[usize::from(line.stderr)];
        if !pending.open && self.timestamps {
            pending.text.extend_from_slice(line.time);
            pending.text.push(b' ');
        }
        pending.open = line.partial;
        pending.text.extend_from_slice(line.text);
        if !line.partial {
            pending.text.push(b'\n');
        }
        if !line.partial || pending.text.len() > MAX_PENDING {
            out.append(&mut pending.text);
        }
    }

    /// No more lines come: writes what was never finished, as a line of its own if `newline` is set.
    pub(super) fn flush(&mut self, newline: bool, out: &mut Vec<u8>) {
        for pending in &mut self.pending {
            if std::mem::take(&mut pending.open) {
                out.append(&mut pending.text);
                if newline {
                    out.push(b'\n');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(timestamps: bool, lines: &[&str]) -> String {
        let (mut joiner, mut out) = (Joiner::new(timestamps), Vec::new());
        lines.iter().for_each(|l| joiner.push(l.as_bytes(), &mut out));
        joiner.flush(true, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_are_joined_per_stream() {
        let lines = [
            "1 stdout P ab",
            "2 stderr F oops",
            "3 stdout P c",
            "4 stdout F d",
            "5 stdout F ",
            "6 stdout F",
            "7 stdout F  x ",
        ];
        assert_eq!(join(false, &lines), "oops\nabcd\n\n\n x \n");
        assert_eq!(join(true, &lines), "2 oops\n1 abcd\n5 \n6 \n7  x \n");
    }

    #[test]
    fn what_is_not_a_log_line_is_passed_on() {
        assert_eq!(
            join(false, &["garbage", "", "1 stdin F x", "1 stdout X x"]),
            "garbage\n\n1 stdin F x\n1 stdout X x\n"
        );
    }

    #[test]
    fn an_unfinished_line_is_bounded_and_not_lost() {
        assert_eq!(join(true, &["1 stdout P a", "2 stdout P b"]), "1 ab\n");
        let long = format!("1 stdout P {}", "x".repeat(MAX_PENDING));
        let (mut joiner, mut out) = (Joiner::new(false), Vec::new());
        for _ in 0..4 {
            joiner.push(long.as_bytes(), &mut out);
        }
        assert!(out.len() > 3 * MAX_PENDING);
        joiner.push(b"1 stdout F end", &mut out);
        assert!(out.ends_with(b"xend\n"));
        assert_eq!(out.len(), 4 * MAX_PENDING + 4);
    }
}
