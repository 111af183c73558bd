//! What names may look like, as the API server checks it.
//!
//! Each check gives what is accepted when the name is not.

const LABEL: &str =
    "accepted: at most 63 lower case letters, digits and '-', beginning and ending with a letter or digit";
const SUBDOMAIN: &str = "accepted: at most 253 lower case letters, digits, '-' and '.', each part beginning and ending with a letter or digit";
const QUALIFIED: &str = "accepted: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or \
                         digit, after an optional prefix that is a DNS name and '/'";
const LABEL_VALUE: &str =
    "accepted: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, or empty";
const PORT: &str = "accepted: at most 15 lower case letters, digits and single '-', with a letter, neither beginning nor \
                    ending with '-'";
const ENV: &str = "accepted: printable ASCII characters without '='";
const HEADER: &str = "accepted: letters, digits and '-'";
const HEADER_VALUE: &str = "accepted: one line of text without control characters";
const HOST: &str = "accepted: an address or the name of a host";

type Check = Result<(), &'static str>;

fn hold(condition: bool, accepted: &'static str) -> Check {
    if condition { Ok(()) } else { Err(accepted) }
}

fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| is_lower(*b) || *b == b'-')
        && bytes.first().copied().is_some_and(is_lower)
        && bytes.last().copied().is_some_and(is_lower)
}

/// DNS label (RFC 1123): containers, volumes, namespaces, host names.
pub(super) fn label(name: &str) -> Check {
    hold(is_label(name), LABEL)
}

fn is_subdomain(name: &str) -> bool {
    let part = |p: &str| {
        let bytes = p.as_bytes();
        bytes.iter().all(|b| is_lower(*b) || *b == b'-')
            && bytes.first().copied().is_some_and(is_lower)
            && bytes.last().copied().is_some_and(is_lower)
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// DNS subdomain (RFC 1123): pods.
pub(super) fn subdomain(name: &str) -> Check {
    hold(is_subdomain(name), SUBDOMAIN)
}

fn is_qualified_part(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Keys of labels.
pub(super) fn label_key(name: &str) -> Check {
    let good = match name.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_qualified_part(name),
        None => is_qualified_part(name),
    };
    hold(good, QUALIFIED)
}

/// Keys of annotations: as of labels, but the prefix may have upper case letters.
pub(super) fn annotation_key(name: &str) -> Check {
    label_key(&name.to_lowercase())
}

/// Values of labels.
pub(super) fn label_value(value: &str) -> Check {
    hold(value.is_empty() || is_qualified_part(value), LABEL_VALUE)
}

/// Names of ports (RFC 6335).
pub(super) fn port(name: &str) -> Check {
    let good = (1..=15).contains(&name.len())
        && name.bytes().all(|b| is_lower(b) || b == b'-')
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.contains("--")
        && !name.starts_with('-')
        && !name.ends_with('-');
    hold(good, PORT)
}

/// Names of variables.
pub(super) fn env(name: &str) -> Check {
    hold(!name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'='), ENV)
}

/// Names of HTTP headers.
pub(super) fn header(name: &str) -> Check {
    hold(!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), HEADER)
}

/// Values of HTTP headers: a line end in one would be the begin of another.
pub(super) fn header_value(value: &str) -> Check {
    hold(value.chars().all(|c| c == '\t' || !c.is_ascii_control()), HEADER_VALUE)
}

/// Hosts of probes and hooks: whatever can stand in a URL.
pub(super) fn host(name: &str) -> Check {
    let good = |c: char| c.is_ascii_alphanumeric() || "-._~:%[]".contains(c);
    hold(!name.is_empty() && name.chars().all(|c| !c.is_ascii() || good(c)) && !name.contains(char::is_control), HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_api_server_takes_them() {
        let long = "a".repeat(64);
        for (check, good, bad) in [
            (
                label as fn(&str) -> Check,
                vec!["a", "web-1", &long[..63]],
                vec!["", "-a", "a-", "A", "a.b", "a_b", &long],
            ),
            (subdomain, vec!["a", "a.b-c", "1.2"], vec!["", ".", "a..b", "a.", "A.b", "a.-b"]),
            (label_key, vec!["app", "a.b/C_d", "K8s.io"], vec!["", "/a", "a/", "a/b/c", "A.b/c", "-a", "a b"]),
            (annotation_key, vec!["A.b/C"], vec!["a b"]),
            (label_value, vec!["", "v1.2_3-x", "A"], vec!["-", "a ", "a/b", &long]),
            (port, vec!["http", "a-1", "9p"], vec!["", "80", "-a", "a-", "a--b", "HTTP", "abcdefghijklmnop"]),
            (env, vec!["A", "a.b-c", "_"], vec!["", "A=B", "ä", "\t"]),
            (header, vec!["X-Probe"], vec!["", "X Y", "X:"]),
            (header_value, vec!["", "a\tb", "grün", "a: b"], vec!["a\r\nX: y", "\n", "\0", "\u{7f}", "\u{1}"]),
            (
                host,
                vec!["::1", "[::1]", "fe80::1%eth0", "my_db.local"],
                vec!["", "a b", "a/b", "a?b", "a#b", "u@h", "a\nb", "\\"],
            ),
        ] {
            for name in good {
                assert_eq!(check(name), Ok(()), "{name:?}");
            }
            for name in bad {
                assert!(check(name).is_err(), "{name:?}");
            }
        }
    }
}
