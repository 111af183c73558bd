//! Tables as kubectl prints them.

use std::borrow::Cow;

use podwright_sys::printable;

use super::page::{Page, Style, Tone};

/// Blanks between two columns.
const GAP: usize = 3;

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

impl Cell {
    /// As it is printed: with everything visible, so that columns line up.
    fn shown(&self) -> Cow<'_, str> {
        printable::line(&self.text)
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

    /// The rows, the headings before the first of them all.
    pub fn print(&mut self, rows: &[Vec<Cell>]) -> Page {
        self.print_with(rows, |_, _| {})
    }

    /// As [`Self::print`], and whatever `below` adds below each row, by its number.
    pub fn print_with(&mut self, rows: &[Vec<Cell>], below: impl Fn(usize, &mut Page)) -> Page {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.shown().chars().count());
            }
        }
        let mut out = Page::new(self.style);
        if !self.headed {
            self.headed = true;
            let headings: Vec<Cell> = self.headings.iter().map(|h| Cell::from(*h)).collect();
            self.push_row(&mut out, &headings);
        }
        for (n, row) in rows.iter().enumerate() {
            self.push_row(&mut out, row);
            below(n, &mut out);
        }
        out
    }

    fn push_row(&self, out: &mut Page, row: &[Cell]) {
        let last = row.len().saturating_sub(1);
        for (i, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            let text = cell.shown();
            out.part(cell.tone, &text);
            if i < last {
                out.part(Tone::Normal, " ".repeat(width.saturating_sub(text.chars().count()) + GAP));
            }
        }
        out.end_line();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_with_colours_and_later_rows() {
        let mut table = Table::new(vec!["A", "LONG"], Style::Plain);
        assert_eq!(table.print(&[vec!["xyz".into(), "é".into()]]).as_str(), "A     LONG\nxyz   é\n");
        assert_eq!(table.print(&[vec!["é".into(), "1".into()]]).as_str(), "é     1\n");
        let mut table = Table::new(vec!["A", "B"], Style::Coloured);
        let bad = Cell { text: "no".into(), tone: Tone::Bad };
        assert_eq!(table.print(&[vec![bad, "x".into()]]).as_str(), "A    B\n\x1b[31mno\x1b[0m   x\n");
    }

    #[test]
    fn a_cell_stays_in_its_row_and_column() {
        let mut table = Table::new(vec!["A", "B"], Style::Plain);
        let rows = [vec!["a\nb".into(), "x".into()], vec!["\x1b[8m".into(), "y".into()]];
        assert_eq!(table.print(&rows).as_str(), "A           B\na\\nb        x\n\\u{1b}[8m   y\n");
    }
}
