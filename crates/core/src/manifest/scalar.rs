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
    let number = |int, float| Content::Number { int, float, text: text.to_owned() };
    match text.as_bytes() {
        [b'0'..=b'9' | b'+' | b'-', ..] => {}
        // It has no `_` in it.
        [b'.', ..] => return float(text).map_or_else(|| Content::String(text.to_owned()), |f| number(whole(f), f)),
        _ => return Content::String(text.to_owned()),
    }
    let plain = text.replace('_', "");
    if let Some(int) = integer(&plain) {
        #[expect(clippy::cast_precision_loss, reason = "the float is only used where there is no integer")]
        return number(i64::try_from(int).ok(), int as f64);
    }
    match float(&plain) {
        Some(float) => number(whole(float), float),
        None => Content::String(text.to_owned()),
    }
}

/// Whether the text is an integer of YAML, and no other number.
pub(super) fn is_integer(text: &str) -> bool {
    integer(&text.replace('_', "")).is_some()
}

/// What Go's `strconv.ParseInt` and `ParseUint` take with base 0, and what go-yaml takes besides: decimal, `0x`, `0b`, `0o`, or octal
/// with a leading 0.
fn integer(text: &str) -> Option<i128> {
    let (negative, rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lower = rest.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)];
    let based = prefixes.into_iter().find_map(|(prefix, radix)| Some((lower.strip_prefix(prefix)?, radix)));
    let (body, radix) =
        based.filter(|(body, radix)| *radix != 8 || !body.is_empty() || lower == "0o").unwrap_or((&lower, 10));
    // A sign behind `0b`, as in `0b-1`, go-yaml takes as well.
    let digits = body.strip_prefix(['-', '+']).filter(|_| text.starts_with("0b")).unwrap_or(body);
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative || digits != body && body.starts_with('-') { -magnitude } else { magnitude };
    let most = if text.starts_with('+') { i128::from(i64::MAX) } else { i128::from(u64::MAX) };
    (i128::from(i64::MIN)..=most).contains(&value).then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, `.inf`, `.nan`. What is too large for a float is none.
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
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let good_mantissa = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let good_exponent = exponent.is_none_or(|exponent| {
        let power = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !power.is_empty() && digits(power)
    });
    if !good_mantissa || !good_exponent {
        return None;
    }
    text.parse().ok().filter(|float: &f64| float.is_finite())
}

/// What a reader of JSON takes for an integer of what Go writes a float as: `1e3` is 1000.
fn whole(float: f64) -> Option<i64> {
    // Beyond, Go writes an exponent, which no integer has.
    const LARGEST: f64 = 1e21;
    if float.fract() != 0.0 || float.abs() >= LARGEST { None } else { format!("{float}").parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the library reads it with which Kubernetes reads manifests.
    #[test]
    fn scalars_are_what_kubernetes_reads() {
        let mut checked = 0;
        for line in include_str!("scalars.tsv").lines().filter(|line| !line.starts_with('#')) {
            let (text, json) = line.split_once('\t').unwrap();
            let content = resolve(text);
            match serde_json::from_str::<serde_json::Value>(json) {
                Ok(serde_json::Value::Number(expected)) => {
                    let Content::Number { int, float, .. } = content else {
                        panic!("{text} is {content:?}, not {json}")
                    };
                    // -0 is an integer in Go and a float in Rust.
                    assert_eq!(int, expected.as_i64().or((json == "-0").then_some(0)), "{text}");
                    assert_eq!(Some(float), expected.as_f64(), "{text}");
                }
                Ok(serde_json::Value::String(expected)) => assert_eq!(content, Content::String(expected), "{text}"),
                Ok(serde_json::Value::Bool(expected)) => {
                    assert_eq!(content, Content::Bool { value: expected, text: text.to_owned() });
                }
                Ok(serde_json::Value::Null) => assert_eq!(content, Content::Null, "{text}"),
                Ok(other) => panic!("{other}"),
                Err(_) => {
                    assert_eq!(json, "error");
                    assert!(
                        matches!(content, Content::Number { int: None, float, .. } if !float.is_finite()),
                        "{text}"
                    );
                }
            }
            checked += 1;
        }
        assert!(checked > 150, "{checked}");
    }
}
