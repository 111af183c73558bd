//! The table of manifest files.

use serde_json::Value;

use super::page::{Page, Style, Tone};
use super::pods::{items, text};
use super::table::{Cell, Table};

/// Every file with its state and pods, and its problems below it.
pub fn table(files: &[Value], style: Style) -> Page {
    let rows: Vec<Vec<Cell>> = files.iter().map(row).collect();
    Table::new(vec!["FILE", "STATE", "PODS"], style).print_with(&rows, |n, out| {
        for problem in files.get(n).into_iter().flat_map(|file| items(&file["problems"])).map(text) {
            out.lines(("  ", "  "), Tone::Normal, &problem);
        }
    })
}

fn row(file: &Value) -> Vec<Cell> {
    let state = text(&file["state"]);
    let tone = match state.as_str() {
        "rejected" | "unresponsive" => Tone::Bad,
        "ignored" => Tone::Faint,
        _ => Tone::Normal,
    };
    let pods: Vec<String> = items(&file["pods"]).map(text).collect();
    let pods = if pods.is_empty() { "<none>".to_owned() } else { pods.join(",") };
    vec![text(&file["file"]).into(), Cell { text: state, tone }, pods.into()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn problems_stand_below_their_file() {
        let files = [
            json!({"file": "/m/a.yaml", "state": "rejected", "pods": ["default/a"], "problems": ["a.yaml:3: x", "a.yaml:4: y"]}),
            json!({"file": "/m/b.yaml", "state": "ok", "pods": ["default/b", "default/c"], "problems": []}),
            json!({"file": "/m/c.yaml~", "state": "ignored", "pods": [], "problems": ["not a manifest's name"]}),
        ];
        insta::assert_snapshot!(table(&files, Style::Plain), @r"
        FILE         STATE      PODS
        /m/a.yaml    rejected   default/a
          a.yaml:3: x
          a.yaml:4: y
        /m/b.yaml    ok         default/b,default/c
        /m/c.yaml~   ignored    <none>
          not a manifest's name
        ");
    }
}
