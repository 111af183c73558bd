//! What an unquoted YAML scalar is.
//!
//! Kubernetes reads manifests with go-yaml v2, that is by YAML 1.1: `yes` and `on` are booleans, `0644` is octal. Reading
//! them otherwise would accept manifests here that mean something else in a cluster.

use super::node::Content;

/// Resolves the text of a plain scalar.
pub(super) fn resolve(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Content::Bool { value: true, text: text.to_owned() };
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Content::Bool { value: false, text: text.to_owned() };
        }
        _ => {}
    }
    if let Some(int) = integer(text) {
        #[expect(clippy::cast_precision_loss, reason = "the float is only used where there is no integer")]
        let float = int as f64;
        return Content::Number { int: Some(int), float, text: text.to_owned() };
    }
    match float(text) {
        Some(float) => Content::Number { int: None, float, text: text.to_owned() },
        None => Content::String(text.to_owned()),
    }
}

/// Decimal, `0x`, `0b`, `0o` or octal with a leading 0; `_` between digits.
fn integer(text: &str) -> Option<i64> {
    let digits = text.replace('_', "");
    let (negative, rest) = match digits.strip_prefix(['-', '+']) {
        Some(rest) => (digits.starts_with('-'), rest),
        None => (false, digits.as_str()),
    };
    if !rest.starts_with(|c: char| c.is_ascii_digit()) || text.starts_with('_') {
        return None;
    }
    let lower = rest.to_ascii_lowercase();
    let (radix, body) = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)]
        .into_iter()
        .find_map(|(prefix, radix)| lower.strip_prefix(prefix).map(|body| (radix, body)))
        .filter(|(_, body)| !body.is_empty())
        .unwrap_or((10, &lower));
    if !body.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from_str_radix(body, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// `[-+]?[0-9]*\.?[0-9]+([eE][-+][0-9]+)?`, `.inf`, `.nan`.
fn float(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or(("", mantissa));
    let good_mantissa = !fraction.is_empty() && digits(whole) && digits(fraction);
    let good_exponent = exponent.is_none_or(|e| {
        let power = e.strip_prefix(['-', '+']);
        power.is_some_and(|p| !p.is_empty() && digits(p))
    });
    if good_mantissa && good_exponent { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_go_yaml_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("12", Some(12)),
            ("-3", Some(-3)),
            ("+4", Some(4)),
            ("0644", Some(420)),
            ("0o17", Some(15)),
            ("0x1F", Some(31)),
            ("0b101", Some(5)),
            ("1_000", Some(1000)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("089", None),
            ("0x", None),
            ("0x-1", None),
            ("1-2", None),
            ("-", None),
            ("_1", None),
            ("ten", None),
        ];
        for (text, expected) in cases {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    #[test]
    fn floats_and_words() {
        for (text, number) in
            [("0.5", true), (".5", true), ("1e3", false), ("1e+3", true), ("5.", false), ("1.2.3", false)]
        {
            assert_eq!(matches!(resolve(text), Content::Number { .. }), number, "{text}");
        }
        assert!(matches!(resolve("089"), Content::Number { int: None, .. }));
        assert_eq!(resolve("yes"), Content::Bool { value: true, text: "yes".into() });
        assert_eq!(resolve("N"), Content::Bool { value: false, text: "N".into() });
        assert_eq!(resolve("~"), Content::Null);
        assert_eq!(resolve("100m"), Content::String("100m".into()));
        assert_eq!(resolve("2001-01-01"), Content::String("2001-01-01".into()));
    }
}
