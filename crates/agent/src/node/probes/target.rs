//! Where an `httpGet` goes: its URL, the form that it takes on the wire, and where a redirect leads.
//!
//! The kubelet reads `path` with Go's `url.Parse`, and takes it as a bare path where that fails (`formatURL` in
//! `pkg/probe/http/request.go`). What is sent here is what it sends, for any path: nothing is left that could not be asked for.

use std::borrow::Cow;

use url::{Host, Url};

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub scheme: String,
    /// An address, or a name in `/etc/hosts`; an IPv6 address with or without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// With its query, as it is written in a manifest.
    pub path: String,
}

/// Where a redirect leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// To the same host.
    Follow(Target),
    /// Elsewhere.
    OtherHost,
    /// It leads nowhere; why.
    Wrong(String),
}

impl Target {
    /// With everything in it escaped that has to be.
    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority(), self.request_target())
    }

    /// What stands behind `GET`.
    pub(super) fn request_target(&self) -> String {
        request_target(&self.path)
    }

    /// Host and port.
    pub(super) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Where a `Location` leads (RFC 3986, 5.3).
    pub(super) fn redirect(&self, location: &str) -> Redirect {
        let Ok(here) = Url::parse(&self.url()) else { return Redirect::OtherHost };
        let there = match here.join(location) {
            Ok(there) => there,
            Err(error) => {
                return Redirect::Wrong(format!("the Location {location:?} of its answer is no URL: {error}"));
            }
        };
        if there.host().is_none() || there.host() != here.host() {
            return Redirect::OtherHost;
        }
        let (true, Some(port)) = (["http", "https"].contains(&there.scheme()), there.port_or_known_default()) else {
            return Redirect::Wrong(format!("unsupported protocol scheme {:?}", there.scheme()));
        };
        let host = match there.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Redirect::OtherHost,
        };
        let query = there.query().map_or_else(String::new, |query| format!("?{query}"));
        let path = format!("{}{query}", there.path());
        Redirect::Follow(Target { scheme: there.scheme().to_owned(), host, port, path })
    }
}

/// Whether a `Location` is complete in itself.
pub(super) fn is_absolute(location: &str) -> bool {
    scheme(location).is_some()
}

/// Host and port as a URL and a Host header have them: an IPv6 address is in brackets.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What stands before the first `:`, if it is a scheme.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    good.then_some(scheme)
}

fn request_target(written: &str) -> String {
    let target = parsed(written).unwrap_or_else(|| escape(written.as_bytes()));
    if target.starts_with('/') { target } else { format!("/{target}") }
}

/// Path and query of what Go's `url.Parse` takes for a URL.
fn parsed(written: &str) -> Option<String> {
    let (url, fragment) = written.split_once('#').unwrap_or((written, ""));
    unescape(fragment)?;
    if url.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let (before, query) = match url.split_once('?') {
        Some((before, query)) => (before, format!("?{}", escape_query(query))),
        None => (url, String::new()),
    };
    // Nobody has named a scheme with a path behind it; a manifest may have a whole URL where its path belongs.
    let scheme = scheme(before).filter(|scheme| before[scheme.len()..].starts_with("://"));
    let rest = scheme.map_or(before, |scheme| &before[scheme.len() + 1..]);
    let with_authority = rest.strip_prefix("//").filter(|rest| scheme.is_some() || !rest.starts_with('/'));
    let path = match with_authority {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            is_authority(authority).then_some(path)?
        }
        None => rest,
    };
    let decoded = unescape(path)?;
    let path = if is_encoded(path) { Cow::Borrowed(path) } else { Cow::Owned(escape(&decoded)) };
    let path = if path.starts_with('/') { path } else { Cow::Owned(format!("/{path}")) };
    Some(format!("{path}{query}"))
}

/// It is left out, and has to be one all the same.
fn is_authority(text: &str) -> bool {
    text.is_empty() || Url::parse(&format!("http://{text}/")).is_ok_and(|url| url.host().is_some())
}

/// With `%XX` replaced; `None` where one of them is none.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// What Go escapes in a path.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte)
}

/// Whether a path is one already, in which case it stays as it is.
fn is_encoded(path: &str) -> bool {
    path.bytes().all(|byte| is_path_byte(byte) || b"!'()*[]%".contains(&byte))
}

fn escape(bytes: &[u8]) -> String {
    escape_all_but(bytes, is_path_byte)
}

/// Go leaves a query as it is, blanks included, with which no server understands the request.
fn escape_query(query: &str) -> String {
    escape_all_but(query.as_bytes(), |byte| byte.is_ascii_graphic() && !b"\"<>".contains(&byte))
}

fn escape_all_but(bytes: &[u8], stays: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if stays(*byte) { out.push(char::from(*byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's net/http sends for what the kubelet's `formatURL` makes of the path, go1.26; but see [`escape_query`].
    const AS_GO_SENDS: &[(&str, &str)] = &[
        ("/", "/"),
        ("/health check", "/health%20check"),
        ("/gesund-prüfung", "/gesund-pr%C3%BCfung"),
        ("/a%zz", "/a%25zz"),
        ("/a%zz?x", "/a%25zz%3Fx"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a b%2Fc", "/a%20b/c"),
        ("/a%20b", "/a%20b"),
        ("/a%", "/a%25"),
        ("/a\nb", "/a%0Ab"),
        ("/a\nb?x", "/a%0Ab%3Fx"),
        ("//evil/x", "/x"),
        ("//evil", "/"),
        ("/a#frag", "/a"),
        ("/a?b#c", "/a?b"),
        ("/a b#c?d", "/a%20b"),
        ("/a/../b", "/a/../b"),
        ("/a//b", "/a//b"),
        ("/[x]", "/[x]"),
        ("/{x}|^`\"<>\\", "/%7Bx%7D%7C%5E%60%22%3C%3E%5C"),
        ("/a;b,c=d@e:f$g&h+i!j'k(l)*m", "/a;b,c=d@e:f$g&h+i!j'k(l)*m"),
        ("?x=1", "/?x=1"),
        ("/?", "/?"),
        ("/a?", "/a?"),
        ("health", "/health"),
        ("http://o/x", "/x"),
        ("/a?x=%zz", "/a?x=%zz"),
        ("/*", "/*"),
        ("*", "/*"),
        ("/a?x#y%zz", "/a%3Fx%23y%25zz"),
        ("/a?x\ny", "/a%3Fx%0Ay"),
        ("/\u{7f}", "/%7F"),
        ("/ ", "/%20"),
        ("//u:p@h:1/x y", "/x%20y"),
        ("//[::1/x", "//%5B::1/x"),
        ("/~a-._", "/~a-._"),
        ("/%C3%BC", "/%C3%BC"),
        ("/%c3%bc b", "/%C3%BC%20b"),
        ("/a:b", "/a:b"),
        ("//h:port/x", "//h:port/x"),
        ("//", "/"),
    ];

    #[test]
    fn a_path_is_sent_as_the_kubelet_sends_it() {
        for (written, sent) in AS_GO_SENDS {
            assert_eq!(request_target(written), *sent, "{written:?}");
        }
        for (written, sent) in [
            ("/a?x=1&y=a b", "/a?x=1&y=a%20b"),
            ("/a?x=ü", "/a?x=%C3%BC"),
            ("/a?q=[1]{2}|\"<>", "/a?q=[1]{2}|%22%3C%3E"),
        ] {
            assert_eq!(request_target(written), sent, "{written:?}");
        }
        // Whatever it is, a request can be made of it.
        for byte in 0..=127u8 {
            for around in ["/a{}b", "/a?b{}c", "/a%{}0", "//{}/x", "{}"] {
                let path = around.replace("{}", &char::from(byte).to_string());
                let target = request_target(&path);
                assert!(target.starts_with('/') && target.parse::<hyper::Uri>().is_ok(), "{path:?} {target}");
            }
        }
    }

    #[test]
    fn redirects_lead_where_rfc_3986_says() {
        let from = |host: &str| Target { scheme: "http".into(), host: host.into(), port: 81, path: "/x/y?q".into() };
        let to = |host: &str, location: &str| match from(host).redirect(location) {
            Redirect::Follow(target) => target.url(),
            Redirect::OtherHost => "other".to_owned(),
            Redirect::Wrong(_) => "wrong".to_owned(),
        };
        for (location, url) in [
            ("/z", "http://a:81/z"),
            ("z?k=/", "http://a:81/x/z?k=/"),
            ("?x=1", "http://a:81/x/y?x=1"),
            ("", "http://a:81/x/y?q"),
            ("#f", "http://a:81/x/y?q"),
            ("../z", "http://a:81/z"),
            ("../../z", "http://a:81/z"),
            (".", "http://a:81/x/"),
            ("g;x=1/../y", "http://a:81/x/y"),
            ("/a/./b/../c", "http://a:81/a/c"),
            ("//a/z", "http://a:80/z"),
            ("//b/z", "other"),
            ("HTTPS://A", "https://a:443/"),
            ("http://u:p@a:9?k", "http://a:9/?k"),
            ("http://[::1]:8/", "other"),
            ("/sp ace/ü", "http://a:81/sp%20ace/%C3%BC"),
            ("mailto:x", "other"),
            ("ftp://a/", "wrong"),
            ("http://a:port/", "wrong"),
        ] {
            assert_eq!(to("a", location), url, "{location}");
        }
        for host in ["::1", "[::1]", "0:0::1"] {
            assert_eq!(to(host, "http://[::1]:9/bad"), "http://[::1]:9/bad");
            assert_eq!(to(host, "http://[0:0::1]/#f"), "http://[::1]:80/");
            assert_eq!(to(host, "http://[::2]/"), "other");
        }
        assert_eq!(from("::1").url(), "http://[::1]:81/x/y?q");
        assert_eq!(from("[::1]").url(), "http://[::1]:81/x/y?q");
    }
}
