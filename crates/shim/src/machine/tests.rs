//! Scripts of inputs, each with the actions that have to follow, as text.

use super::*;

fn id(name: &str) -> InstanceId {
    let (container, attempt) = name.split_at(name.len() - 1);
    InstanceId { container: container.to_owned(), attempt: attempt.parse().unwrap() }
}

fn at(ms: i64) -> Stamp {
    Stamp { boot_ns: ms * 1_000_000, wall_ns: ms * 1_000_000 }
}

fn name(id: &InstanceId) -> String {
    format!("{}{}", id.container, id.attempt)
}

/// A record as its name and what it says: `a0:running`, `a0:exited 3`.
fn describe(record: &Record) -> String {
    let outcome = match &record.exit {
        Some(exit) => match &exit.outcome {
            Outcome::Exited { code } => format!("exited {code}"),
            Outcome::Signaled { signal } => format!("signaled {signal}"),
            Outcome::StartFailed { stage, message } => format!("{stage:?} failed: {message}"),
            Outcome::Lost => "lost".to_owned(),
        },
        None if record.killed.is_some() => "killed".to_owned(),
        None if record.signaled.is_some() => "stopping".to_owned(),
        None if record.started.is_some() => "running".to_owned(),
        None => "requested".to_owned(),
    };
    let hook = match &record.pre_stop {
        None => String::new(),
        Some(HookRun { ended: None, .. }) => " hooking".to_owned(),
        Some(HookRun { failure: None, .. }) => " hooked".to_owned(),
        Some(HookRun { failure: Some(failure), .. }) => format!(" hook failed {failure}"),
    };
    let oom = if record.exit.as_ref().is_some_and(|exit| exit.oom) { " oom" } else { "" };
    let refused = if record.refused { " refused" } else { "" };
    format!("{}:{outcome}{hook}{oom}{refused}", name(&record.id))
}

fn show(action: &Action) -> String {
    let pid_text = |pid: &Option<i32>| pid.map_or(String::new(), |pid| format!(" {pid}"));
    match action {
        Action::Record(record) | Action::Persist(record, Durability::Rename) => format!("write {}", describe(record)),
        Action::Persist(record, Durability::Synced) => format!("sync {}", describe(record)),
        Action::Announce(record) => format!("tell {}", describe(record)),
        Action::Prepare(id) => format!("prepare {}", name(id)),
        Action::Launch(id) => format!("launch {}", name(id)),
        Action::AbortRuntime(id) => format!("abort {}", name(id)),
        Action::Signal { pid, signal } => format!("signal {pid} {signal}"),
        Action::KillAll { id, pid } => format!("kill {}{}", name(id), pid_text(pid)),
        Action::Drain { id, give_up, .. } => format!("drain {}{}", name(id), if *give_up { " now" } else { "" }),
        Action::Delete(id) => format!("delete {}", name(id)),
        Action::Clean(id) => format!("clean {}", name(id)),
        Action::LaunchExec { seq, id } => format!("exec {seq} {}", name(id)),
        Action::KillExec { seq, id, pid } => format!("killexec {seq} {}{}", name(id), pid_text(pid)),
        Action::FinishExec { seq, result } => match result {
            ExecResult::Exited { code } => format!("done {seq} {code}"),
            ExecResult::TimedOut => format!("done {seq} timeout"),
            ExecResult::InstanceEnded => format!("done {seq} instance ended"),
            ExecResult::Error { message } => format!("done {seq} error: {message}"),
        },
        Action::Leave => "leave".to_owned(),
    }
}

fn cause(words: &[&str], n: usize) -> Option<Cause> {
    words.get(n).map(|text| Cause { kind: (*text).to_owned(), message: String::new() })
}

/// One input as text: `MS WORD ARGUMENTS`.
fn input(text: &str) -> (Stamp, Input) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |n: usize| words[n].parse::<i32>().unwrap();
    let process = |n: usize| match words.get(n).copied() {
        Some("fails") => Err("broken".to_owned()),
        Some(pid) => Ok(Process { pid: pid.parse().unwrap(), start: words.get(n + 1).is_none().then_some(99) }),
        None => panic!("{text}"),
    };
    let input = match words[1] {
        "start" => {
            Input::Start { id: id(words[2]), restart_delay_ms: 5, stop_signal: None, origin: None, on_disk: None }
        }
        "signal" => Input::Signal { id: id(words[2]), signal: number(3), cause: cause(&words, 4) },
        "hook" => Input::Hook {
            id: id(words[2]),
            kind: HookKind::PreStop,
            seq: words.get(3).map(|seq| seq.parse().unwrap()),
            cause: Some(Cause { kind: "deletion".to_owned(), message: String::new() }),
        },
        "hooked" => Input::HookDone {
            id: id(words[2]),
            kind: HookKind::PreStop,
            failure: words.get(3).map(|&failure| failure.to_owned()),
        },
        "kill" => Input::Kill { id: id(words[2]), cause: cause(&words, 3) },
        "exec" => Input::Exec { seq: 1, id: id(words[2]), timeout_ms: 100 },
        "agent" => Input::NewAgent,
        "shutdown" => Input::Shutdown,
        "prepared" => {
            Input::Prepared { id: id(words[2]), result: words.get(3).map_or(Ok(()), |_| Err("no disk".into())) }
        }
        "unlaunched" => Input::NotLaunched { id: id(words[2]), message: "no descriptors".into() },
        "launched" => Input::Launched { id: id(words[2]), result: process(3) },
        "execed" => Input::ExecLaunched { seq: 1, result: process(2) },
        "reaped" => Input::Reaped { pid: number(2), ended: Ended::Exited(number(3)) },
        "reaped9" => Input::Reaped { pid: number(2), ended: Ended::Signaled(9) },
        "drained" => Input::Drained {
            id: id(words[2]),
            oom: words.get(3).is_some(),
            evidence: Box::default(),
            message: String::new(),
        },
        "deleted" => Input::Deleted { id: id(words[2]) },
        "cleaned" => Input::Cleaned { id: id(words[2]) },
        "tick" => Input::Tick,
        other => panic!("{other}"),
    };
    (at(words[0].parse().unwrap()), input)
}

/// Runs `MS INPUT -> ACTION; ACTION` lines from the beginning of a sandbox.
fn check(script: &str) -> Machine {
    check_with(1, script)
}

fn check_with(launches: usize, script: &str) -> Machine {
    let mut machine = Machine::new(1, "boot".to_owned(), launches);
    for line in script.trim().lines() {
        let (text, expected) = line.split_once("->").unwrap();
        let (now, input) = input(text);
        let recorded = if text.ends_with("unwritten ") { Err("disk full".to_owned()) } else { Ok(()) };
        let mut actions = machine.apply(input, now);
        if let Some(Action::Record(record)) = actions.last() {
            let input = Input::Recorded { id: record.id.clone(), result: recorded };
            actions.extend(machine.apply(input, now));
        }
        let actions: Vec<String> = actions.iter().map(show).collect();
        assert_eq!(actions.join("; "), expected.trim(), "after {text}");
    }
    machine
}

#[test]
fn a_whole_life() {
    let machine = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running
         3 signal a0 15 -> signal 7 15; write a0:stopping; tell a0:stopping
         4 kill a0      -> kill a0 7; write a0:killed; tell a0:killed
         5 reaped9 7    -> kill a0; drain a0
         6 drained a0   -> sync a0:signaled 9; tell a0:signaled 9; delete a0
         7 deleted a0   -> clean a0
         8 cleaned a0   ->",
    );
    assert!(machine.knows(&id("a0")) && !machine.knows(&id("a1")));
    let record = &machine.records()[0];
    assert_eq!((record.requested, record.started), (at(1), Some(at(2))));
    assert_eq!((record.signaled, record.killed), (Some(at(3)), Some(at(4))));
    assert_eq!((record.pid, record.pid_start, record.restart_delay_ms), (Some(7), Some(99), 5));
    // The end is when it was seen, not when its pipes were empty.
    assert_eq!(record.exit.as_ref().unwrap().finished, at(5));
    assert_eq!(machine.deadline(), None);
}

#[test]
fn a_known_instance_is_repeated_and_never_started_again() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 start a0     -> tell a0:requested
         1 prepared a0  -> launch a0
         1 start a0     -> tell a0:requested
         2 launched a0 7 -> write a0:running; tell a0:running
         2 start a0     -> tell a0:running
         3 reaped 7 3   -> kill a0; drain a0
         3 start a0     -> tell a0:running
         4 drained a0 oom -> sync a0:exited 3 oom; tell a0:exited 3 oom; delete a0
         5 deleted a0   -> clean a0
         6 cleaned a0   ->
         7 start a0     -> tell a0:exited 3 oom",
    );
}

#[test]
fn a_record_on_disk_counts_as_known() {
    let mut machine = check("1 start a0 -> write a0:requested; prepare a0");
    let mut record = machine.records().remove(0);
    record.id = id("b0");
    let on_disk = Some(Box::new(record));
    let start = Input::Start { id: id("b0"), restart_delay_ms: 0, stop_signal: None, origin: None, on_disk };
    assert_eq!(machine.apply(start, at(2)).iter().map(show).collect::<Vec<_>>(), ["tell b0:requested"]);
    assert_eq!(machine.records().len(), 1);
}

#[test]
fn a_runtime_that_cannot_be_called_now_has_started_nothing() {
    check(
        "1 start a0 -> write a0:requested; prepare a0
         2 prepared a0 -> launch a0
         3 unlaunched a0 -> sync a0:Prepare failed: no descriptors; tell a0:Prepare failed: no descriptors; clean a0
         4 unlaunched a0 ->",
    );
}

#[test]
fn a_start_that_cannot_be_written_down_is_refused_and_leaves_its_number_free() {
    let machine = check(
        "1 start a0 unwritten -> write a0:requested; tell a0:Prepare failed: disk full refused
         2 kill a0      ->
         3 start a0     -> write a0:requested; prepare a0
         4 start b0 unwritten -> write b0:requested; tell b0:Prepare failed: disk full refused
         4 prepared a0  -> launch a0",
    );
    assert!(machine.knows(&id("a0")) && !machine.knows(&id("b0")));
    assert_eq!(machine.records().len(), 1);
}

#[test]
fn a_start_that_is_killed_while_it_is_written_down_ends_once() {
    let mut machine = Machine::new(1, "boot".to_owned(), 1);
    let shown = |actions: Vec<Action>| actions.iter().map(show).collect::<Vec<_>>().join("; ");
    machine.apply(input("1 start a0").1, at(1));
    let killed = shown(machine.apply(input("1 kill a0").1, at(1)));
    assert!(killed.ends_with("clean a0"), "{killed}");
    let result = Err("disk full".to_owned());
    assert_eq!(shown(machine.apply(Input::Recorded { id: id("a0"), result }, at(1))), "");
    assert!(machine.records()[0].exit.is_some() && !machine.records()[0].refused);
}

#[test]
fn several_runtimes_at_a_time_up_to_a_limit() {
    check_with(
        2,
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         1 start b0     -> write b0:requested; prepare b0
         1 prepared b0  -> launch b0
         1 start c0     -> write c0:requested; prepare c0
         1 prepared c0  ->
         2 launched b0 8 -> write b0:running; tell b0:running; launch c0
         3 launched a0 7 -> write a0:running; tell a0:running",
    );
}

#[test]
fn one_runtime_at_a_time_in_the_order_of_the_requests() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         1 start b0     -> write b0:requested; prepare b0
         1 prepared b0  ->
         1 start c0     -> write c0:requested; prepare c0
         1 prepared c0  ->
         2 launched a0 7 -> write a0:running; tell a0:running; launch b0
         3 launched b0 fails -> kill b0; sync b0:Runtime failed: broken; tell b0:Runtime failed: broken; delete b0; launch c0
         4 deleted b0   -> clean b0",
    );
}

#[test]
fn a_restart_waits_for_what_it_shares_with_the_one_before() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running
         3 reaped 7 0   -> kill a0; drain a0
         4 drained a0   -> sync a0:exited 0; tell a0:exited 0; delete a0
         5 start a1     -> write a1:requested
         5 start b0     -> write b0:requested; prepare b0
         5 prepared b0  -> launch b0
         6 deleted a0   -> clean a0
         7 cleaned a0   -> prepare a1",
    );
}

#[test]
fn an_exit_seen_before_its_runtime_returns() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 reaped 6 0   ->
         2 reaped 7 5   ->
         3 launched a0 7 gone -> write a0:running; tell a0:running; kill a0; drain a0
         4 drained a0   -> sync a0:exited 5; tell a0:exited 5; delete a0",
    );
}

#[test]
fn a_reused_pid_is_not_mistaken_for_an_earlier_exit() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 reaped 7 5   ->
         3 launched a0 7 -> write a0:running; tell a0:running
         4 reaped 7 0   -> kill a0; drain a0",
    );
}

#[test]
fn orphans_are_forgotten_when_no_runtime_is_at_work() {
    let message = "the runtime named process 7 in its pid file, which is no child of the shim";
    check(&format!(
        "1 reaped 7 1   ->
         1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 gone -> kill a0; sync a0:Runtime failed: {message}; tell a0:Runtime failed: {message}; delete a0"
    ));
}

#[test]
fn kill_before_the_runtime_has_returned() {
    let machine = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 kill a0      -> kill a0; write a0:killed; tell a0:killed
         3 kill a0      -> kill a0; write a0:killed; tell a0:killed
         4 launched a0 7 -> write a0:killed; tell a0:killed; kill a0 7
         5 reaped9 7    -> kill a0; drain a0",
    );
    assert_eq!(machine.records()[0].killed, Some(at(2)));
}

#[test]
fn a_runtime_that_hangs_is_killed_after_its_instance() {
    let machine = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 kill a0      -> kill a0; write a0:killed; tell a0:killed",
    );
    assert_eq!(machine.deadline(), Some(at(2002).boot_ns));
    let machine = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 kill a0      -> kill a0; write a0:killed; tell a0:killed
         2001 tick      ->
         2002 tick      -> abort a0
         2002 tick      ->
         2003 launched a0 fails -> kill a0; sync a0:Runtime failed: broken; tell a0:Runtime failed: broken; delete a0
         2004 deleted a0 -> clean a0",
    );
    assert_eq!(machine.deadline(), None);
}

#[test]
fn kill_before_the_runtime_was_called() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         1 start b0     -> write b0:requested; prepare b0
         1 prepared b0  ->
         1 start b1     -> write b1:requested
         2 kill b1      -> sync b1:Prepare failed: killed before it was started; tell b1:Prepare failed: killed before it was started; clean b1
         2 kill b0      -> sync b0:Prepare failed: killed before it was started; tell b0:Prepare failed: killed before it was started; clean b0
         3 cleaned b0   ->
         3 cleaned b1   ->
         3 kill b0      ->",
    );
}

#[test]
fn a_signal_before_there_is_a_process_is_sent_later() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 signal a0 15 ->
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running; signal 7 15; write a0:stopping; tell a0:stopping
         3 reaped 7 0   -> kill a0; drain a0
         3 signal a0 9  ->
         3 kill a0      ->",
    );
}

#[test]
fn sigkill_as_a_signal_is_a_kill_in_the_record() {
    let machine = check(&format!("{RUNNING}\n 3 signal a0 9 -> signal 7 9; write a0:killed; tell a0:killed"));
    assert_eq!((machine.records()[0].signaled, machine.records()[0].killed), (None, Some(at(3))));
}

#[test]
fn a_place_that_cannot_be_prepared() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0 no -> sync a0:Prepare failed: no disk; tell a0:Prepare failed: no disk; clean a0
         1 start a1     -> write a1:requested
         2 cleaned a0   -> prepare a1",
    );
}

#[test]
fn an_end_that_does_not_come_is_not_waited_for() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running
         3 reaped 7 0   -> kill a0; drain a0
         5002 tick      ->
         5003 tick      -> kill a0; drain a0 now
         5003 drained a0 -> sync a0:exited 0; tell a0:exited 0; delete a0
         5003 drained a0 ->
         35003 tick     -> abort a0
         35003 tick     ->
         35004 deleted a0 -> clean a0",
    );
}

#[test]
fn shutdown_kills_refuses_and_leaves_when_all_is_gone() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         1 start b0     -> write b0:requested; prepare b0
         1 prepared b0  ->
         2 launched a0 7 -> write a0:running; tell a0:running; launch b0
         3 shutdown     -> kill a0 7; write a0:killed; tell a0:killed; kill b0; write b0:killed; tell b0:killed
         3 start c0     -> sync c0:Prepare failed: the sandbox is being removed; tell c0:Prepare failed: the sandbox is being removed; clean c0
         3 cleaned c0   ->
         4 launched b0 8 -> write b0:killed; tell b0:killed; kill b0 8
         5 reaped9 8    -> kill b0; drain b0
         5 reaped9 7    -> kill a0; drain a0
         6 drained b0   -> sync b0:signaled 9; tell b0:signaled 9; delete b0
         6 drained a0   -> sync a0:signaled 9; tell a0:signaled 9; delete a0
         7 deleted a0   -> clean a0
         7 deleted b0   -> clean b0
         8 cleaned a0   ->
         8 cleaned b0   -> leave",
    );
    check("1 shutdown -> leave");
    // A runtime that works for a command is waited for.
    check(&format!(
        "{RUNNING}
         3 exec a0      -> exec 1 a0
         4 shutdown     -> kill a0 7; write a0:killed; tell a0:killed
         5 reaped9 7    -> kill a0; drain a0; done 1 instance ended
         6 drained a0   -> sync a0:signaled 9; tell a0:signaled 9; delete a0
         7 deleted a0   -> clean a0
         8 cleaned a0   ->
         9 execed fails -> leave"
    ));
}

const RUNNING: &str = "1 start a0 -> write a0:requested; prepare a0
    1 prepared a0   -> launch a0
    2 launched a0 7 -> write a0:running; tell a0:running";

#[test]
fn commands_end_time_out_and_fail() {
    let message = "the runtime named process 8 in its pid file, which is no child of the shim";
    for rest in [
        "3 exec a0  -> exec 1 a0\n 4 execed 8 -> \n 5 reaped 8 3 -> done 1 3",
        "3 exec a0  -> exec 1 a0\n 4 execed 8 -> \n 5 reaped9 8 -> \n 1005 tick -> done 1 137",
        "3 exec a0  -> exec 1 a0\n 4 reaped 8 3 -> \n 5 execed 8 gone -> done 1 3",
        "3 exec a0  -> exec 1 a0\n 4 execed fails -> done 1 error: broken",
        &format!("3 exec a0 -> exec 1 a0\n 4 execed 8 gone -> done 1 error: {message}"),
        "3 exec a0  -> exec 1 a0\n 4 execed 8 -> \n 5 agent -> killexec 1 a0 8; done 1 error: the agent is gone\n 6 reaped9 8 ->",
        "3 exec a0  -> exec 1 a0\n 5 agent -> done 1 error: the agent is gone\n 6 agent -> \n 7 execed 8 -> killexec 1 a0 8",
        "3 exec b0  -> done 1 error: container b does not run",
        "3 reaped 7 0 -> kill a0; drain a0\n 4 exec a0 -> done 1 instance ended",
        "3 exec a0  -> exec 1 a0\n 4 execed 8 -> \n 102 tick -> \n 103 tick -> killexec 1 a0 8; done 1 timeout\n 104 reaped9 8 ->",
        "3 exec a0  -> exec 1 a0\n 103 tick -> done 1 timeout\n 2102 tick -> \n 2103 tick -> killexec 1 a0\n 2104 execed fails ->",
        "3 exec a0  -> exec 1 a0\n 103 tick -> done 1 timeout\n 104 execed 8 -> killexec 1 a0 8",
        "3 exec a0  -> exec 1 a0\n 4 execed 8 -> \n 5 reaped 7 0 -> kill a0; drain a0; killexec 1 a0 8\n 6 reaped9 8 -> done 1 instance ended",
        "3 exec a0  -> exec 1 a0\n 5 reaped 7 0 -> kill a0; drain a0; done 1 instance ended\n 6 execed 8 -> killexec 1 a0 8",
    ] {
        check(&format!("{RUNNING}\n{rest}"));
    }
}

#[test]
fn memory_is_bounded_for_a_container_that_crashes_for_ever() {
    let mut machine = Machine::new(1, "boot".to_owned(), 1);
    for attempt in 0..1000 {
        let id = InstanceId { container: "a".to_owned(), attempt };
        let start =
            Input::Start { id: id.clone(), restart_delay_ms: 0, stop_signal: None, origin: None, on_disk: None };
        machine.apply(start, at(1));
        machine.apply(Input::Prepared { id: id.clone(), result: Err("no".to_owned()) }, at(1));
        machine.apply(Input::Cleaned { id }, at(1));
        machine.apply(Input::Reaped { pid: 5, ended: Ended::Exited(0) }, at(1));
    }
    let attempts: Vec<u32> = machine.records().iter().map(|record| record.id.attempt).collect();
    assert_eq!(attempts, (992..1000).collect::<Vec<_>>());
    assert!(machine.strangers.is_empty());
}

#[test]
fn the_first_who_asks_is_the_cause_and_one_who_comes_late_is_not() {
    let cause = |machine: &Machine| machine.records()[0].cause.as_ref().map(|cause| cause.kind.clone());
    let asked = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 signal a0 15 deadline ->
         2 launched a0 7 -> write a0:running; tell a0:running; signal 7 15; write a0:stopping; tell a0:stopping
         3 kill a0 user -> kill a0 7; write a0:killed; tell a0:killed",
    );
    assert_eq!(cause(&asked).as_deref(), Some("deadline"));
    let late = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running
         3 reaped 7 1   -> kill a0; drain a0
         3 signal a0 15 user ->",
    );
    assert_eq!(cause(&late), None);
}

#[test]
fn a_shutdown_is_a_cause_too() {
    let machine = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running
         3 shutdown     -> kill a0 7; write a0:killed; tell a0:killed",
    );
    assert_eq!(machine.records()[0].cause, Some(Cause { kind: SANDBOX_REMOVED.to_owned(), message: String::new() }));
}

#[test]
fn how_it_fares_is_written_with_the_next_record_only() {
    let mut machine = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running",
    );
    let ready = vec![podwright_proto::ReadyChange { at: at(3), ready: true }];
    let fares = Input::Fares { id: id("a0"), health: Health { ready: ready.clone(), failures: Vec::new() } };
    assert_eq!(machine.apply(fares, at(3)), []);
    machine.apply(Input::Reaped { pid: 7, ended: Ended::Exited(0) }, at(4));
    let evidence = Box::new(Evidence { tail: vec!["bye".into()], ..Evidence::default() });
    let actions = machine.apply(Input::Drained { id: id("a0"), oom: false, evidence, message: String::new() }, at(4));
    let Some(Action::Persist(record, Durability::Synced)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(record.health.ready, ready);
    assert_eq!(record.exit.as_ref().unwrap().evidence.as_ref().unwrap().tail, ["bye"]);
}

#[test]
fn a_hook_is_run_once_and_outlives_the_agent() {
    let machine = check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         1 hook a0 1    -> done 1 error: the hook is not run
         2 launched a0 7 -> write a0:running; tell a0:running
         3 hook a0 1    -> write a0:running hooking; tell a0:running hooking; exec 1 a0
         3 execed 8     ->
         4 hook a0 2    -> tell a0:running hooking; done 2 error: the hook is not run
         5 agent        ->
         6 reaped 8 1   -> done 1 1
         6 hooked a0 no -> write a0:running hook failed no; tell a0:running hook failed no
         7 hooked a0    ->",
    );
    let record = &machine.records()[0];
    assert_eq!(record.cause.as_ref().map(|cause| cause.kind.as_str()), Some("deletion"));
    assert_eq!(record.pre_stop.as_ref().map(|run| (run.begun, run.ended)), Some((at(3), Some(at(6)))));
    assert_eq!(machine.deadline(), None);
}

#[test]
fn a_hook_of_the_agent_is_only_noted() {
    check(
        "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running
         3 hook a0      -> write a0:running hooking; tell a0:running hooking
         4 hooked a0    -> write a0:running hooked; tell a0:running hooked",
    );
}

#[test]
fn what_dies_with_its_container_says_nothing() {
    // Processes of a PID namespace end before the first one can be seen to have ended.
    let start = "1 start a0     -> write a0:requested; prepare a0
         1 prepared a0  -> launch a0
         2 launched a0 7 -> write a0:running; tell a0:running
         3 exec a0      -> exec 1 a0
         3 execed 8     ->
         4 reaped9 8    ->";
    check(&format!("{start}\n5 reaped 7 0 -> kill a0; drain a0; done 1 instance ended"));
    // Without an end of the container it was somebody else who killed it.
    let machine = check(&format!("{start}\n1003 tick ->\n1004 tick -> done 1 137"));
    assert_eq!(machine.deadline(), None);
}
