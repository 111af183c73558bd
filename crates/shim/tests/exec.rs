//! Commands in running containers.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use podwright_proto::{Event, ExecResult, Request};
use support::{Sandbox, id};

#[test]
fn output_status_and_errors() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.start(sandbox.fake("app", 0, "sleep 100"));
    let app = id("app", 0);
    let mut run = |seq: u64, command: &[&str]| agent.exec(seq, &app, command, 10_000);
    let exited = |code| ExecResult::Exited { code };
    assert_eq!(run(1, &["sh", "-c", "echo out; echo err >&2; exit 3"]), (exited(3), "out\nerr\n".into()));
    assert_eq!(run(2, &["sh", "-c", "kill -TERM $$"]), (exited(143), String::new()));
    let (result, output) = run(3, &["sh", "-c", "yes | head -c 1000000"]);
    assert_eq!((result, output.len()), (exited(0), 10 << 10));
    let message = "no such command".to_owned();
    assert_eq!(run(4, &["missing"]), (ExecResult::Error { message }, String::new()));
    // A child that goes on with the pipe in its hands is not waited for.
    let began = Instant::now();
    assert_eq!(run(5, &["sh", "-c", "sleep 50 & echo done"]), (exited(0), "done\n".into()));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(fs::read_dir(sandbox.path("run/execs")).unwrap().count(), 0, "files are left");
    sandbox.shut_down();
}

#[test]
fn a_timeout_kills_the_command_and_its_children() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.start(sandbox.fake("app", 0, "exec sleep 100"));
    let began = Instant::now();
    let command = ["sh", "-c", "echo begun; sleep 77 & (sleep 78 &); sleep 79"];
    let (result, output) = agent.exec(1, &id("app", 0), &command, 500);
    assert_eq!((result, output.as_str()), (ExecResult::TimedOut, "begun\n"));
    assert!(began.elapsed() >= Duration::from_millis(500) && began.elapsed() < Duration::from_secs(5));
    support::until("only the container's own process is left", || {
        sandbox.cgroup.child("app").procs().unwrap().len() == 1
    });
    sandbox.shut_down();
}

#[test]
fn many_commands_at_once_and_the_end_of_their_container() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let app = id("app", 0);
    assert!(matches!(agent.exec(0, &app, &["sh", "-c", "true"], 1000).0, ExecResult::Error { .. }));
    agent.start(sandbox.fake("app", 0, "exec sleep 100"));
    for seq in 1..=10 {
        let command = ["sh", "-c", "sleep 100"].map(str::to_owned).to_vec();
        agent.send(&Request::Exec { seq, id: app.clone(), command, timeout_ms: 60_000 });
    }
    // Some run, others are still being started.
    support::until("some run", || sandbox.cgroup.child("app").procs().unwrap().len() >= 5);
    agent.send(&Request::Kill { id: app.clone(), cause: None });
    let mut done = Vec::new();
    while done.len() < 10 {
        if let Event::ExecDone { seq, result, .. } = agent.receive() {
            assert_eq!(result, ExecResult::InstanceEnded);
            done.push(seq);
        }
    }
    done.sort_unstable();
    assert_eq!(done, (1..=10).collect::<Vec<_>>());
    sandbox.shut_down();
}

#[test]
fn a_new_agent_hears_nothing_of_the_commands_of_the_last_one() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let app = id("app", 0);
    agent.start(sandbox.fake("app", 0, "exec sleep 100"));
    let command = ["sh", "-c", "exec sleep 50"].map(str::to_owned).to_vec();
    agent.send(&Request::Exec { seq: 1, id: app.clone(), command, timeout_ms: 60_000 });
    support::until("it runs", || sandbox.cgroup.child("app").procs().unwrap().len() == 2);
    drop(agent);
    let (mut agent, _) = sandbox.connect();
    // The same number again, and the answer is the new command's.
    let found = agent.exec(1, &app, &["sh", "-c", "echo new"], 10_000);
    assert_eq!(found, (ExecResult::Exited { code: 0 }, "new\n".into()));
    support::until("the old one is killed", || sandbox.cgroup.child("app").procs().unwrap().len() == 1);
    sandbox.shut_down();
}
