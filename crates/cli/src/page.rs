//! What the program prints for people.
//!
//! Names, messages and output of strangers are in nearly everything that is shown. Nothing gets into a [`Page`] but through
//! its methods, which show what a terminal would obey or hide, and `output::Out` takes nothing else for a terminal:
//! a printer cannot forget it.

use std::fmt::{self, Display};

use podwright_sys::printable;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// No escape sequences.
    Plain,
    /// ANSI colours.
    Coloured,
}

/// What a text means to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Normal,
    /// All is well.
    Good,
    /// Under way, or worth a look.
    Notice,
    /// Something is wrong.
    Bad,
    /// Over.
    Faint,
    /// A heading.
    Heading,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Normal => None,
            Tone::Good => Some("32"),
            Tone::Notice => Some("33"),
            Tone::Bad => Some("31"),
            Tone::Faint => Some("2"),
            Tone::Heading => Some("1"),
        }
    }
}

/// Text whose only escape sequences are its own colours, and whose only line ends are its own.
#[derive(Debug, Clone)]
pub struct Page {
    text: String,
    style: Style,
}

impl Page {
    /// Nothing yet.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Page { text: String::new(), style }
    }

    /// A page of one line.
    #[must_use]
    pub fn of_line(text: impl Display) -> Self {
        let mut page = Page::new(Style::Plain);
        page.line(text);
        page
    }

    /// Its colours.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style
    }

    /// A line. A line end in the text is shown, and ends nothing.
    pub fn line(&mut self, text: impl Display) {
        self.part(Tone::Normal, text);
        self.end_line();
    }

    /// A line of one colour.
    pub fn painted(&mut self, tone: Tone, text: impl Display) {
        self.part(tone, text);
        self.end_line();
    }

    /// Part of a line.
    pub fn part(&mut self, tone: Tone, text: impl Display) {
        let text = text.to_string();
        let text = printable::line(&text);
        match (self.style, tone.code()) {
            (Style::Coloured, Some(code)) => self.text.extend(["\x1b[", code, "m", &*text, "\x1b[0m"]),
            (Style::Plain, _) | (Style::Coloured, None) => self.text.push_str(&text),
        }
    }

    /// Ends the line that was begun, without blanks at its end.
    pub fn end_line(&mut self) {
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
    }

    /// The lines of a text that may have several, the first after `first`, the others after `rest`. Tabs stay.
    pub fn lines(&mut self, (first, rest): (&str, &str), tone: Tone, text: &str) {
        for (n, line) in text.split('\n').enumerate() {
            self.part(Tone::Normal, if n == 0 { first } else { rest });
            for (n, column) in line.split('\t').enumerate() {
                if n > 0 {
                    self.text.push('\t');
                }
                if !column.is_empty() {
                    self.part(tone, column);
                }
            }
            self.end_line();
        }
    }

    /// The lines of another page, each further to the right.
    pub fn append(&mut self, indent: &str, other: &Page) {
        for line in other.text.lines() {
            self.text.extend([indent, line, "\n"]);
        }
    }

    /// What goes to the terminal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
