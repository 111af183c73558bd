//! A board that learns the time after it has started. The machine's clock is set, so this is for the VM alone.

use std::process::Command;

use node::Node;

mod node;

fn set_clock(to: &str) {
    assert!(Command::new("date").args(["-u", "-s", to]).status().unwrap().success());
}

/// Seconds since the epoch of a moment in an object.
fn seconds(value: &serde_json::Value) -> i64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no moment"));
    let output = Command::new("date").args(["-u", "-d", text, "+%s"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[test]
fn what_is_shown_follows_a_clock_that_was_set() {
    if std::env::var_os("IN_VM").is_none() {
        eprintln!("skipped: it sets the clock, which only the VM's may be");
        return;
    }
    let begun = now();
    set_clock("1971-01-01 00:00:00");
    let mut node = Node::new();
    node.start(&[]);
    let pod = |name: &str, seconds: u32| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  \
             - {{name: app, image: box, args: [\"busybox sleep {seconds}\"], env: [{{name: PATH, value: /bin}}]}}\n"
        )
    };
    let created = |name: &str| seconds(&node.pod(name)["metadata"]["creationTimestamp"]);
    node.write("early.yaml", &pod("early", 1000));
    node.until_phase("early", "Running");
    assert!(created("early") < 40_000_000, "it is 1971");
    for to in ["2026-11-30 12:00:00", "2026-11-30 06:00:00"] {
        set_clock(to);
        let name = if to.contains("12:") { "late" } else { "back" };
        let placed = now();
        node.write("late.yaml", &pod(name, 2));
        node.until_phase(name, "Succeeded");
        let shown = node.pod(name);
        let terminated = shown["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        let moments = [
            &shown["metadata"]["creationTimestamp"],
            &shown["status"]["startTime"],
            &terminated["startedAt"],
            &terminated["finishedAt"],
        ]
        .map(seconds);
        assert!(moments.is_sorted(), "{moments:?}");
        assert!(moments.iter().all(|at| (placed - 1..=now() + 1).contains(at)), "{moments:?} from {placed} on");
        // A sleep of 2 s took that long, and no timer has gone by the wall clock.
        assert!((2..30).contains(&(moments[3] - moments[2])), "{moments:?}");
        node.until("the earlier pod is shown by the new clock", || {
            let at = created("early");
            (placed - 60..=placed + 1).contains(&at)
        });
        let events = node.ok(&["get", "events", "-o", "json"]);
        let events: serde_json::Value = serde_json::from_str(&events).unwrap();
        let times: Vec<i64> =
            events["items"].as_array().unwrap().iter().map(|e| seconds(&e["lastTimestamp"])).collect();
        assert!(!times.is_empty() && times.iter().all(|at| (placed - 60..=now() + 1).contains(at)), "{times:?}");
        node.remove("late.yaml");
    }
    set_clock(&format!("@{begun}"));
}
