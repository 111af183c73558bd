//! `httpGet`: one GET over a fresh connection, redirects on the same host followed.

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{socket, tls};

/// Most of an answer that is read, bytes.
const MAX_BODY: usize = 10 * 1024;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// As kubelet of the API version that podwright follows.
pub(super) const AGENT: &str = "kube-probe/1.35";
/// The same of its hooks.
const HOOK_AGENT: &str = "kube-lifecycle/1.35";

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub scheme: String,
    /// An address, or a name in `/etc/hosts`.
    pub host: String,
    /// The port.
    pub port: u16,
    /// With its query.
    pub path: String,
}

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
    let mut target = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let answer = match once(&target, headers, AGENT, pid).await? {
            Ok(answer) => answer,
            Err(failure) => return Ok(Verdict::Bad(format!("Get \"{}\": {}", target.url(), failure.text))),
        };
        match judge(&first.host, &target, &answer) {
            Next::Follow(next) => target = next,
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
pub async fn hook(first: Target, headers: &[(String, String)], pid: Option<i32>) -> Result<(), String> {
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
        match judge(&target.host, &target, &answer) {
            Next::Follow(next) if redirects < MAX_REDIRECTS => target = next,
            Next::Follow(_) => return Err(format!("Get \"{}\": stopped after {redirects} redirects", target.url())),
            Next::End(_) => return Ok(()),
        }
        redirects += 1;
    }
}

impl Target {
    fn url(&self) -> String {
        format!("{}://{}:{}{}", self.scheme, self.host, self.port, self.path)
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
}

enum Next {
    Follow(Target),
    End(Verdict),
}

fn judge(first_host: &str, target: &Target, answer: &Answer) -> Next {
    if let (301 | 302 | 303 | 307 | 308, Some(location)) = (answer.status, &answer.location) {
        return match redirect(target, location) {
            Some(next) if next.host == first_host => Next::Follow(next),
            _ => Next::End(Verdict::GoodBut(format!(
                "probe at {} ended with a redirect to another host, {location}, which is not followed",
                target.url()
            ))),
        };
    }
    Next::End(match answer.status {
        200..300 => Verdict::Good,
        300..400 => Verdict::GoodBut(format!("probe at {} was answered with status {}", target.url(), answer.status)),
        status => Verdict::Bad(format!("HTTP probe failed with statuscode: {status}")),
    })
}

/// Where a `Location` leads; `None` where it cannot be understood.
fn redirect(from: &Target, location: &str) -> Option<Target> {
    let location = location.split('#').next().unwrap_or(location);
    let (scheme, rest) = match location.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), Some(rest)),
        None => (from.scheme.clone(), location.strip_prefix("//")),
    };
    let Some(rest) = rest else {
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let directory = from.path.split('?').next()?.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{directory}/{location}")
        };
        return Some(Target { path, ..from.clone() });
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some(Target { scheme, host: host.to_owned(), port, path })
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
    fn of(error: &dyn std::error::Error) -> Failure {
        Failure { text: crate::preflight::chain(error), not_tls: false }
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> hyper::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) = builder.title_case_headers(true).handshake(TokioIo::new(stream)).await?;
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
    let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()).map(str::to_owned);
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
    let path = if target.path.starts_with('/') { target.path.clone() } else { format!("/{}", target.path) };
    let mut request = Request::get(path.as_str())
        .body(Empty::new())
        .map_err(|error| format!("path {path:?} is no request target: {error}"))?;
    let map = request.headers_mut();
    for (name, value) in headers {
        let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header name"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of header {name} has characters that none may have"))?;
        map.append(name, value);
    }
    // Given as empty, it is to be left out.
    for (name, default) in [(USER_AGENT, agent), (ACCEPT, "*/*")] {
        match map.get(&name) {
            None => drop(map.insert(name, HeaderValue::from_static(default))),
            Some(given) if given.is_empty() => drop(map.remove(name)),
            Some(_) => {}
        }
    }
    if !map.contains_key(HOST) {
        let host = format!("{}:{}", target.host, target.port);
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
                    "/away" => "HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\n\r\n".to_owned(),
                    "/noise" => "\u{1}\u{2}\u{3}garbage\n\n".to_owned(),
                    "/endless" => {
                        format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}", "x".repeat(MAX_BODY))
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
        for good in ["/200", "/299?x=1", "/endless"] {
            assert_eq!(probe(port, good, &[]).await, Ok(Verdict::Good), "{good}");
        }
        for bad in ["/404", "/500", "/hop", "/loop", "/noise"] {
            assert!(matches!(probe(port, bad, &[]).await, Ok(Verdict::Bad(_))), "{bad}");
        }
        assert!(matches!(probe(port, "/away", &[]).await, Ok(Verdict::GoodBut(m)) if m.contains("example.com")));
        assert!(matches!(probe(port, "/304", &[]).await, Ok(Verdict::GoodBut(_))));
        let loops = asked.lock().unwrap().iter().filter(|r| r.contains(" /loop ")).count();
        assert_eq!(loops, MAX_REDIRECTS + 1);
        assert!(matches!(probe(1, "/200", &[]).await, Ok(Verdict::Bad(m)) if m.contains("refused")));
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

    #[test]
    fn locations() {
        let from = Target { scheme: "http".into(), host: "a".into(), port: 81, path: "/x/y?q".into() };
        let to = |location| redirect(&from, location).map(|t| t.url());
        for (location, url) in [
            ("/z", "http://a:81/z"),
            ("z?k=/", "http://a:81/x/z?k=/"),
            ("//b/z", "http://b:80/z"),
            ("HTTPS://b", "https://b:443/"),
            ("http://u:p@a:9?k", "http://a:9/?k"),
            ("http://[::1]:8/", "http://[::1]:8/"),
            ("http://[::1]/#f", "http://[::1]:80/"),
        ] {
            assert_eq!(to(location).as_deref(), Some(url), "{location}");
        }
        assert_eq!(to("http://a:port/"), None);
    }
}
