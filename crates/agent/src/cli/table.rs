//! Tables as kubectl prints them, and colours.

/// Blanks between two columns.
const GAP: usize = 3;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// No escape sequences.
    Plain,
    /// ANSI colours.
    Coloured,
}

/// What a cell's text means to its reader.
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
}

impl Tone {
    /// The text in its colour.
    pub fn paint(self, text: &str, style: Style) -> String {
        let code = match (style, self) {
            (Style::Plain, _) | (_, Tone::Normal) => return text.to_owned(),
            (_, Tone::Good) => "32",
            (_, Tone::Notice) => "33",
            (_, Tone::Bad) => "31",
            (_, Tone::Faint) => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell { text: text.into(), tone: Tone::Normal }
    }
}

/// A table that is printed at once or row by row: widths only grow, so that later rows stay below their headings.
#[derive(Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    widths: Vec<usize>,
    style: Style,
    headed: bool,
}

impl Table {
    /// A table with these columns.
    pub fn new(headings: Vec<&'static str>, style: Style) -> Self {
        let widths = headings.iter().map(|h| h.chars().count()).collect();
        Table { headings, widths, style, headed: false }
    }

    /// The rows as text, the headings before the first of them all.
    pub fn print(&mut self, rows: Vec<Vec<Cell>>) -> String {
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut out = String::new();
        if !self.headed {
            self.headed = true;
            let headings: Vec<Cell> = self.headings.iter().map(|h| Cell::from(*h)).collect();
            self.push_row(&mut out, &headings);
        }
        for row in &rows {
            self.push_row(&mut out, row);
        }
        out
    }

    fn push_row(&self, out: &mut String, row: &[Cell]) {
        let last = row.len().saturating_sub(1);
        for (i, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            out.push_str(&cell.tone.paint(&cell.text, self.style));
            if i < last {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.text.chars().count()) + GAP));
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_with_colours_and_later_rows() {
        let mut table = Table::new(vec!["A", "LONG"], Style::Plain);
        assert_eq!(table.print(vec![vec!["xyz".into(), "é".into()]]), "A     LONG\nxyz   é\n");
        assert_eq!(table.print(vec![vec!["é".into(), "1".into()]]), "é     1\n");
        let mut table = Table::new(vec!["A", "B"], Style::Coloured);
        let bad = Cell { text: "no".into(), tone: Tone::Bad };
        assert_eq!(table.print(vec![vec![bad, "x".into()]]), "A    B\n\x1b[31mno\x1b[0m   x\n");
    }
}
