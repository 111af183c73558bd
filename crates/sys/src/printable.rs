//! Text of strangers on its way to a terminal or to a line of a log.
//!
//! A container's output, a termination message, the name of an image or of a file may have escape sequences, line ends and
//! invisible characters in it. What passes here is still readable, commands nothing, and stays on its line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal obeys the character, or a reader cannot see it: controls (C0, C1, DEL), line separators, marks and
/// overrides of direction, and what has no width (Unicode's default ignorables). Variation selectors, which emoji have, and
/// the blank are none of these.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{fdd0}'..='\u{fdef}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// The text on one line: what is hidden is shown as Rust writes it, as in `\u{1b}` and `\n`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, is_hidden)
}

/// The text with its line ends and tabs; everything else that is hidden is shown.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    shown(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

/// Of a text in JSON: the same text for every reader of JSON, with nothing hidden but line ends and tabs, which inside of a
/// string JSON writes as escapes anyway.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let hidden = |c| is_hidden(c) && !matches!(c, '\n' | '\t');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                write!(out, "\\u{unit:04x}").ok();
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn shown(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_a_reader_cannot_see_is_shown() {
        for (given, on_a_line, on_lines, in_json) in [
            (
                "plain ä 日本 e\u{301} ❤\u{fe0f}",
                "plain ä 日本 e\u{301} ❤\u{fe0f}",
                "plain ä 日本 e\u{301} ❤\u{fe0f}",
                "plain ä 日本 e\u{301} ❤\u{fe0f}",
            ),
            ("a\nb\tc", "a\\nb\\tc", "a\nb\tc", "a\nb\tc"),
            (
                "\x1b[2J\x07\x08\r\x7f\0",
                "\\u{1b}[2J\\u{7}\\u{8}\\r\\u{7f}\\u{0}",
                "\\u{1b}[2J\\u{7}\\u{8}\\r\\u{7f}\\u{0}",
                "\\u001b[2J\\u0007\\u0008\\u000d\\u007f\\u0000",
            ),
            ("\u{85}\u{9b}1m", "\\u{85}\\u{9b}1m", "\\u{85}\\u{9b}1m", "\\u0085\\u009b1m"),
            (
                "\u{202e}\u{2066}\u{200b}\u{2028}",
                "\\u{202e}\\u{2066}\\u{200b}\\u{2028}",
                "\\u{202e}\\u{2066}\\u{200b}\\u{2028}",
                "\\u202e\\u2066\\u200b\\u2028",
            ),
            ("\u{e0041}\u{feff}", "\\u{e0041}\\u{feff}", "\\u{e0041}\\u{feff}", "\\udb40\\udc41\\ufeff"),
        ] {
            assert_eq!((&*line(given), &*lines(given), &*json(given)), (on_a_line, on_lines, in_json), "{given:?}");
        }
    }
}
