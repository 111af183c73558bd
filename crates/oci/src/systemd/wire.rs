//! The part of D-Bus's wire format that talking to systemd takes (D-Bus Specification, "Type System" and "Message Protocol"):
//! method calls out, replies, errors and signals in, little-endian.

/// Longest message that is read, in bytes; the specification allows more.
const MAX_MESSAGE: usize = 1 << 20;

/// Length of a message's part up to and with the length of its header fields.
pub(super) const PREFIX: usize = 16;

const METHOD_CALL: u8 = 1;
const VERSION: u8 = 1;

/// Codes of header fields.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

/// A value of one of the types that properties of units have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `b`
    Bool(bool),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `s`
    Text(String),
    /// `au`
    U32s(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Text(_) => "s",
            Self::U32s(_) => "au",
            Self::Bytes(_) => "ay",
        }
    }
}

/// A name and its value, as systemd takes properties.
pub(crate) type Property = (String, Value);

/// Bytes of a message, each value at its alignment.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub(super) fn bool(&mut self, value: bool) -> &mut Self {
        self.u32(value.into())
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.u32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        self
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// An array; its length does not count the padding before the first element.
    pub(super) fn array(&mut self, align: usize, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(align);
        let begin = self.bytes.len();
        fill(self);
        let length = (self.bytes.len() - begin) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self
    }

    fn value(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::I32(value) => self.u32(value.cast_unsigned()),
            Value::U32(value) => self.u32(*value),
            Value::I64(value) => self.u64(value.cast_unsigned()),
            Value::U64(value) => self.u64(*value),
            Value::Text(text) => self.text(text),
            Value::U32s(list) => self.array(4, |out| {
                for value in list {
                    out.u32(*value);
                }
            }),
            Value::Bytes(bytes) => self.array(1, |out| out.bytes.extend(bytes)),
        };
    }

    /// `a(sv)`
    pub(super) fn properties(&mut self, properties: &[Property]) -> &mut Self {
        self.array(8, |out| {
            for (name, value) in properties {
                out.align(8);
                out.text(name).value(value);
            }
        })
    }
}

/// A call of a method.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// Of the body.
    pub(super) signature: &'a str,
}

impl Call<'_> {
    /// The whole message.
    pub(super) fn message(&self, serial: u32, body: &Writer) -> Vec<u8> {
        let mut out = Writer::default();
        out.bytes.extend([b'l', METHOD_CALL, 0, VERSION]);
        out.u32(body.bytes.len() as u32).u32(serial);
        out.array(8, |out| {
            for (code, signature, text) in [
                (field::PATH, "o", self.path),
                (field::INTERFACE, "s", self.interface),
                (field::MEMBER, "s", self.member),
                (field::DESTINATION, "s", self.destination),
            ] {
                out.align(8);
                out.bytes.push(code);
                out.signature(signature);
                out.text(text);
            }
            if !self.signature.is_empty() {
                out.align(8);
                out.bytes.push(field::SIGNATURE);
                out.signature("g");
                out.signature(self.signature);
            }
        });
        out.align(8);
        out.bytes.extend(&body.bytes);
        out.bytes
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Return,
    Error,
    Signal,
    Other,
}

/// A message that has come in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// Serial of the call that it answers.
    pub(super) reply_to: u32,
    /// Of a signal.
    pub(super) member: String,
    /// Of an error.
    pub(super) error: String,
    /// Types of the body.
    pub(super) signature: String,
    body: Vec<u8>,
}

/// How many bytes a message has after its first [`PREFIX`]; `None` for one that is not understood.
pub(super) fn rest_length(prefix: &[u8; PREFIX]) -> Option<usize> {
    let mut reader = Reader { bytes: prefix, at: 4 };
    let (body, _serial, fields) = (reader.u32()? as usize, reader.u32()?, reader.u32()? as usize);
    let length = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    (prefix[0] == b'l' && prefix[3] == VERSION && length <= MAX_MESSAGE).then_some(length)
}

impl Message {
    /// Reads a whole message; `None` for one that is not understood.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let prefix = bytes.first_chunk()?;
        let whole = bytes.get(..PREFIX + rest_length(prefix)?)?;
        let mut reader = Reader { bytes: whole, at: 4 };
        let (body_length, _serial, fields_length) = (reader.u32()? as usize, reader.u32()?, reader.u32()? as usize);
        let kind = match prefix[1] {
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        let body = whole.get(whole.len() - body_length..)?.to_vec();
        let mut message =
            Self { kind, reply_to: 0, member: String::new(), error: String::new(), signature: String::new(), body };
        while reader.at < PREFIX + fields_length {
            reader.align(8);
            let code = reader.byte()?;
            let (mut text, mut number) = (String::new(), 0);
            match reader.signature()?.as_str() {
                "s" | "o" => text = reader.text()?,
                "g" => text = reader.signature()?,
                "u" => number = reader.u32()?,
                _ => return None,
            }
            match code {
                field::MEMBER => message.member = text,
                field::ERROR_NAME => message.error = text,
                field::SIGNATURE => message.signature = text,
                field::REPLY_SERIAL => message.reply_to = number,
                _ => {}
            }
        }
        Some(message)
    }

    /// The body's first value, when it is a text.
    pub(super) fn first_text(&self) -> Option<String> {
        let texts = self.signature.starts_with(['s', 'o']);
        texts.then(|| Reader { bytes: &self.body, at: 0 }.text()).flatten()
    }

    /// Job, unit and result of the signal `JobRemoved`.
    pub(super) fn job_removed(&self) -> Option<(String, String, String)> {
        if self.kind != Kind::Signal || self.member != "JobRemoved" || self.signature != "uoss" {
            return None;
        }
        let mut reader = Reader { bytes: &self.body, at: 0 };
        reader.u32()?;
        Some((reader.text()?, reader.text()?, reader.text()?))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call { destination: "d.e", path: "/p", interface: "i.f", member: "M", signature: "sa(sv)" };

    #[test]
    fn a_call_has_the_specified_bytes() {
        let mut body = Writer::default();
        body.text("ab").properties(&[("N".into(), Value::U64(258)), ("B".into(), Value::Bytes(vec![7]))]);
        let mut expected = Vec::new();
        expected.extend(b"l\x01\x00\x01");
        expected.extend([57, 0, 0, 0, 9, 0, 0, 0, 76, 0, 0, 0]);
        expected.extend(b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0");
        expected.extend(b"\x02\x01s\0\x03\0\0\0i.f\0\0\0\0\0");
        expected.extend(b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0");
        expected.extend(b"\x06\x01s\0\x03\0\0\0d.e\0\0\0\0\0");
        expected.extend(b"\x08\x01g\0\x06sa(sv)\0\0\0\0\0");
        expected.extend(b"\x02\0\0\0ab\0\0\x29\0\0\0\0\0\0\0");
        expected.extend(b"\x01\0\0\0N\0\x01t\0\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0");
        expected.extend(b"\x01\0\0\0B\0\x02ay\0\0\0\x01\0\0\0\x07");
        assert_eq!(CALL.message(9, &body), expected);
    }

    /// A message as systemd sends it.
    fn signal(member: &str, signature: &str, body: &Writer) -> Vec<u8> {
        let call = Call { member, signature, ..CALL };
        let mut bytes = call.message(5, body);
        bytes[1] = 4;
        bytes
    }

    #[test]
    fn a_removed_job_is_understood() {
        let mut body = Writer::default();
        body.u32(3).text("/job/3").text("a.scope").text("done");
        let bytes = signal("JobRemoved", "uoss", &body);
        let message = Message::parse(&bytes).unwrap();
        let expected = ("/job/3".to_owned(), "a.scope".to_owned(), "done".to_owned());
        assert_eq!(message.job_removed(), Some(expected));
        assert_eq!(Message::parse(&signal("Other", "uoss", &body)).unwrap().job_removed(), None);
    }

    #[test]
    fn what_is_cut_or_garbled_is_no_message() {
        let mut body = Writer::default();
        body.text("text");
        let bytes = signal("M", "s", &body);
        assert_eq!(Message::parse(&bytes).unwrap().first_text().as_deref(), Some("text"));
        for length in 0..bytes.len() {
            assert_eq!(Message::parse(&bytes[..length]), None, "{length}");
        }
        for at in 0..bytes.len() {
            let mut garbled = bytes.clone();
            garbled[at] ^= 0xff;
            // Anything but a panic.
            if let Some(message) = Message::parse(&garbled) {
                message.first_text();
                message.job_removed();
            }
        }
        assert_eq!(rest_length(b"l\x02\x00\x01\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff"), None);
    }
}
