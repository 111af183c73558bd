//! Texts of a manifest in messages.

/// A string for a message: quoted, escaped, cut when long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("\"{}\"", cut.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\""))
}
