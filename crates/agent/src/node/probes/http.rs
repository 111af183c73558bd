//! `httpGet`: one GET over a fresh connection, redirects on the same host followed.

use std::borrow::Cow;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, LOCATION, TRAILER, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::paced::{Informational, Paced};
use super::target::{self, Redirect, Target};
use super::{socket, tls};

/// Most of an answer that is read, bytes.
const MAX_BODY: usize = 10 * 1024;
/// Longest head of an answer, bytes: Go's limit of requests, a tenth of that of answers.
const MAX_HEAD: usize = 1 << 20;
/// Most of a connection that is read, bytes: the head, and a body in chunks as small as they can be.
const MAX_BYTES: usize = MAX_HEAD + 8 * MAX_BODY;
/// Most headers of an answer. Go counts none; the map that they are kept in has room for 24,000 names.
const MAX_HEADERS: usize = 10_000;
/// Headers that say how the request itself is sent, which the client knows better; as Go's `reqWriteExcludeHeader`.
const NOT_SENT: [HeaderName; 4] = [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, CONNECTION];
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// As kubelet of the API version that podwright follows.
pub(super) const AGENT: &str = "kube-probe/1.35";
/// The same of its hooks.
const HOOK_AGENT: &str = "kube-lifecycle/1.35";

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// Success, but the user should know.
    GoodBut(String),
    Bad(String),
}

/// Tries. An error: the probe cannot be tried as it is written.
pub(super) async fn get(first: Target, headers: &[(String, String)], pid: Option<i32>) -> Result<Verdict, String> {
    let (mut target, mut headers) = (first.clone(), Cow::Borrowed(headers));
    for redirects in 0..=MAX_REDIRECTS {
        let answer = match once(&target, &headers, AGENT, pid).await {
            // What cannot be asked for is the manifest's fault once, and then the server's.
            Err(why) if redirects > 0 => return Ok(Verdict::Bad(format!("Get \"{}\": {why}", target.url()))),
            Err(why) => return Err(why),
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => return Ok(Verdict::Bad(format!("Get \"{}\": {}", target.url(), failure.text))),
        };
        match judge(&target, &answer) {
            Next::Follow(next, anew) => {
                target = next;
                if anew {
                    headers.to_mut().retain(|(name, _)| !is_host(name));
                }
            }
            Next::End(verdict) => return Ok(verdict),
        }
    }
    Ok(Verdict::Bad(format!("Get \"{}\": stopped after {MAX_REDIRECTS} redirects", first.url())))
}

/// Makes the request of a hook, however long that takes. Any answer will do. Where TLS is asked for and the server does not
/// speak it, the request is made once more in plain text, without credentials.
///
/// # Errors
/// That there was no answer, and why, for people.
pub(super) async fn hook(first: Target, headers: &[(String, String)], pid: Option<i32>) -> Result<(), String> {
    let mut headers = headers.to_vec();
    let mut target = first;
    let mut redirects = 0;
    loop {
        let answer = match once(&target, &headers, HOOK_AGENT, pid).await? {
            Ok(answer) => answer,
            Err(Failure { not_tls: true, .. }) if target.scheme == "https" => {
                target.scheme = "http".to_owned();
                headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
                continue;
            }
            Err(failure) => return Err(format!("Get \"{}\": {}", target.url(), failure.text)),
        };
        match judge(&target, &answer) {
            Next::Follow(next, anew) if redirects < MAX_REDIRECTS => {
                target = next;
                headers.retain(|(name, _)| !(anew && is_host(name)));
            }
            Next::Follow(..) => return Err(format!("Get \"{}\": stopped after {redirects} redirects", target.url())),
            // As Go's client does with a Location that it cannot follow.
            Next::End(Verdict::Bad(why)) if answer.is_redirect() => return Err(why),
            Next::End(_) => return Ok(()),
        }
        redirects += 1;
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
}

impl Answer {
    fn is_redirect(&self) -> bool {
        (300..400).contains(&self.status)
    }
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case(HOST.as_str())
}

enum Next {
    /// The second: nothing of the request before it holds, its Host header neither.
    Follow(Target, bool),
    End(Verdict),
}

fn judge(target: &Target, answer: &Answer) -> Next {
    if let (301 | 302 | 303 | 307 | 308, Some(location)) = (answer.status, &answer.location) {
        return match target.redirect(location) {
            Redirect::Follow(next) => Next::Follow(next, target::is_absolute(location)),
            Redirect::OtherHost => Next::End(Verdict::GoodBut(format!(
                "probe at {} ended with a redirect to another host, {location}, which is not followed",
                target.url()
            ))),
            Redirect::Wrong(why) => Next::End(Verdict::Bad(format!("Get \"{}\": {why}", target.url()))),
        };
    }
    Next::End(match answer.status {
        200..300 => Verdict::Good,
        300..400 => Verdict::GoodBut(format!("probe at {} was answered with status {}", target.url(), answer.status)),
        status => Verdict::Bad(format!("HTTP probe failed with statuscode: {status}")),
    })
}

/// One request. The outer error: it cannot be made; the inner one: it failed.
async fn once(
    target: &Target,
    headers: &[(String, String)],
    agent: &'static str,
    pid: Option<i32>,
) -> Result<Result<Answer, Failure>, String> {
    let request = request(target, headers, agent)?;
    let stream = match socket::connect(&target.host, target.port, pid).await {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(Failure::of(&error))),
    };
    let answer = if target.scheme == "https" {
        match tls::connect(stream, &target.host).await {
            Ok(stream) => exchange(stream, request).await,
            Err(error) => {
                let not_tls = tls::is_not_tls(&error);
                return Ok(Err(Failure { not_tls, ..Failure::of(&error) }));
            }
        }
    } else {
        exchange(stream, request).await
    };
    Ok(answer.map_err(|error| Failure::of(&error)))
}

/// Why there was no answer.
#[derive(Debug)]
struct Failure {
    text: String,
    /// TLS was tried with a server that does not speak it.
    not_tls: bool,
}

impl Failure {
    fn of(error: &(dyn std::error::Error + 'static)) -> Failure {
        Failure { text: podwright_sys::error::chain(error), not_tls: false }
    }
}

async fn exchange<S>(stream: S, mut request: Request<Empty<Bytes>>) -> hyper::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let informational = Informational::default();
    let stream = Paced::new(stream, MAX_BYTES, informational.clone());
    hyper::ext::on_informational(&mut request, move |_| informational.count());
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.title_case_headers(true).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut connection = std::pin::pin!(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        read(response).await
    };
    let mut answer = std::pin::pin!(answer);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            // Its end is seen by the answer too, with a better error.
            _ended = &mut connection, if open => open = false,
        }
    }
}

async fn read(mut response: Response<Incoming>) -> hyper::Result<Answer> {
    let status = response.status().as_u16();
    let location = response.headers().get(LOCATION).filter(|location| !location.is_empty());
    let location = location.map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
    let mut read = 0;
    while read < MAX_BODY {
        match response.body_mut().frame().await {
            Some(frame) => read += frame?.data_ref().map_or(0, Bytes::len),
            None => break,
        }
    }
    Ok(Answer { status, location })
}

fn request(
    target: &Target,
    headers: &[(String, String)],
    agent: &'static str,
) -> Result<Request<Empty<Bytes>>, String> {
    let path = target.request_target();
    let mut request = Request::get(path.as_str())
        .body(Empty::new())
        .map_err(|error| format!("path {path:?} is no request target: {error}"))?;
    let map = request.headers_mut();
    for (name, value) in headers {
        let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header name"))?;
        let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes())
            .map_err(|_| format!("the value of header {name} has characters that none may have"))?;
        // Of what there can be only one of, the first holds.
        let again = [HOST, USER_AGENT].contains(&name) && map.contains_key(&name);
        if !again && !NOT_SENT.contains(&name) {
            map.append(name, value);
        }
    }
    // Given as empty, it is to be left out.
    for (name, default) in [(USER_AGENT, agent), (ACCEPT, "*/*")] {
        match map.get(&name) {
            None => drop(map.insert(name, HeaderValue::from_static(default))),
            Some(given) if given.is_empty() => drop(map.remove(name)),
            Some(_) => {}
        }
    }
    if map.get(HOST).is_none_or(HeaderValue::is_empty) {
        let host = target.authority();
        map.insert(HOST, HeaderValue::from_str(&host).map_err(|_| format!("{host:?} is no host"))?);
    }
    map.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers every request by its path, keeps what was asked.
    async fn server() -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = vec![0; 4096];
                let n = stream.read(&mut text).await.unwrap();
                let text = String::from_utf8_lossy(&text[..n]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or("").to_owned();
                log.lock().unwrap().push(text);
                let answer = match path.as_str() {
                    "/hop" => "HTTP/1.1 302 Found\r\nLocation: /404\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    "/loop" => "HTTP/1.1 302 Found\r\nLocation: loop\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    "/a/q" => "HTTP/1.1 302 Found\r\nLocation: ?x=1\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    "/a/q?x=1" => "HTTP/1.1 204 X\r\n\r\n".to_owned(),
                    "/health%20check?x=%C3%BC" => "HTTP/1.1 302 X\r\nLocation: /pr\u{fc}fung b\r\n\r\n".to_owned(),
                    "/pr%C3%BCfung%20b" => "HTTP/1.1 204 X\r\n\r\n".to_owned(),
                    "/wrong" => "HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:x/\r\n\r\n".to_owned(),
                    "/headers" => {
                        let headers: String = (0..5000).map(|n| format!("X-{n}: {}\r\n", "y".repeat(150))).collect();
                        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n")
                    }
                    "/headers/many" => {
                        let headers: String = (0..40_000).map(|n| format!("X-{n}: y\r\n")).collect();
                        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n")
                    }
                    "/headers/long" => {
                        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(2 * MAX_HEAD))
                    }
                    "/away" => "HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\n\r\n".to_owned(),
                    "/noise" => "\u{1}\u{2}\u{3}garbage\n\n".to_owned(),
                    "/endless" => {
                        format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}", "x".repeat(MAX_BODY))
                    }
                    "/onward" => {
                        format!("HTTP/1.1 302 Found\r\nLocation: /{}\r\nContent-Length: 0\r\n\r\n", "y".repeat(900_000))
                    }
                    "/informed" => {
                        let informed = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(5);
                        format!("{informed}HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n")
                    }
                    "/silent" => std::future::pending().await,
                    status => {
                        format!("HTTP/1.1 {} X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", &status[1..4])
                    }
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                if path == "/endless" {
                    std::mem::forget(stream);
                }
            }
        });
        (port, asked)
    }

    async fn probe(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Verdict, String> {
        let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let target = Target { scheme: "http".into(), host: "127.0.0.1".into(), port, path: path.into() };
        get(target, &headers, None).await
    }

    #[tokio::test]
    async fn answers_are_judged_like_the_kubelet_does() {
        let (port, asked) = server().await;
        for good in ["/200", "/299?x=1", "/endless", "/a/q", "/health check?x=ü", "/headers", "/informed"] {
            assert_eq!(probe(port, good, &[]).await, Ok(Verdict::Good), "{good}");
        }
        for bad in
            ["/404", "/500", "/onward", "/hop", "/loop", "/noise", "/wrong", "/headers/many", "/headers/long", "/a%zz"]
        {
            assert!(matches!(probe(port, bad, &[]).await, Ok(Verdict::Bad(_))), "{bad}");
        }
        assert!(matches!(probe(port, "/away", &[]).await, Ok(Verdict::GoodBut(m)) if m.contains("example.com")));
        assert!(matches!(probe(port, "/304", &[]).await, Ok(Verdict::GoodBut(_))));
        let loops = asked.lock().unwrap().iter().filter(|r| r.contains(" /loop ")).count();
        assert_eq!(loops, MAX_REDIRECTS + 1);
        assert!(matches!(probe(1, "/200", &[]).await, Ok(Verdict::Bad(m)) if m.contains("refused")));
    }

    /// Sends informational answers as fast as they are taken, until nobody takes them.
    fn informing() -> (u16, std::thread::JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap() > 0);
            let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
            while std::io::Write::write_all(&mut stream, flood.as_bytes()).is_ok() {}
        });
        (port, server)
    }

    /// What becomes of a request in a thread with one runtime, and how often others, who want ten turns a second, had one meanwhile; `None`:
    /// nothing within ten seconds.
    fn in_a_thread<T: Send + 'static>(
        ask: impl Future<Output = T> + Send + 'static,
    ) -> (Option<T>, Arc<std::sync::atomic::AtomicUsize>) {
        let (sender, answer) = std::sync::mpsc::channel();
        let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let answer = runtime.block_on(async {
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
                ask.await
            });
            sender.send(answer).ok();
        });
        (answer.recv_timeout(std::time::Duration::from_secs(10)).ok(), turns)
    }

    #[test]
    fn a_flood_of_informational_answers_holds_nobody_up() {
        let to = |port| Target { scheme: "http".into(), host: "127.0.0.1".into(), port, path: "/".into() };
        // The control: hyper alone skips them without end, and its thread does nothing else.
        let (port, _goes_on) = informing();
        let (alone, turns) = in_a_thread(async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let mut builder = hyper::client::conn::http1::Builder::new();
            builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
            let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let request = request(&to(port), &[], AGENT).unwrap();
            tokio::time::timeout(std::time::Duration::from_secs(2), sender.send_request(request)).await.is_err()
        });
        assert_ne!(alone, Some(false), "it is not answered");
        assert!(turns.load(std::sync::atomic::Ordering::Relaxed) < 10, "{turns:?}");

        let (port, server) = informing();
        let (probed, _) = in_a_thread(async move { get(to(port), &[], None).await });
        assert!(matches!(&probed, Some(Ok(Verdict::Bad(why))) if why.contains("informational")), "{probed:?}");
        server.join().unwrap();
        let (port, server) = informing();
        let (hooked, _) = in_a_thread(async move { hook(to(port), &[], None).await });
        assert!(matches!(&hooked, Some(Err(why)) if why.contains("informational")), "{hooked:?}");
        server.join().unwrap();
    }

    #[tokio::test]
    async fn hooks_want_an_answer_and_no_more() {
        let (port, asked) = server().await;
        let to = |scheme: &str, path: &str| Target {
            scheme: scheme.to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
            path: path.to_owned(),
        };
        let secret = [("Authorization".to_owned(), "x".to_owned()), ("X-A".to_owned(), "1".to_owned())];
        for path in ["/200", "/500", "/hop", "/away"] {
            assert_eq!(hook(to("http", path), &secret, None).await, Ok(()), "{path}");
        }
        assert!(asked.lock().unwrap()[0].contains(&format!("User-Agent: {HOOK_AGENT}")));
        assert!(asked.lock().unwrap()[0].contains("Authorization: x"));
        assert!(hook(to("http", "/noise"), &[], None).await.is_err());
        assert!(hook(to("http", "/loop"), &[], None).await.unwrap_err().contains("redirects"));
        assert!(hook(Target { port: 1, ..to("http", "/") }, &[], None).await.unwrap_err().contains("refused"));
    }

    /// Answers in plain text to whatever is said first.
    #[tokio::test]
    async fn a_hook_over_tls_is_repeated_in_plain_text_where_the_server_speaks_no_tls() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, mut asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = vec![0; 4096];
                let n = stream.read(&mut text).await.unwrap();
                log.send(String::from_utf8_lossy(&text[..n]).into_owned()).unwrap();
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
        });
        let target = Target { scheme: "https".into(), host: "127.0.0.1".into(), port, path: "/".into() };
        let headers = [("authorization".to_owned(), "secret".to_owned()), ("X-A".to_owned(), "1".to_owned())];
        assert_eq!(hook(target.clone(), &headers, None).await, Ok(()));
        asked.recv().await.unwrap();
        let plain = asked.recv().await.unwrap();
        assert!(plain.starts_with("GET / HTTP/1.1") && plain.contains("X-A: 1"), "{plain}");
        assert!(!plain.to_ascii_lowercase().contains("authorization"), "{plain}");
        // A probe is not repeated.
        assert!(matches!(get(target, &[], None).await, Ok(Verdict::Bad(_))));
    }

    #[tokio::test]
    async fn headers_are_the_users_first() {
        let (port, asked) = server().await;
        probe(port, "200", &[]).await.unwrap();
        let own = [("User-Agent", ""), ("Accept", "text/plain"), ("Host", "web.local"), ("X-A", "1"), ("X-A", "2")];
        probe(port, "/200", &own).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        assert!(asked[0].starts_with("GET /200 HTTP/1.1\r\n"), "{}", asked[0]);
        for line in [
            format!("User-Agent: {AGENT}"),
            "Accept: */*".into(),
            format!("Host: 127.0.0.1:{port}"),
            "Connection: close".into(),
        ] {
            assert!(asked[0].contains(&line), "{line} in {}", asked[0]);
        }
        assert!(!asked[1].contains("User-Agent"));
        for line in ["Accept: text/plain", "Host: web.local", "X-A: 1", "X-A: 2"] {
            assert!(asked[1].contains(line), "{line} in {}", asked[1]);
        }
        assert!(probe(port, "/200", &[("bad name", "")]).await.is_err());
    }

    #[tokio::test]
    async fn of_what_there_can_be_only_one_of_the_first_is_sent() {
        let (port, asked) = server().await;
        let own = [
            ("Host", "first.local"),
            ("host", "second.local"),
            ("Content-Length", "7"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "keep-alive"),
            ("X-Name", " \tgrün "),
        ];
        probe(port, "/200", &own).await.unwrap();
        probe(port, "/a/q", &own).await.unwrap();
        let own = [("Host", "")];
        probe(port, "/200", &own).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        let headers = |n: usize| -> Vec<String> { asked[n].trim().lines().skip(1).map(str::to_lowercase).collect() };
        let mut first = headers(0);
        first.sort_unstable();
        let agent = format!("user-agent: {AGENT}");
        assert_eq!(first, ["accept: */*", "connection: close", "host: first.local", agent.as_str(), "x-name: grün"]);
        // A relative redirect stays with the host that was named.
        assert!(headers(2).contains(&"host: first.local".to_owned()), "{}", asked[2]);
        assert!(headers(3).contains(&format!("host: 127.0.0.1:{port}")), "{}", asked[3]);
    }

    #[tokio::test]
    async fn an_ipv6_address_is_in_brackets_and_the_same_host_in_a_redirect() {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, mut asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = vec![0; 4096];
                let n = stream.read(&mut text).await.unwrap();
                let text = String::from_utf8_lossy(&text[..n]).into_owned();
                let answer = if text.starts_with("GET /bad") {
                    "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".to_owned()
                } else {
                    format!("HTTP/1.1 302 X\r\nLocation: http://[::1]:{port}/bad\r\nContent-Length: 0\r\n\r\n")
                };
                log.send(text).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        for host in ["::1", "[::1]"] {
            let target = Target { scheme: "http".into(), host: host.into(), port, path: "/x".into() };
            let own = [("Host".to_owned(), "web.local".to_owned())];
            assert!(matches!(get(target.clone(), &own, None).await, Ok(Verdict::Bad(why)) if why.contains("500")));
            assert!(asked.recv().await.unwrap().contains("Host: web.local\r\n"));
            // A whole URL says its own host.
            assert!(asked.recv().await.unwrap().contains(&format!("Host: [::1]:{port}\r\n")));
            assert!(matches!(get(target, &[], None).await, Ok(Verdict::Bad(_))));
            assert!(asked.recv().await.unwrap().contains(&format!("Host: [::1]:{port}\r\n")));
            asked.recv().await.unwrap();
        }
    }
}
