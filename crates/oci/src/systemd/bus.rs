//! A connection to systemd: its private socket, which root may use, or the system bus.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::wire::{Call, Kind, Message, PREFIX, Property, Writer, rest_length};

/// Where systemd listens by itself: no bus needs to run, and nobody else reads along.
const PRIVATE: &str = "/run/systemd/private";

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// How long systemd gets for a call and the job that it starts.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest line of the authentication, in bytes.
const MAX_LINE: u64 = 4096;

const MANAGER: Call<'static> = Call {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
    signature: "",
};

const BUS: Call<'static> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
    signature: "",
};

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It is not there, or the connection broke.
    #[error("systemd ({PRIVATE}, {SYSTEM_BUS})")]
    Io(#[from] io::Error),
    /// It refused the call.
    #[error("systemd: {member} {unit}: {text} ({name})")]
    Refused {
        /// The method.
        member: &'static str,
        /// The unit.
        unit: String,
        /// What it said.
        text: String,
        /// The error's name, such as `org.freedesktop.systemd1.UnitExists`.
        name: String,
    },
    /// The job did not end well.
    #[error("systemd: {member} {unit}: the job ended as {result:?}")]
    Job {
        /// The method that made the job.
        member: &'static str,
        /// The unit.
        unit: String,
        /// Such as `failed` or `timeout`.
        result: String,
    },
}

impl BusError {
    /// Whether it is systemd's error of that name.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.rsplit('.').next() == Some(wanted))
    }
}

type Result<T> = std::result::Result<T, BusError>;

/// A connection.
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Bus {
    pub(super) fn connect() -> Result<Self> {
        if let Ok(stream) = UnixStream::connect(PRIVATE) {
            return Self::authenticate(stream);
        }
        let mut bus = Self::authenticate(UnixStream::connect(SYSTEM_BUS)?)?;
        bus.call("Hello", "", Call { member: "Hello", ..BUS }, &Writer::default())?;
        let mut rule = Writer::default();
        rule.text("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        bus.call("AddMatch", "", Call { member: "AddMatch", signature: "s", ..BUS }, &rule)?;
        Ok(bus)
    }

    /// The handshake of the D-Bus Specification, "Authentication Protocol": EXTERNAL, with the user in hexadecimal digits.
    fn authenticate(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let uid: String = nix::unistd::geteuid().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        let mut stream = BufReader::new(stream);
        // BEGIN goes along, as systemd's own clients send it: a first message that systemd reads together with a BEGIN of its own
        // is not looked at before the next one comes.
        stream.get_mut().write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        let mut answer = String::new();
        (&mut stream).take(MAX_LINE).read_line(&mut answer)?;
        if !answer.starts_with("OK ") {
            return Err(io::Error::other(format!("authentication answered by {:?}", answer.trim_end())).into());
        }
        Ok(Self { stream, serial: 0 })
    }

    /// Makes a unit that lives as long as its processes, and waits until it is there.
    pub(super) fn start_transient(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit).text("fail").properties(properties).array(8, |_| {});
        self.job("StartTransientUnit", unit, "ssa(sv)a(sa(sv))", &body)
    }

    /// Stops a unit and waits until it has stopped.
    pub(super) fn stop(&mut self, unit: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit).text("replace");
        self.job("StopUnit", unit, "ss", &body)
    }

    /// Lets systemd forget a unit that failed.
    pub(super) fn reset_failed(&mut self, unit: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        self.manager("ResetFailedUnit", unit, "s", &body).map(drop)
    }

    /// Changes properties of a unit until it goes or the machine reboots.
    pub(super) fn set_properties(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit).bool(true).properties(properties);
        self.manager("SetUnitProperties", unit, "sba(sv)", &body).map(drop)
    }

    fn manager(
        &mut self,
        member: &'static str,
        unit: &str,
        signature: &str,
        body: &Writer,
    ) -> Result<(Message, Vec<Message>)> {
        self.call(member, unit, Call { member, signature, ..MANAGER }, body)
    }

    /// Calls a method that makes a job, and waits for the job's end.
    fn job(&mut self, member: &'static str, unit: &str, signature: &str, body: &Writer) -> Result<()> {
        let (reply, mut signals) = self.manager(member, unit, signature, body)?;
        let job = reply.first_text().unwrap_or_default();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            // It may have ended before the reply was sent.
            for signal in signals.drain(..) {
                match signal.job_removed() {
                    Some((removed, _, result)) if removed == job => {
                        let unit = unit.to_owned();
                        return if result == "done" { Ok(()) } else { Err(BusError::Job { member, unit, result }) };
                    }
                    _ => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            signals.push(self.receive()?);
        }
    }

    /// Sends a call and waits for its answer; gives the signals that came before it as well.
    fn call(
        &mut self,
        member: &'static str,
        unit: &str,
        call: Call<'_>,
        body: &Writer,
    ) -> Result<(Message, Vec<Message>)> {
        self.serial += 1;
        let message = call.message(self.serial, body);
        self.stream.get_mut().write_all(&message)?;
        let deadline = Instant::now() + TIMEOUT;
        let mut signals = Vec::new();
        while Instant::now() < deadline {
            let message = self.receive()?;
            match message.kind {
                Kind::Return if message.reply_to == self.serial => return Ok((message, signals)),
                Kind::Error if message.reply_to == self.serial => {
                    let text = message.first_text().unwrap_or_default();
                    return Err(BusError::Refused { member, unit: unit.to_owned(), text, name: message.error });
                }
                Kind::Signal => signals.push(message),
                _ => {}
            }
        }
        Err(io::Error::from(io::ErrorKind::TimedOut).into())
    }

    fn receive(&mut self) -> Result<Message> {
        let garbled = || io::Error::new(io::ErrorKind::InvalidData, "a message that is not understood");
        let mut bytes = vec![0; PREFIX];
        self.stream.read_exact(&mut bytes)?;
        let length = bytes.first_chunk().and_then(rest_length).ok_or_else(garbled)?;
        bytes.resize(PREFIX + length, 0);
        self.stream.read_exact(bytes.get_mut(PREFIX..).unwrap_or_default())?;
        Ok(Message::parse(&bytes).ok_or_else(garbled)?)
    }
}
