//! The life of a pod as a chart of characters.

use podwright_core::timeline::{Doing, Mark, Row, Timeline, What};
use podwright_sys::printable;

use super::moments::{doing_name, length, tick_format, time, what_name};
use super::page::{Page, Style, Tone};

/// Longest name of a container that is shown in full, characters.
const LONGEST_NAME: usize = 24;
/// Columns between two times on the axis, at least.
const TICK_EVERY: usize = 16;
/// Most lines of the list below the chart.
const MOST_MARKS: usize = 20;

/// The characters of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signs {
    /// Blocks and crosses.
    Unicode,
    /// For terminals and mails without them.
    Ascii,
}

impl Signs {
    fn span(self, doing: Doing) -> char {
        match (self, doing) {
            (Signs::Unicode, Doing::Waiting) => '·',
            (Signs::Unicode, Doing::BackOff) => '╌',
            (Signs::Unicode, Doing::Running) => '▒',
            (Signs::Unicode, Doing::Ready) => '█',
            (Signs::Unicode, Doing::Failing) => '▚',
            (Signs::Unicode, Doing::Stopping) => '░',
            (Signs::Ascii, Doing::Waiting) => '.',
            (Signs::Ascii, Doing::BackOff) => '~',
            (Signs::Ascii, Doing::Running) => '-',
            (Signs::Ascii, Doing::Ready) => '=',
            (Signs::Ascii, Doing::Failing) => '!',
            (Signs::Ascii, Doing::Stopping) => ':',
        }
    }

    /// What is marked in the chart itself; the begin of a span says the rest.
    fn mark(self, what: What) -> Option<char> {
        match (self, what) {
            (_, What::Started | What::Ready | What::Unready | What::ProbeFailed) => None,
            (_, What::Signal) => Some('T'),
            (_, What::Kill) => Some('K'),
            (_, What::OutOfMemory) => Some('M'),
            (_, What::Lost) => Some('?'),
            (Signs::Unicode, What::Done) => Some('✓'),
            (Signs::Unicode, What::Failed) => Some('✗'),
            (Signs::Ascii, What::Done) => Some('o'),
            (Signs::Ascii, What::Failed) => Some('x'),
        }
    }
}

fn span_tone(doing: Doing) -> Tone {
    match doing {
        Doing::Waiting => Tone::Faint,
        Doing::BackOff | Doing::Failing => Tone::Bad,
        Doing::Running | Doing::Stopping => Tone::Notice,
        Doing::Ready => Tone::Good,
    }
}

fn mark_tone(what: What) -> Tone {
    match what {
        What::Failed | What::OutOfMemory | What::Lost | What::Kill | What::ProbeFailed | What::Unready => Tone::Bad,
        What::Signal => Tone::Notice,
        What::Done | What::Ready => Tone::Good,
        What::Started => Tone::Normal,
    }
}

/// The chart as text, at most `width` columns wide.
pub(crate) fn draw(timeline: &Timeline, width: usize, signs: Signs, style: Style) -> Page {
    let name_width = longest_name(timeline).min(LONGEST_NAME);
    let label = "sidecar".len() + 1 + name_width + 2;
    let scale = Scale { from: timeline.from, to: timeline.to, columns: width.saturating_sub(label + 1).max(10) };
    let mut out = Page::new(style);
    out.line(headline(timeline));
    out.end_line();
    let axis = axis(&scale);
    out.line(format_args!("{:label$}{}", "", axis.0));
    out.line(format_args!("{:label$}{}", "", axis.1));
    for row in &timeline.rows {
        let name: String = printable::line(&row.container).chars().take(name_width).collect();
        out.part(Tone::Normal, format_args!("{:7} {name:name_width$}  ", row.role));
        cells(row, &scale, signs, &mut out);
        out.end_line();
    }
    out.end_line();
    legend(timeline, signs, &mut out);
    story(timeline, &mut out);
    out
}

fn longest_name(timeline: &Timeline) -> usize {
    timeline.rows.iter().map(|row| printable::line(&row.container).chars().count()).max().unwrap_or(0)
}

struct Scale {
    from: i64,
    to: i64,
    columns: usize,
}

impl Scale {
    /// The column of a moment, from 0; never beyond the last.
    fn column(&self, at: i64) -> usize {
        let whole = (self.to - self.from).max(1);
        let columns = i64::try_from(self.columns).unwrap_or(1);
        let column = (at - self.from).clamp(0, whole).saturating_mul(columns) / whole;
        usize::try_from(column.min(columns - 1)).unwrap_or(0)
    }

    /// The moment at the left edge of a column.
    fn moment(&self, column: usize) -> i64 {
        let columns = i64::try_from(self.columns).unwrap_or(1).max(1);
        self.from + (self.to - self.from).saturating_mul(i64::try_from(column).unwrap_or(0)) / columns
    }
}

fn headline(timeline: &Timeline) -> String {
    let now = if timeline.goes_on { ", and goes on" } else { "" };
    format!(
        "pod {}/{} ({})  {} to {} UTC: {}{now}",
        timeline.namespace,
        timeline.name,
        timeline.phase,
        time(timeline.from, "%Y-%m-%d %H:%M:%S"),
        time(timeline.to, if timeline.to - timeline.from < 86_400_000 { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }),
        length(timeline.to - timeline.from),
    )
}

fn axis(scale: &Scale) -> (String, String) {
    let format = tick_format(scale.to - scale.from);
    let (mut times, mut ticks) = (String::new(), String::new());
    for column in (0..scale.columns).step_by(TICK_EVERY) {
        let text = time(scale.moment(column), format);
        if column + text.len() > scale.columns {
            break;
        }
        times.push_str(&" ".repeat(column - times.len()));
        times.push_str(&text);
        ticks.push_str(&" ".repeat(column - ticks.len()));
        ticks.push('|');
    }
    (times, ticks)
}

/// One row. A column shows what went on for most of it, a mark wins over that; of several marks the last.
fn cells(row: &Row, scale: &Scale, signs: Signs, out: &mut Page) {
    let mut cells: Vec<(char, Tone)> = (0..scale.columns)
        .map(|column| {
            let (from, to) = (scale.moment(column), scale.moment(column + 1).max(scale.moment(column) + 1));
            let share = |from_: i64, to_: i64| (to_.min(to) - from_.max(from)).max(0);
            let most = row.spans.iter().filter(|s| share(s.from, s.to) > 0).max_by_key(|s| share(s.from, s.to));
            most.map_or((' ', Tone::Normal), |span| (signs.span(span.doing), span_tone(span.doing)))
        })
        .collect();
    for mark in &row.marks {
        if let (Some(sign), Some(cell)) = (signs.mark(mark.what), cells.get_mut(scale.column(mark.at))) {
            *cell = (sign, mark_tone(mark.what));
        }
    }
    let drawn = cells.iter().rposition(|(sign, _)| *sign != ' ').map_or(0, |last| last + 1);
    let mut rest = cells.get(..drawn).unwrap_or_default();
    while let Some((_, tone)) = rest.first() {
        let same = rest.iter().take_while(|(_, other)| other == tone).count();
        let (run, others) = rest.split_at(same);
        let text: String = run.iter().map(|(sign, _)| *sign).collect();
        out.part(*tone, text);
        rest = others;
    }
}

/// Only what occurs.
fn legend(timeline: &Timeline, signs: Signs, out: &mut Page) {
    let mut doing: Vec<Doing> = timeline.rows.iter().flat_map(|row| &row.spans).map(|span| span.doing).collect();
    doing.sort_unstable();
    doing.dedup();
    let mut what: Vec<What> = timeline.rows.iter().flat_map(|row| &row.marks).map(|mark| mark.what).collect();
    what.sort_unstable();
    what.dedup();
    let spans =
        doing.into_iter().map(|doing| (span_tone(doing), signs.span(doing).to_string().repeat(2), doing_name(doing)));
    let marks =
        what.into_iter().filter_map(|what| Some((mark_tone(what), signs.mark(what)?.to_string(), what_name(what))));
    let all: Vec<_> = spans.chain(marks).collect();
    for (n, (tone, sign, name)) in all.iter().enumerate() {
        out.part(*tone, sign);
        out.part(Tone::Normal, format_args!(" {name}{}", if n + 1 < all.len() { "   " } else { "" }));
    }
    if !all.is_empty() {
        out.end_line();
    }
}

/// The last things that happened, in words.
fn story(timeline: &Timeline, out: &mut Page) {
    let mut all: Vec<(&Row, &Mark)> =
        timeline.rows.iter().flat_map(|row| row.marks.iter().map(move |mark| (row, mark))).collect();
    all.sort_by_key(|(_, mark)| mark.at);
    let left_out = all.len().saturating_sub(MOST_MARKS);
    let width = longest_name(timeline);
    if !all.is_empty() {
        out.end_line();
    }
    if left_out > 0 {
        out.line(format_args!("{left_out} earlier ones are left out"));
    }
    for (row, mark) in all.iter().skip(left_out) {
        let (at, name) = (time(mark.at, "%H:%M:%S%.3f"), printable::line(&row.container));
        out.part(Tone::Normal, format_args!("{at}  {name:width$}  "));
        out.painted(mark_tone(mark.what), &mark.text);
    }
}

#[cfg(test)]
#[path = "chart_tests.rs"]
pub(crate) mod tests;
