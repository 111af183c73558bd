use super::*;

#[test]
fn a_page_has_no_other_lines_and_colours_than_its_own() {
    let mut page = Page::new(Style::Coloured);
    page.line("a\nb\x1b[31m");
    page.part(Tone::Bad, "x\x1b]0;t\x07");
    page.part(Tone::Normal, " \u{9b}1m  ");
    page.end_line();
    page.lines(("Message: ", "         "), Tone::Faint, "1\t2\n\x1b[2J\r\n\n");
    let mut inner = Page::new(Style::Plain);
    inner.line("y\r");
    page.append("  ", &inner);
    assert_eq!(
        page.as_str(),
        "a\\nb\\u{1b}[31m\n\x1b[31mx\\u{1b}]0;t\\u{7}\x1b[0m \\u{9b}1m\n\
         Message: \x1b[2m1\x1b[0m\t\x1b[2m2\x1b[0m\n         \x1b[2m\\u{1b}[2J\\r\x1b[0m\n\n\n  y\\r\n"
    );
}
