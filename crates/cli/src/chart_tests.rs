use super::*;
use podwright_core::timeline::Span;

/// A pod of three containers and 60 seconds.
pub(crate) fn sample() -> Timeline {
    let from = 1_795_546_742_000;
    let span = |a: i64, b: i64, doing| Span { from: from + a * 1000, to: from + b * 1000, doing, text: String::new() };
    let mark = |at: i64, what, text: &str| Mark { at: from + at * 1000, what, text: text.to_owned() };
    Timeline {
        namespace: "default".into(),
        name: "web".into(),
        phase: "Running".into(),
        from,
        to: from + 60_000,
        goes_on: true,
        rows: vec![
            Row {
                container: "content".into(),
                role: "init".into(),
                spans: vec![span(0, 2, Doing::Waiting), span(2, 8, Doing::Running)],
                marks: vec![mark(8, What::Done, "left with 0")],
            },
            Row {
                container: "proxy".into(),
                role: "sidecar".into(),
                spans: vec![
                    span(0, 8, Doing::Waiting),
                    span(8, 14, Doing::Running),
                    span(14, 40, Doing::Ready),
                    span(40, 60, Doing::Failing),
                ],
                marks: vec![],
            },
            Row {
                container: "server".into(),
                role: "main".into(),
                spans: vec![
                    span(0, 14, Doing::Waiting),
                    span(14, 20, Doing::Ready),
                    span(20, 30, Doing::BackOff),
                    span(30, 50, Doing::Ready),
                    span(50, 60, Doing::Stopping),
                ],
                marks: vec![
                    mark(20, What::OutOfMemory, "killed for memory: eater"),
                    mark(50, What::Signal, "stop signal: podwright delete"),
                ],
            },
        ],
    }
}

#[test]
fn the_chart_has_a_row_for_each_container_and_a_legend_of_what_occurs() {
    let expected = "\
pod default/web (Running)  2026-11-24 18:59:02 to 19:00:02 UTC: 1 min 0 s, and goes on

                 18:59:02        18:59:17        18:59:33        18:59:49
                 |               |               |               |
init    content  ..------o
sidecar proxy    ........------===========================!!!!!!!!!!!!!!!!!!!!
main    server   ..............======M~~~~~~~~~~===================T::::::::::
";
    let text = draw(&sample(), 79, Signs::Ascii, Style::Plain);
    let text = text.as_str();
    let chart: String = text.split_inclusive('\n').take(7).collect();
    assert_eq!(chart, expected);
    assert!(text.contains(".. waits   ~~ back-off   -- runs   == ready   !! a probe fails   :: told to stop   T stop signal   o left with 0   M killed for memory\n"), "{text}");
    assert!(
        text.ends_with(
            "18:59:22.000  server   killed for memory: eater\n18:59:52.000  server   stop signal: podwright delete\n"
        ),
        "{text}"
    );
    assert!(text.is_ascii());
}

#[test]
fn no_line_of_the_chart_is_wider_than_asked_for() {
    for width in [40, 57, 80, 133, 240] {
        let text = draw(&sample(), width, Signs::Unicode, Style::Plain);
        for line in text.as_str().lines().skip(2).take(5) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn colours_only_wrap_and_a_moment_is_enough() {
    let coloured = draw(&sample(), 100, Signs::Unicode, Style::Coloured);
    assert!(coloured.as_str().contains("\x1b[32m█"), "{coloured}");
    let moment = Timeline { to: sample().from, ..sample() };
    assert!(draw(&moment, 80, Signs::Unicode, Style::Plain).as_str().contains("server"));
}

#[test]
fn lengths_read_well() {
    assert_eq!([850, 12_540, 200_000, 18_200_000].map(length), ["850 ms", "12.5 s", "3 min 20 s", "5 h 3 min"]);
}
