//! The life of a pod as an SVG picture, complete in itself: no script, no style sheet, no font but the reader's.

use podwright_core::timeline::{Doing, Mark, Row, Timeline, What};
use podwright_sys::printable;

use super::moments::{doing_name, length, tick_format, time, what_name};

/// All lengths in pixels.
const WIDTH: i64 = 1100;
const MARGIN: i64 = 24;
/// Width of a character of the labels, about.
const CHARACTER: i64 = 7;
const TOP: i64 = 76;
const ROW: i64 = 40;
const BAR: i64 = 18;
const LEGEND: i64 = 22;
/// Room that a mark takes.
const BADGE: i64 = 13;
/// Entries of the legend in one line.
const LEGEND_COLUMNS: usize = 6;
/// Vertical lines of the time axis.
const TICKS: i64 = 6;

/// The picture.
pub fn draw(timeline: &Timeline) -> String {
    let longest = timeline.rows.iter().map(|row| row.container.chars().count()).max().unwrap_or(0);
    let left = MARGIN + (i64::try_from(longest).unwrap_or(0) * CHARACTER).clamp(80, 240) + 16;
    let rows = i64::try_from(timeline.rows.len()).unwrap_or(0);
    let scale = Scale { from: timeline.from, to: timeline.to.max(timeline.from + 1), left, right: WIDTH - MARGIN - 12 };
    let bottom = TOP + rows * ROW;
    let legend = legend(timeline);
    let lines = i64::try_from(legend.len().div_ceil(LEGEND_COLUMNS)).unwrap_or(0);
    let height = bottom + 24 + lines * LEGEND + 12;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#1f2937\">\n\
         <title>Timeline of pod {pod}</title>\n\
         <defs><pattern id=\"failing\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <rect width=\"8\" height=\"8\" fill=\"#fecaca\"/><rect width=\"4\" height=\"8\" fill=\"#dc2626\"/></pattern></defs>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        pod = escape(&format!("{}/{}", timeline.namespace, timeline.name)),
    );
    out.push_str(&headline(timeline));
    out.push_str(&axis(timeline, &scale, bottom));
    for (n, row) in (0..).zip(&timeline.rows) {
        out.push_str(&draw_row(row, TOP + n * ROW, &scale));
    }
    if timeline.goes_on {
        let x = scale.right;
        out.push_str(&format!("<path d=\"M{x} {TOP} V{bottom}\" stroke=\"#2563eb\" stroke-width=\"1.5\"/>\n"));
        out.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" fill=\"#2563eb\" text-anchor=\"end\" font-size=\"11\">now</text>\n",
            x + 12,
            bottom + 14
        ));
    }
    for (n, (sign, name)) in legend.iter().enumerate() {
        let (column, line) =
            (i64::try_from(n % LEGEND_COLUMNS).unwrap_or(0), i64::try_from(n / LEGEND_COLUMNS).unwrap_or(0));
        let x = MARGIN + column * ((WIDTH - 2 * MARGIN) / 6);
        let y = bottom + 34 + line * LEGEND;
        out.push_str(&format!(
            "<g transform=\"translate({x} {y})\">{sign}<text x=\"26\" y=\"5\" font-size=\"12\">{name}</text></g>\n"
        ));
    }
    out.push_str("</svg>\n");
    out
}

struct Scale {
    from: i64,
    to: i64,
    left: i64,
    right: i64,
}

impl Scale {
    fn x(&self, at: i64) -> i64 {
        let at = at.clamp(self.from, self.to);
        self.left + (at - self.from).saturating_mul(self.right - self.left) / (self.to - self.from)
    }
}

fn headline(timeline: &Timeline) -> String {
    let now = if timeline.goes_on { ", goes on" } else { "" };
    format!(
        "<text x=\"{MARGIN}\" y=\"28\" font-size=\"17\" font-weight=\"600\">{}/{}</text>\n\
         <text x=\"{MARGIN}\" y=\"48\" fill=\"#6b7280\">{} · {} to {} UTC, {}{now}</text>\n",
        escape(&timeline.namespace),
        escape(&timeline.name),
        escape(&timeline.phase),
        time(timeline.from, "%Y-%m-%d %H:%M:%S"),
        time(timeline.to, if timeline.to - timeline.from < 86_400_000 { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }),
        length(timeline.to - timeline.from),
    )
}

fn axis(timeline: &Timeline, scale: &Scale, bottom: i64) -> String {
    let whole = scale.to - scale.from;
    let mut out = String::new();
    for n in 0..=TICKS {
        let at = scale.from + whole * n / TICKS;
        let x = scale.x(at);
        let anchor = if n == 0 {
            "start"
        } else if n == TICKS {
            "end"
        } else {
            "middle"
        };
        out.push_str(&format!("<path d=\"M{x} {} V{bottom}\" stroke=\"#e5e7eb\"/>", TOP - 4));
        out.push_str(&format!(
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"11\" fill=\"#6b7280\">{}</text>\n",
            TOP - 9,
            time(at, tick_format(timeline.to - timeline.from))
        ));
    }
    out
}

fn draw_row(row: &Row, y: i64, scale: &Scale) -> String {
    let middle = y + ROW / 2;
    let mut out = format!(
        "<path d=\"M{MARGIN} {bottom} H{right}\" stroke=\"#f3f4f6\"/>\
         <text x=\"{MARGIN}\" y=\"{name}\" font-weight=\"600\">{container}</text>\
         <text x=\"{MARGIN}\" y=\"{role_y}\" font-size=\"11\" fill=\"{colour}\">{role}</text>\n",
        bottom = y + ROW,
        right = scale.right,
        name = middle - 1,
        role_y = middle + 12,
        container = escape(&row.container),
        role = escape(&row.role),
        colour = role_colour(&row.role),
    );
    for span in &row.spans {
        let (from, to) = (scale.x(span.from), scale.x(span.to));
        let text = if span.text.is_empty() {
            doing_name(span.doing).to_owned()
        } else {
            format!("{}: {}", doing_name(span.doing), span.text)
        };
        let title = format!("{} ({}, {})", text, time(span.from, "%H:%M:%S%.3f"), length(span.to - span.from));
        out.push_str(&bar(span.doing, from, middle, (to - from).max(1), &title));
    }
    for (mark, x) in placed(row, scale) {
        out.push_str(&sign(mark, x, middle));
    }
    out
}

/// Marks with their places. Of those at nearly the same place the last stands where it belongs, the one before it beside it, and
/// the others have no room: a container that crashes every moment is to be seen as that.
fn placed<'a>(row: &'a Row, scale: &Scale) -> Vec<(&'a Mark, i64)> {
    let mut free = i64::MAX;
    let mut placed = Vec::new();
    for mark in row.marks.iter().rev().filter(|mark| shape(mark.what).is_some()) {
        let at = scale.x(mark.at);
        let x = at.min(free);
        if at - x <= BADGE {
            placed.push((mark, x));
            free = x - BADGE;
        }
    }
    placed.reverse();
    placed
}

fn role_colour(role: &str) -> &'static str {
    match role {
        "init" => "#7c3aed",
        "sidecar" => "#0e7490",
        _ => "#6b7280",
    }
}

fn bar(doing: Doing, x: i64, middle: i64, width: i64, title: &str) -> String {
    let title = escape(title);
    let top = middle - BAR / 2;
    let filled = |fill: &str, stroke: &str| {
        format!(
            "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{BAR}\" fill=\"{fill}\" stroke=\"{stroke}\" \
             stroke-width=\"0.5\"><title>{title}</title></rect>\n"
        )
    };
    match doing {
        Doing::Waiting | Doing::BackOff => {
            let (colour, dashes) = if doing == Doing::Waiting { ("#9ca3af", "1 5") } else { ("#ea580c", "7 4") };
            format!(
                "<path d=\"M{x} {middle} h{width}\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-linecap=\"round\" \
                 stroke-dasharray=\"{dashes}\"><title>{title}</title></path>\n"
            )
        }
        Doing::Running => filled("#bfdbfe", "#60a5fa"),
        Doing::Ready => filled("#22c55e", "#15803d"),
        Doing::Failing => filled("url(#failing)", "#dc2626"),
        Doing::Stopping => filled("#fde68a", "#d97706"),
    }
}

/// How a mark looks: its colour and what is drawn around the origin. What a change of the bar shows already has none.
fn shape(what: What) -> Option<(&'static str, &'static str)> {
    Some(match what {
        What::Started | What::Ready | What::Unready | What::ProbeFailed => return None,
        What::Signal => ("#d97706", "T"),
        What::Kill => ("#b91c1c", "K"),
        What::Done => ("#15803d", "✓"),
        What::Failed => ("#dc2626", "✕"),
        What::OutOfMemory => ("#7f1d1d", "M"),
        What::Lost => ("#4b5563", "?"),
    })
}

fn sign(mark: &Mark, x: i64, middle: i64) -> String {
    let title = escape(&format!("{} {}", time(mark.at, "%H:%M:%S%.3f"), mark.text));
    badge(mark.what).map_or_else(String::new, |badge| {
        format!("<g transform=\"translate({x} {middle})\"><title>{title}</title>{badge}</g>\n")
    })
}

/// A disc with a letter; the letters are drawn, so that no font is needed for the signs among them.
fn badge(what: What) -> Option<String> {
    let (colour, letter) = shape(what)?;
    let inside = match letter {
        "✓" => "<path d=\"M-3 0 l2 2.6 l4 -5\" fill=\"none\" stroke=\"#fff\" stroke-width=\"1.8\"/>".to_owned(),
        "✕" => {
            "<path d=\"M-2.6 -2.6 L2.6 2.6 M2.6 -2.6 L-2.6 2.6\" stroke=\"#fff\" stroke-width=\"1.8\"/>".to_owned()
        }
        letter => format!(
            "<text y=\"3.6\" text-anchor=\"middle\" font-size=\"10\" font-weight=\"700\" fill=\"#fff\">{letter}</text>"
        ),
    };
    Some(format!("<circle r=\"6.5\" fill=\"{colour}\" stroke=\"#fff\"/>{inside}"))
}

/// Signs and names of what occurs.
fn legend(timeline: &Timeline) -> Vec<(String, &'static str)> {
    let mut doing: Vec<Doing> = timeline.rows.iter().flat_map(|row| &row.spans).map(|span| span.doing).collect();
    doing.sort_unstable();
    doing.dedup();
    let mut what: Vec<What> = timeline.rows.iter().flat_map(|row| &row.marks).map(|mark| mark.what).collect();
    what.sort_unstable();
    what.dedup();
    let spans = doing.into_iter().map(|doing| (bar(doing, 0, 0, 20, ""), doing_name(doing)));
    let marks = what
        .into_iter()
        .filter_map(|what| Some((format!("<g transform=\"translate(10 0)\">{}</g>", badge(what)?), what_name(what))));
    spans.chain(marks).collect()
}

/// For text and attributes (XML 1.0, 2.4); what cannot be seen, or what XML cannot hold at all, is shown as an escape.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable::line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::sample;

    #[test]
    fn it_is_complete_and_escapes_what_it_shows() {
        let mut timeline = sample();
        timeline.rows[2].marks[0].text = "<b>&\"\u{1b}".to_owned();
        timeline.rows[2].marks[0].what = What::Failed;
        let picture = draw(&timeline);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("&lt;b&gt;&amp;&quot;\\u{1b}"), "{picture}");
        for part in ["proxy", "server", "sidecar", "url(#failing)", ">a probe fails<", ">failed<", ">now<"] {
            assert!(picture.contains(part), "{part}");
        }
        // Every element that is opened is closed.
        for tag in ["g", "svg", "rect", "text", "title", "pattern", "defs"] {
            let opened = picture.matches(&format!("<{tag}>")).count() + picture.matches(&format!("<{tag} ")).count();
            let closed = picture.matches(&format!("</{tag}>")).count();
            let empty = picture
                .split(&format!("<{tag} "))
                .skip(1)
                .filter(|rest| rest.split_once('>').is_some_and(|(t, _)| t.ends_with('/')))
                .count();
            assert_eq!(opened, closed + empty, "{tag}");
        }
    }

    #[test]
    fn crowded_marks_stay_in_the_picture_and_the_last_one_where_it_belongs() {
        let mark = |at, what| Mark { at, what, text: String::new() };
        let marks =
            (0..100).map(|n| mark(n, What::Failed)).chain([mark(1000, What::Kill), mark(1000, What::Lost)]).collect();
        let row = Row { container: "c".into(), role: "main".into(), spans: Vec::new(), marks };
        let scale = Scale { from: 0, to: 1000, left: 100, right: 1100 };
        let places: Vec<i64> = placed(&row, &scale).iter().map(|(_, x)| *x).collect();
        assert_eq!(places[places.len() - 2..], [1100 - BADGE, 1100]);
        assert!(places.len() < 20 && places.windows(2).all(|pair| pair[1] - pair[0] >= BADGE), "{places:?}");
        assert!(places.iter().all(|x| (100 - BADGE..=1100).contains(x)), "{places:?}");
    }

    #[test]
    fn a_pod_without_a_past_is_drawn_too() {
        let timeline = Timeline { to: sample().from, rows: Vec::new(), ..sample() };
        assert!(draw(&timeline).contains("</svg>"));
    }
}
