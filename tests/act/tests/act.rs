//! The real binary, not as process 1: events, ends, signals, servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn act(words: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_act")).args(words).stdout(Stdio::piped()).spawn().expect("act starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    (child, out)
}

/// The next line without its time.
fn event(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    out.read_line(&mut line).expect("readable");
    if line.is_empty() {
        return String::new();
    }
    let (at, event) = line.trim_end().split_once(' ').expect("a time and an event");
    assert!(at.strip_prefix('@').is_some_and(|n| n.parse::<i64>().is_ok_and(|n| n > 0)), "{line}");
    event.to_owned()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("it runs");
}

#[test]
fn leaves_by_itself() {
    let begin = Instant::now();
    let (mut child, mut out) = act(&["run=0.2", "exit=7"]);
    assert_eq!((event(&mut out), event(&mut out), event(&mut out)), ("started".into(), "bye".into(), String::new()));
    assert_eq!(child.wait().expect("waited").code(), Some(7));
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[test]
fn leaves_on_its_stop_signal() {
    let (mut child, mut out) = act(&["term=0.3", "code=5", "run=60"]);
    assert_eq!(event(&mut out), "started");
    let begin = Instant::now();
    signal(&child, Signal::SIGTERM);
    assert_eq!((event(&mut out), event(&mut out)), ("term".into(), "bye".into()));
    assert_eq!(child.wait().expect("waited").code(), Some(5));
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[test]
fn ignores_or_has_no_handler_or_a_signal_of_its_own() {
    let (mut child, mut out) = act(&["term=ignore", "run=0.6"]);
    assert_eq!(event(&mut out), "started");
    signal(&child, Signal::SIGTERM);
    assert_eq!((event(&mut out), event(&mut out)), ("term".into(), "bye".into()));
    assert_eq!(child.wait().expect("waited").code(), Some(0));

    let (mut child, mut out) = act(&["term=none"]);
    assert_eq!(event(&mut out), "started");
    signal(&child, Signal::SIGTERM);
    assert_eq!(event(&mut out), "");
    assert_eq!(child.wait().expect("waited").code(), None);

    let (mut child, mut out) = act(&["sig=USR1", "code=9"]);
    assert_eq!(event(&mut out), "started");
    signal(&child, Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(100));
    signal(&child, Signal::SIGUSR1);
    assert_eq!((event(&mut out), event(&mut out)), ("term".into(), "bye".into()));
    assert_eq!(child.wait().expect("waited").code(), Some(9));
}

#[test]
fn serves_http() {
    let (mut child, mut out) = act(&["serve=http:28471", "run=20"]);
    assert_eq!(event(&mut out), "started");
    let mut stream = TcpStream::connect("127.0.0.1:28471").expect("listens before `started`");
    stream.write_all(b"GET /hop/204 HTTP/1.1\r\nHost: shop.example\r\nX-Probe: a b\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 302") && answer.contains("Location: /204\r\n"), "{answer}");
    assert_eq!(event(&mut out), "http path=/hop/204 h.Host=shop.example h.X-Probe=a%20b");
    signal(&child, Signal::SIGTERM);
    child.wait().expect("waited");
}

#[test]
fn serves_grpc_health() {
    let (mut child, mut out) = act(&["serve=grpc:28472", "run=20"]);
    assert_eq!(event(&mut out), "started");
    for (service, status) in [("", Some(1)), ("up", Some(1)), ("down", Some(2)), ("else", None)] {
        let mut message = vec![0, 0, 0, 0];
        let field =
            if service.is_empty() { vec![] } else { [&[0x0a, service.len() as u8], service.as_bytes()].concat() };
        message.push(field.len() as u8);
        message.extend(field);
        let mut stream = TcpStream::connect("127.0.0.1:28472").expect("listens");
        let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        request.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        request.extend([0, 0, 1, 1, 4, 0, 0, 0, 1, 0x83]);
        request.extend([0, 0, message.len() as u8, 0, 1, 0, 0, 0, 1]);
        request.extend(message);
        stream.write_all(&request).expect("written");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let has = |part: &[u8]| answer.windows(part.len()).any(|w| w == part);
        match status {
            Some(status) => assert!(has(&[0, 0, 0, 0, 2, 0x08, status]) && has(b"grpc-status\x010"), "{answer:?}"),
            None => assert!(has(b"grpc-status\x015"), "{answer:?}"),
        }
    }
    signal(&child, Signal::SIGTERM);
    child.wait().expect("waited");
}

#[test]
fn refuses_what_it_does_not_know() {
    for words in [&["rum=1"][..], &["hook", "mid"], &["probe", "startup", "exit=1"], &["serve=udp:1"]] {
        let status = Command::new(env!("CARGO_BIN_EXE_act")).args(words).stderr(Stdio::null()).status().expect("runs");
        assert_eq!(status.code(), Some(120), "{words:?}");
    }
}
