//! Does what the machine says. No decision is made here but how to tell a failure.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use podwright_inside::EnterError;
use podwright_proto::{Event, ExecResult, InstanceId, SUPERVISOR, StartRequest};
use podwright_shim::machine::{Action, Input, Process};
use podwright_sys::cgroup::Cgroup;
use podwright_sys::child::{self, Ended, Program};
use podwright_sys::error::chain;
use podwright_sys::podmount;

use crate::clock;
use crate::direct_exec::DirectExecError;
use crate::event_loop::{Helper, Shim, Task};
use crate::execs::Purpose;
use crate::runtime::{self, Left, Runtime};
use crate::site::{ExecPath, Site};
use crate::stdio;

/// Pause before what a helper has left is looked at again.
const LOOK_AGAIN_NS: i64 = 100_000_000;

/// `podwright-shim --remove DIR` removes a directory: a container may leave more files than the loop may wait for.
pub(crate) const REMOVE_FLAG: &str = "--remove";

impl Shim {
    pub(crate) fn execute(&mut self, action: Action) {
        match action {
            Action::Record(record) => self.record_start(*record),
            Action::Persist(record, durability) => self.persist(*record, durability),
            Action::Announce(record) => self.announce(record),
            Action::Prepare(id) => self.prepare(id),
            Action::Launch(id) => self.launch(id),
            Action::AbortRuntime(id) => self.abort(&[Task::Run(id.clone()), Task::Delete(id)]),
            Action::Signal { pid, signal } => {
                if let Err(error) = child::signal_child(pid, signal) {
                    crate::say(format_args!("cannot send signal {signal} to process {pid}: {error}"));
                }
            }
            Action::KillAll { id, pid } => self.kill_all(&id, pid),
            Action::Drain { id, give_up, failed } => self.drain(id, give_up, failed),
            Action::Delete(id) => self.delete(id),
            Action::Clean(id) => self.clean(id),
            Action::LaunchExec { seq, .. } => self.launch_exec(seq),
            Action::KillExec { seq, id, pid } => self.kill_exec(seq, &id, pid),
            Action::FinishExec { seq, result } => self.finish_exec(seq, result),
            Action::Leave => self.leaving = true,
        }
    }

    fn site(&mut self, id: &InstanceId) -> Option<&mut Site> {
        self.sites.iter_mut().find(|site| site.request.id == *id)
    }

    /// An instance that the machine does not know may still have a record, of an earlier sandbox or long ago.
    pub(crate) fn take_start(&mut self, request: StartRequest) {
        let id = request.id.clone();
        let (restart_delay_ms, stop_signal) = (request.restart_delay_ms, request.stop_signal);
        let origin = request.origin.clone();
        // One that cannot be read is looked for again before anything is written.
        let on_disk = self.known_record(&id).unwrap_or(None);
        if on_disk.is_none() && !self.machine.knows(&id) {
            self.sites.push(Site::new(request, &self.config));
        }
        self.inputs.push_back(Input::Start { id, restart_delay_ms, stop_signal, origin, on_disk });
    }

    fn prepare(&mut self, id: InstanceId) {
        let site = self.sites.iter_mut().find(|site| site.request.id == id);
        let result = site.map_or(Ok(()), |site| site.prepare(&mut self.volumes)).map_err(|error| chain(&error));
        self.inputs.push_back(Input::Prepared { id, result });
    }

    fn launch(&mut self, id: InstanceId) {
        let root = self.config.run.join("runtime");
        let (sites, covered) = (&mut self.sites, &mut self.covered);
        let Some(site) = sites.iter_mut().find(|site| site.request.id == id) else { return };
        let (log, pid_file) = (site.file("run.log"), site.file("run.pid"));
        let Some((stdout, stderr)) = site.outputs.take() else { return };
        if !covered.contains(&site.request.runtime) {
            // Saves podwright-oci from protecting its binary by itself, at every call. Where it does not work, it does.
            let _unsupported = podmount::cover_read_only(&site.request.runtime);
            covered.push(site.request.runtime.clone());
        }
        let call = Runtime { path: &site.request.runtime, root: &root, id: &site.runtime_id, log: &log };
        match call.run(&site.bundle, &pid_file, (stdout.as_fd(), stderr.as_fd())) {
            Ok(pid) => self.helpers.push(Helper { pid, task: Task::Run(id) }),
            Err(error) => {
                let message = cannot_start(&site.request.runtime, error);
                self.inputs.push_back(match error {
                    Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => Input::NotLaunched { id, message },
                    _ => Input::Launched { id, result: Err(message) },
                });
            }
        }
    }

    fn delete(&mut self, id: InstanceId) {
        let root = self.config.run.join("runtime");
        let Some(site) = self.site(&id) else { return };
        let log = site.file("delete.log");
        match (Runtime { path: &site.request.runtime, root: &root, id: &site.runtime_id, log: &log }).delete() {
            Ok(pid) => self.helpers.push(Helper { pid, task: Task::Delete(id) }),
            Err(error) => {
                crate::say(cannot_start(&site.request.runtime, error));
                self.inputs.push_back(Input::Deleted { id });
            }
        }
    }

    /// A process that worked for us has ended.
    pub(crate) fn helped(&mut self, helper: Helper, ended: Ended) {
        self.slack = true;
        match helper.task {
            Task::Run(id) => {
                let Some(site) = self.site(&id) else { return };
                let left = runtime::outcome(&site.request.runtime, ended, &site.file("run.pid"), &site.file("run.log"));
                match left {
                    Ok(Left::Behind(pid)) => self.helpers.push(Helper { pid, task: Task::Run(id) }),
                    Ok(Left::Process(process)) => self.inputs.push_back(Input::Launched { id, result: Ok(process) }),
                    Ok(Left::Unknown) => self.ask_again(Helper { pid: helper.pid, task: Task::Run(id) }, ended),
                    Err(reason) => {
                        let reason =
                            site.starved().map_or_else(|| reason.clone(), |limit| format!("{limit} ({reason})"));
                        self.inputs.push_back(Input::Launched { id, result: Err(reason) });
                    }
                }
            }
            Task::Exec(seq) => {
                let Some(index) = self.commands.iter().position(|command| command.seq == seq) else { return };
                let Some(command) = self.commands.get(index) else { return };
                let site = self.sites.iter().find(|site| site.request.id == command.id);
                let runtime = site.map_or(Path::new("the runtime"), |site| &site.request.runtime);
                let result = match runtime::outcome(runtime, ended, &command.file("pid"), &command.file("log")) {
                    Ok(Left::Behind(pid)) => {
                        self.helpers.push(Helper { pid, task: Task::Exec(seq) });
                        return;
                    }
                    Ok(Left::Unknown) => {
                        return self.ask_again(Helper { pid: helper.pid, task: Task::Exec(seq) }, ended);
                    }
                    Ok(Left::Process(process)) => Ok(process),
                    Err(reason) => Err(reason),
                };
                if command.answered {
                    command.remove_files();
                    self.commands.remove(index);
                }
                self.inputs.push_back(Input::ExecLaunched { seq, result });
            }
            Task::Delete(id) => {
                let Some(site) = self.site(&id) else { return };
                if ended != Ended::Exited(0) {
                    let reason = runtime::failure(&site.request.runtime, ended, &site.file("delete.log"));
                    crate::say(format_args!("delete of {} failed: {reason}", site.runtime_id));
                }
                self.inputs.push_back(Input::Deleted { id });
            }
            Task::Remove(id) => self.cleaned(id),
        }
    }

    /// What a helper left cannot be seen at this moment.
    fn ask_again(&mut self, helper: Helper, ended: Ended) {
        self.unseen.push((helper, ended));
        self.look_at.get_or_insert(clock::now().boot_ns + LOOK_AGAIN_NS);
    }

    /// Looks at what helpers have left and could not be seen before.
    pub(crate) fn look_again(&mut self, now: i64) {
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            for (helper, ended) in std::mem::take(&mut self.unseen) {
                self.helped(helper, ended);
            }
            self.settle();
        }
    }

    /// SIGKILL to helpers with what they started themselves: each leads a process group.
    fn abort(&self, tasks: &[Task]) {
        for helper in self.helpers.iter().filter(|helper| tasks.contains(&helper.task)) {
            child::signal_child(-helper.pid, SIGKILL).unwrap_or(());
        }
    }

    /// The first process is killed by pid too: a runtime may not have honoured the cgroup.
    fn kill_all(&mut self, id: &InstanceId, pid: Option<i32>) {
        let Some(site) = self.site(id) else { return };
        if let Err(error) = site.cgroup.kill() {
            crate::say(chain(&error));
        }
        if let Some(pid) = pid {
            child::signal_child(pid, SIGKILL).unwrap_or(());
        }
    }

    fn drain(&mut self, id: InstanceId, give_up: bool, failed: bool) {
        let Some(site) = self.site(&id) else { return };
        if give_up {
            crate::say(format_args!("processes of {} outlast SIGKILL; not waiting for them", site.runtime_id));
        }
        if give_up || site.watch_end(failed) {
            self.drained(id);
        }
    }

    /// The last process has gone, and the cgroup has not yet.
    fn drained(&mut self, id: InstanceId) {
        let pid = self.machine.pid(&id);
        let Some(site) = self.site(&id) else { return };
        let (oom, evidence) = site.finish(pid);
        let (message, lost) = (site.message(), site.log_lost());
        self.inputs.extend(lost);
        self.inputs.push_back(Input::Drained { id, oom, evidence, message });
    }

    /// The cgroup of an ended instance has changed.
    pub(crate) fn check_end(&mut self, site: usize) {
        let Some(site) = self.sites.get_mut(site) else { return };
        if site.events().is_some() && site.is_empty() {
            let id = site.request.id.clone();
            self.drained(id);
        }
    }

    fn clean(&mut self, id: InstanceId) {
        let big_layer = self.site(&id).and_then(Site::clean);
        let Some(layer) = big_layer else { return self.cleaned(id) };
        let args = [OsStr::new(REMOVE_FLAG), layer.as_os_str()];
        let program = Program { path: Path::new("/proc/self/exe"), args: &args, env: &[], stdout: None, stderr: None };
        match child::spawn(&program) {
            Ok(pid) => self.helpers.push(Helper { pid, task: Task::Remove(id) }),
            Err(error) => {
                crate::say(format_args!("cannot remove {}: {error}", layer.display()));
                self.cleaned(id);
            }
        }
    }

    fn cleaned(&mut self, id: InstanceId) {
        self.sites.retain(|site| site.request.id != id);
        self.slack = true;
        self.inputs.push_back(Input::Cleaned { id });
    }

    /// A command that cannot be started directly is given to the runtime, once and for all in this instance.
    fn launch_exec(&mut self, seq: u64) {
        let root = self.config.run.join("runtime");
        let Some(command) = self.commands.iter_mut().find(|command| command.seq == seq) else { return };
        let Some(site) = self.sites.iter_mut().find(|site| site.request.id == command.id) else { return };
        let pipe = stdio::pipe().map_err(|error| format!("cannot make a pipe: {error}"));
        let started = pipe.and_then(|(ours, theirs)| {
            command.pipe = Some(ours);
            match self.machine.first_process(&command.id).and_then(|pid| site.direct_exec(&root, pid)) {
                Some(direct) => {
                    let started = direct.start(&self.spawn_files, &command.argv, &theirs);
                    let started = started.map_err(|error| stay_home(&error))?;
                    let pid = started.entered.pid;
                    command.direct = Some(started);
                    Ok(Started::Command(pid))
                }
                None => {
                    let process = command.write_process(&site.bundle)?;
                    let log = command.file("log");
                    let call = Runtime { path: &site.request.runtime, root: &root, id: &site.runtime_id, log: &log };
                    let called = call.exec(&process, &command.file("pid"), (theirs.as_fd(), theirs.as_fd()));
                    called.map(Started::Runtime).map_err(|error| cannot_start(&site.request.runtime, error))
                }
            }
        });
        match started {
            Ok(Started::Runtime(pid)) => self.helpers.push(Helper { pid, task: Task::Exec(seq) }),
            // It has not been reaped, whatever it has done since.
            Ok(Started::Command(pid)) => {
                let start = child::proc_stat(pid).map(|stat| stat.start);
                self.inputs.push_back(Input::ExecLaunched { seq, result: Ok(Process { pid, start }) });
            }
            Err(message) => self.inputs.push_back(Input::ExecLaunched { seq, result: Err(message) }),
        }
    }

    fn kill_exec(&mut self, seq: u64, id: &InstanceId, pid: Option<i32>) {
        let Some(pid) = pid else { return self.abort(&[Task::Exec(seq)]) };
        let direct = self.commands.iter().find(|command| command.seq == seq).and_then(|c| c.direct.as_ref());
        if let Some(direct) = direct {
            if let Err(error) = direct.cgroup.kill() {
                crate::say(chain(&error));
            }
            child::signal_child(pid, SIGKILL).unwrap_or(());
            return;
        }
        // A runtime that came too late for the container leaves its command where the runtime itself was.
        let supervisor = Cgroup::at(&self.config.cgroup).child(SUPERVISOR);
        let container = self.sites.iter().find(|site| site.request.id == *id).map(|site| &site.cgroup);
        child::kill_tree(pid, || {
            let cgroups = container.into_iter().chain([&supervisor]);
            cgroups.flat_map(|cgroup| cgroup.procs().unwrap_or_default()).collect()
        });
    }

    fn finish_exec(&mut self, seq: u64, result: ExecResult) {
        let Some(index) = self.commands.iter().position(|command| command.seq == seq) else { return };
        let Some(command) = self.commands.get_mut(index) else { return };
        let (id, purpose, output) = (command.id.clone(), command.purpose, command.take_output());
        command.answered = true;
        let started = command.direct.take();
        if let Some(started) = &started
            && let Some(site) = self.sites.iter_mut().find(|site| site.request.id == id)
            && let ExecPath::Direct(direct) = &mut site.exec_path
        {
            direct.finish(started, !matches!(result, ExecResult::Exited { .. }));
        }
        let result = match (result, started) {
            (result @ ExecResult::Exited { .. }, Some(mut started)) => {
                started.entered.failure().map_or(result, |message| ExecResult::Error { message })
            }
            (result, _) => result,
        };
        if !self.helpers.iter().any(|helper| helper.task == Task::Exec(seq)) {
            command.remove_files();
            self.commands.remove(index);
        }
        match purpose {
            Purpose::Exec(Some(seq)) => self.send(&Event::ExecDone { seq, result, output }),
            Purpose::Exec(None) => {}
            Purpose::Hook(kind) => {
                let failure = hook_failure(&result, &output);
                self.inputs.push_back(Input::HookDone { id, kind, failure });
            }
        }
    }
}

/// Who was started for a command.
enum Started {
    Runtime(i32),
    Command(i32),
}

/// Once in another PID namespace, this process must not make another one: the pod is lost, and told so.
fn stay_home(error: &DirectExecError) -> String {
    let text = chain(error);
    if let DirectExecError::Enter(EnterError::Stranded(_)) = error {
        crate::say(format_args!("{text}; leaving"));
        std::process::exit(1);
    }
    text
}

/// Why a hook failed, for people; `None`: it did not.
fn hook_failure(result: &ExecResult, output: &str) -> Option<String> {
    let output: String = output.trim_end().chars().take(MAX_HOOK_OUTPUT).collect();
    match result {
        ExecResult::Exited { code: 0 } => None,
        ExecResult::Exited { code } => Some(with_output(format!("command exited with {code}"), &output)),
        ExecResult::TimedOut => Some(with_output("command timed out".to_owned(), &output)),
        ExecResult::InstanceEnded => Some("the container ended meanwhile".to_owned()),
        ExecResult::Error { message } => Some(message.clone()),
    }
}

fn with_output(how: String, output: &str) -> String {
    if output.is_empty() { how } else { format!("{how}: {output}") }
}

/// Characters of a failed hook's output that go into the record.
const MAX_HOOK_OUTPUT: usize = 1000;
const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;

fn cannot_start(runtime: &Path, error: nix::Error) -> String {
    format!("cannot start the runtime {}: {}", runtime.display(), error.desc())
}
