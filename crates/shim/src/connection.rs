//! The line to the agent: requests in, events out, and never a wait for it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use podwright_proto::{Event, MAX_REQUEST, Record, Request, UNSAID_LIMIT};
use podwright_shim::machine;

/// Bytes that may wait for a slow agent besides a state. With more the connection is dropped; the agent comes back and asks for
/// the state.
const MAX_PENDING: usize = 2 << 20;

/// More than a state has without its instances and its memo.
const STATE_BYTES: usize = 1 << 10;

/// The connected agent.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of a state among them.
    state: usize,
    /// What the agent takes, once it has said hello.
    greeted: Option<usize>,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The agent closed it, or died.
    #[error("closed by the agent")]
    Closed,
    /// A line longer than [`MAX_REQUEST`].
    #[error("a request is longer than {MAX_REQUEST} bytes")]
    TooLong,
    /// The agent does not read.
    #[error("the agent does not read: more than {MAX_PENDING} bytes wait for it")]
    TooSlow,
    /// recv(2) or send(2) failed.
    #[error("socket error")]
    Socket(#[from] io::Error),
}

impl Lost {
    /// Whether the other side is simply gone, as agents may be at any time: noticed by reading, or only by writing.
    pub(crate) fn is_the_agents_end(&self) -> bool {
        match self {
            Lost::Closed => true,
            Lost::Socket(error) => matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
            _ => false,
        }
    }
}

impl Connection {
    /// Takes over an accepted connection.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: Vec::new(), output: Vec::new(), state: 0, greeted: None })
    }

    /// What to poll.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether there is something to send as soon as the socket takes it.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Reads once and returns the complete requests. A line that is none is reported and left out: a newer agent may ask
    /// for what this shim does not know.
    pub(crate) fn receive(&mut self) -> Result<Vec<Request>, Lost> {
        let mut buffer = vec![0; 16 << 10];
        let length = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(Lost::Closed),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error.into()),
        };
        let read = buffer.get(..length).unwrap_or_default();
        let before = self.input.len();
        self.input.extend_from_slice(read);
        // What was there before has no end in it, and is not looked through again.
        let Some(end) = read.iter().rposition(|byte| *byte == b'\n').map(|end| before + end) else {
            return if self.input.len() > MAX_REQUEST { Err(Lost::TooLong) } else { Ok(Vec::new()) };
        };
        let rest = self.input.split_off(end + 1);
        let lines = std::mem::replace(&mut self.input, rest);
        let mut requests = Vec::new();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(request) => requests.push(request),
                Err(error) => crate::say(format_args!("a request is not understood and left out: {error}")),
            }
        }
        for request in &requests {
            if let Request::Hello { max_event, .. } = request {
                self.greeted = Some(*max_event);
            }
        }
        Ok(requests)
    }

    /// Sends an event, or keeps it until the socket takes it. Nothing is sent before the agent has said hello: the state
    /// that answers it tells everything.
    pub(crate) fn send(&mut self, event: &Event) -> Result<(), Lost> {
        if self.greeted.is_none() {
            return Ok(());
        }
        let before = self.output.len();
        serde_json::to_writer(&mut self.output, event).map_err(io::Error::from)?;
        self.output.push(b'\n');
        if let Event::State { .. } = event {
            // Of several that nobody reads only one is let wait.
            self.state = self.output.len() - before;
        }
        self.flush()
    }

    /// Those of the instances that the agent has room for besides a memo and the rest of the state.
    pub(crate) fn fitting(&self, records: Vec<Record>, memo: Option<&String>) -> Vec<Record> {
        // A memo is text in JSON already: in a state it has an escape for each of its quotes.
        let memo = memo.and_then(|memo| serde_json::to_vec(memo).ok()).map_or(0, |memo| memo.len());
        let room = self.greeted.unwrap_or(UNSAID_LIMIT).saturating_sub(memo + STATE_BYTES);
        machine::fitting(records, room, |record| serde_json::to_vec(record).map_or(0, |record| record.len() + 1))
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Lost> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(Lost::Closed),
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.output.is_empty() {
            self.output = Vec::new();
            self.state = 0;
        }
        if self.output.len() > MAX_PENDING + self.state { Err(Lost::TooSlow) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixStream, Connection) {
        let (agent, ours) = UnixStream::pair().unwrap();
        (agent, Connection::new(ours).unwrap())
    }

    #[test]
    fn requests_come_whole_and_unknown_ones_are_left_out() {
        let (mut agent, mut connection) = pair();
        agent.write_all(b"{\"type\":\"hello\",\"version\":1}\n{\"type\":\"new_thing\"}\n{\"type\":\"shut").unwrap();
        assert_eq!(connection.receive().unwrap(), [Request::Hello { version: 1, max_event: UNSAID_LIMIT }]);
        assert_eq!(connection.receive().unwrap(), []);
        agent.write_all(b"down\"}\n").unwrap();
        assert_eq!(connection.receive().unwrap(), [Request::Shutdown]);
        drop(agent);
        assert!(matches!(connection.receive(), Err(Lost::Closed)));
    }

    #[test]
    fn a_slow_agent_costs_bounded_memory_and_no_wait() {
        let (agent, mut connection) = pair();
        let event = Event::Failed { message: "x".repeat(1000) };
        connection.send(&event).unwrap();
        assert!(!connection.has_output(), "nothing is sent before hello");
        connection.greeted = Some(UNSAID_LIMIT);
        let lost = (0..10_000).find_map(|_| connection.send(&event).err());
        assert!(matches!(lost, Some(Lost::TooSlow)), "{lost:?}");
        assert!(connection.output.len() < MAX_PENDING + 2000);
        drop(agent);
    }

    /// An agent from before limits were said would take a longer state for the end of the shim, and kill the pod.
    #[test]
    fn an_agent_is_told_of_no_more_than_it_takes() {
        let (mut agent, mut connection) = pair();
        agent.write_all(b"{\"type\":\"hello\",\"version\":1}\n").unwrap();
        connection.receive().unwrap();
        let text = include_str!("../../proto/tests/golden/v1/record-full.json");
        let records: Vec<Record> = (0..500)
            .map(|attempt| {
                let mut record: Record = serde_json::from_str(text).unwrap();
                record.id.attempt = attempt;
                record.exit.as_mut().unwrap().message = "\u{1}".repeat(4096);
                record
            })
            .collect();
        let memo = "\"".repeat(300 << 10);
        let told = connection.fitting(records.clone(), Some(&memo));
        let newest = told.last().unwrap().id.attempt;
        assert!(told.len() > 3 && told.len() < 100 && newest == 499, "{} {newest}", told.len());
        let stamp = records[0].requested;
        let state = Event::State {
            version: 1,
            sandbox: 1,
            pid: 1,
            created: stamp,
            instances: told,
            memo: Some(memo),
            max_request: MAX_REQUEST,
        };
        assert!(serde_json::to_vec(&state).unwrap().len() < UNSAID_LIMIT);
        connection.greeted = Some(podwright_proto::MAX_EVENT);
        assert_eq!(connection.fitting(records, None).len(), 500);
    }

    #[test]
    fn a_line_without_end_is_not_collected_for_ever() {
        let (mut agent, mut connection) = pair();
        agent.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let lost = std::iter::repeat_with(|| {
            sent += agent.write(&[b'x'; 16 << 10]).unwrap_or(0);
            connection.receive().err()
        });
        let lost = lost.take(100_000).find_map(|lost| lost);
        assert!(sent > MAX_REQUEST, "{sent}");
        assert!(matches!(lost, Some(Lost::TooLong)), "{lost:?}");
    }
}
