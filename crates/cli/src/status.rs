//! `status`: the node and its agent.

use jiff::Timestamp;
use serde_json::Value;

use super::age::since;
use super::args::{Output, Status};
use super::context::Context;
use super::error::Done;
use super::output;
use super::page::{Page, Style, Tone};
use super::pods::{items, text};
use super::table::{Cell, Table};

pub(super) async fn status(args: Status, context: &mut Context) -> Done {
    let node = context.client.get("/apis/podwright.dev/v1/node").await?;
    match output::object(args.output.map(Output::from), &node) {
        Some(data) => context.out.data(&data),
        None => context.out.print(&print(&node, Timestamp::now(), context.style)),
    }
}

/// The node as text.
pub fn print(node: &Value, now: Timestamp, style: Style) -> Page {
    let mut page = Page::new(style);
    page.line(format_args!("Node:   {}", text(&node["nodeName"])));
    page.line(format_args!("Agent:  podwrightd {}", text(&node["agentVersion"])));
    page.end_line();
    let rows = items(&node["conditions"]).map(|condition| {
        let (kind, status) = (text(&condition["type"]), text(&condition["status"]));
        // Of `Ready` alone it is good that it holds.
        let tone = if (kind == "Ready") == (status == "True") { Tone::Good } else { Tone::Bad };
        let age = since(&condition["lastTransitionTime"], now);
        let (reason, message) = (text(&condition["reason"]), text(&condition["message"]));
        vec![kind.into(), Cell { text: status, tone }, age.into(), reason.into(), message.into()]
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    page.append("", &Table::new(vec!["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"], style).print(&rows));
    for (n, leftover) in items(&node["leftovers"]).enumerate() {
        if n == 0 {
            page.end_line();
        }
        let (path, error) = (text(&leftover["path"]), text(&leftover["error"]));
        page.painted(Tone::Bad, format_args!("{path} cannot be removed: {error}"));
        page.line("  it is tried again until it is gone");
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_says_since_when_and_why() {
        let node = json!({
            "nodeName": "edge-1", "agentVersion": "v1.2.3",
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "AgentReady", "message": "podwrightd runs", "lastTransitionTime": "2026-11-23T11:00:00Z"},
                {"type": "DiskPressure", "status": "True", "reason": "AgentHasDiskPressure", "message": "x cannot be written: No space left on device (os error 28)", "lastTransitionTime": "2026-11-23T11:59:30Z"},
            ],
            "leftovers": [{"path": "/s/.removing-u-1-0", "error": "Operation not permitted (os error 1)"}],
        });
        insta::assert_snapshot!(print(&node, "2026-11-23T12:00:00Z".parse().unwrap(), Style::Plain), @r"
        Node:   edge-1
        Agent:  podwrightd v1.2.3

        CONDITION      STATUS   SINCE   REASON                 MESSAGE
        Ready          True     60m     AgentReady             podwrightd runs
        DiskPressure   True     30s     AgentHasDiskPressure   x cannot be written: No space left on device (os error 28)

        /s/.removing-u-1-0 cannot be removed: Operation not permitted (os error 1)
          it is tried again until it is gone
        ");
    }
}
