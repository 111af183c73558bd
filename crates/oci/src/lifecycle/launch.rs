//! `create` and `run`: a container from its bundle.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Spec};
use podwright_inside::{self as inside, Passed};
use podwright_sys::caps::{self, CapSet};
use podwright_sys::cgroup::{Cgroup, v2_mount};
use podwright_sys::mount;
use podwright_sys::netlink::move_device;
use podwright_sys::process::{self, Cloned};
use podwright_sys::seccomp::Program as Filter;

use super::terminal::Console;
use super::{attend_to_end, descriptors, hold_signals, listener, rdt, read_with_text, resources, terminal, user};
use crate::apply::{self, Init};
use crate::clock;
use crate::error::{Error, Result, file, kernel};
use crate::hooks::{self, HookState, Place};
use crate::log::{self, warn};
use crate::plan::{self, CgroupPlan, Context, Gate, NetDevices, Plan, Step};
use crate::state::{Lock, STATE_VERSION, State, StateDir, replace};
use crate::sync::{self, Said};
use crate::systemd::Scope;

/// What `create` and `run` are given.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Where states are kept.
    pub root: PathBuf,
    /// The new container's id.
    pub id: String,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// Where the first process's pid is written to.
    pub pid_file: Option<PathBuf>,
    /// Descriptors after the first three that the container gets.
    pub preserve_fds: u32,
    /// Whether the container gets a session keyring of its own.
    pub keyring: bool,
    /// The Unix socket that gets the master of the container's terminal.
    pub console_socket: Option<PathBuf>,
    /// The Unix socket that gets a pidfd of the first process.
    pub pidfd_socket: Option<PathBuf>,
    /// Whether the root is changed with pivot_root(2), which the initial ramfs does not allow.
    pub pivot: bool,
    /// Whether systemd makes the cgroup.
    pub systemd: bool,
    /// Whether `run` leaves the container's state when it has ended.
    pub keep: bool,
}

/// Makes a container; its first process waits for `start`.
///
/// # Errors
/// Whatever is wrong with the configuration or the host; nothing is left behind then.
pub fn create(options: &CreateOptions) -> Result<()> {
    launch(options, Gate::Start, false).map(drop)
}

/// Makes a container and starts it. Without `detach`, waits for its end, deletes it and gives its exit status.
///
/// # Errors
/// As [`create`]; also when the program cannot be executed.
pub fn run(options: &CreateOptions, detach: bool) -> Result<i32> {
    if !detach {
        hold_signals()?;
    }
    let launched = launch(options, Gate::Go, !detach)?;
    super::control::run_poststart(&launched.dir, &launched.state)?;
    if detach {
        return Ok(0);
    }
    let code = attend_to_end(&launched.pidfd, launched.terminal.as_ref())?;
    if !options.keep {
        super::control::destroy_same(&launched.dir, &launched.state)?;
    }
    Ok(code)
}

struct Launched {
    dir: StateDir,
    state: State,
    pidfd: OwnedFd,
    /// Where the container's terminal comes from, if this process gets it.
    terminal: Option<UnixStream>,
}

fn launch(options: &CreateOptions, gate: Gate, foreground: bool) -> Result<Launched> {
    let passed = descriptors::of_this_process(options.preserve_fds)?;
    let dir = StateDir::new(&options.root, &options.id)?;
    let bundle = std::path::absolute(&options.bundle).map_err(file("resolve", &options.bundle))?;
    let (spec, text) = read_with_text(&bundle.join("config.json"))?;
    let context = Context {
        id: &options.id,
        bundle: &bundle,
        gate,
        keyring: options.keyring,
        pivot: options.pivot,
        systemd: options.systemd,
    };
    let invalid = |source| Error::Plan { path: bundle.join("config.json"), source };
    let mut plan = plan::container(&spec, &context).map_err(invalid)?;
    listener::check(plan.listener.as_ref()).map_err(invalid)?;
    tell_of_missing(&plan)?;
    let filter = plan.seccomp.as_ref().map(|profile| profile.compile()).transpose()?;
    let console = terminal::connect(&mut plan.steps, options.console_socket.as_deref(), foreground)?;
    let mount = v2_mount()?;
    let mut cgroup = Cgroup::at(mount.join(&plan.cgroup.place.path));
    let lock = dir.create(cgroup.path())?;
    // Lives until the container's first process is in the scope.
    let scope = match claim(&dir, &mount, &mut cgroup, &plan.cgroup) {
        Ok(scope) => scope,
        Err(err) => {
            dir.remove(&lock).ok();
            return Err(err);
        }
    };
    let launch = Launch {
        options,
        gate,
        spec: &spec,
        text: &text,
        plan: &plan,
        filter: filter.as_ref(),
        bundle: &bundle,
        dir: &dir,
        passed: &passed,
    };
    let mut lock = Some(lock);
    let launched = launch.make(&cgroup, console, &mut lock);
    drop(scope);
    launched.inspect_err(|_| {
        // Another one may be in the place of one that was taken from us, with the same cgroup.
        let Some(lock) = lock.as_ref().filter(|lock| dir.is_held_by(lock).unwrap_or(false)) else { return };
        // With a state, hooks may have run, and those for the end have their turn. The directory goes only when nothing is
        // left that `delete --force` would need it for.
        let state = dir.load().ok().flatten();
        super::control::destroy(&dir, lock, state.as_ref()).unwrap_or_else(|err| warn(&err));
    })
}

/// Tells of capabilities that the container cannot be granted since this process does not have them (runtime-spec, config.md,
/// "Linux Process"). In a user namespace of its own it gets all.
fn tell_of_missing(plan: &Plan) -> Result<()> {
    let wanted = plan.steps.iter().find_map(|step| match step {
        Step::Inside(inside::Step::Capabilities { effective, permitted, inheritable, .. }) => {
            Some(effective.union(*permitted).union(*inheritable))
        }
        _ => None,
    });
    let Some(wanted) = wanted.filter(|wanted| plan.user.is_none() && *wanted != CapSet::default()) else {
        return Ok(());
    };
    let missing = wanted.without(caps::permitted().map_err(kernel("capget"))?);
    let names: Vec<String> = missing.names().collect();
    if !names.is_empty() {
        warn(&Error::NotGranted(names.join(" ")));
    }
    Ok(())
}

/// Makes the cgroup, or takes one that is there and empty. With systemd, it is where systemd puts it.
fn claim(dir: &StateDir, mount: &Path, cgroup: &mut Cgroup, plan: &CgroupPlan) -> Result<Option<Scope>> {
    let Some(unit) = &plan.place.unit else {
        if !cgroup.create().map_err(Error::Place)? && cgroup.populated().map_err(Error::Place)? {
            return Err(Error::CgroupInUse(cgroup.path().to_owned()));
        }
        return Ok(None);
    };
    let scope = Scope::start(unit, plan)?;
    let found = Cgroup::at(mount.join(&scope.cgroup));
    if found != *cgroup {
        dir.set_cgroup(found.path())?;
        *cgroup = found;
    }
    Ok(Some(scope))
}

struct Launch<'a> {
    options: &'a CreateOptions,
    gate: Gate,
    spec: &'a Spec,
    /// What `spec` was read from.
    text: &'a [u8],
    plan: &'a Plan,
    filter: Option<&'a Filter>,
    bundle: &'a Path,
    dir: &'a StateDir,
    passed: &'a Passed,
}

impl Launch<'_> {
    fn make(&self, cgroup: &Cgroup, console: Console, lock: &mut Option<Lock>) -> Result<Launched> {
        let group = cgroup.open()?;
        log::debug(|| format!("cgroup {}, {} steps", cgroup.path().display(), self.plan.steps.len()));
        resources::set(cgroup, &group, &self.plan.cgroup)?;
        if let Some(uid) = self.plan.cgroup_owner {
            user::delegate(cgroup, uid)?;
        }
        let sources = user::open_sources(&self.plan.steps)?;
        if let Some(root) = &self.plan.host_mount {
            self.dir.set_host_mount(root)?;
        }
        let listener = match self.gate {
            Gate::Go => None,
            Gate::Start => Some(bind(self.dir)?),
        };
        if let Some(path) = &self.plan.pid_namespace {
            let what = || format!("linux.namespaces: enter {}", path.display());
            let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(kernel(what()))?;
            setns(fd, CloneFlags::CLONE_NEWPID).map_err(kernel(what()))?;
        }
        let (mut ours, theirs) = UnixStream::pair().map_err(file("make", "socketpair"))?;
        let (cloned, inside) = if self.plan.on_the_way.is_empty() {
            clone_into(self.plan.namespaces, &group)?
        } else {
            user::clone_on_the_way(self.plan, cgroup, &group)?
        };
        let Cloned::Parent { pid, pidfd } = cloned else {
            // The container's process must not hold the lock while it waits for `start`, which wants it.
            drop((ours, lock.take(), console.ours));
            let init = Init {
                report: theirs,
                listener,
                filter: self.filter,
                seccomp_listener: self.plan.listener.as_ref(),
                cgroup: cgroup.path(),
                enter_cgroup: !inside,
                target: None,
                target_root: None,
                passed: self.passed,
                console: console.theirs,
                sources,
                hooks: self.spec.hooks().as_ref(),
                state: self.hook_state(),
            };
            apply::run(init, &self.plan.steps);
        };
        drop((theirs, listener, console.theirs, sources));
        let sent = terminal::send_pidfd(self.options.pidfd_socket.as_deref(), &pidfd);
        let kept = sent.and_then(|()| self.dir.keep_config(self.text));
        let written = kept.and_then(|()| super::entry::write(self.dir, &self.options.id, self.spec, self.filter));
        let state = written.and_then(|()| self.attend(pid, &pidfd, cgroup, &mut ours)).inspect_err(|_| {
            // It may wait for a word that will not come; the cgroup has it if the signal does not.
            process::pidfd_send_signal(&pidfd, nix::libc::SIGKILL).ok();
            process::wait(&pidfd).ok();
        })?;
        Ok(Launched { dir: self.dir.clone(), state, pidfd, terminal: console.ours })
    }

    fn hook_state(&self) -> HookState<'_> {
        HookState { id: &self.options.id, bundle: self.bundle, annotations: self.spec.annotations().as_ref() }
    }

    /// The runtime's side while the first process sets itself up.
    fn attend(&self, pid: Pid, pidfd: &OwnedFd, cgroup: &Cgroup, stream: &mut UnixStream) -> Result<State> {
        let mut state = self.state_of(pid, cgroup)?;
        if let Some(rdt) = &self.plan.rdt {
            state.resctrl = rdt::enter(rdt, &rdt::mount_point()?, pid)?;
        }
        // Until this returns, it is no container that runs.
        let _unfinished = self.dir.save(&state).inspect_err(|_| drop(rdt::remove(&state.resctrl)))?;
        if let Some(path) = &self.options.pid_file {
            replace(path, pid.to_string().as_bytes())?;
        }
        if let Some(user) = &self.plan.user {
            user::prepare(user, &self.plan.steps, pid)?;
            sync::send_go(stream).map_err(file("write to", "the container's process"))?;
        }
        if let Some(devices) = &self.plan.net_devices {
            move_devices(devices, pid)?;
        }
        let mut lives = true;
        let mut hooks_wait = self.plan.steps.contains(&Step::RuntimeHooks);
        if !hooks_wait && self.gate == Gate::Go {
            lives = sync::send_go(stream).map_err(file("write to", "the container's process"))?;
        }
        loop {
            match sync::listen(stream).map_err(file("read from", "the container's process"))? {
                Said::Hooks => {
                    self.run_runtime_hooks(pid, pidfd)?;
                    hooks_wait = false;
                    for _ in 0..if self.gate == Gate::Go { 2 } else { 1 } {
                        lives = sync::send_go(stream).map_err(file("write to", "the container's process"))?;
                    }
                }
                Said::Listener(listener) => {
                    let json = self.hook_state().json("creating", pid.as_raw());
                    lives = listener::hand_over(stream, &listener, pid.as_raw(), &json)?;
                }
                Said::Failed(text) | Said::HookFailed(text) => return Err(Error::Container(text)),
                Said::Ready => {
                    self.dir.set_created()?;
                    return Ok(state);
                }
                Said::Executing if self.gate == Gate::Go && !hooks_wait && lives => return Ok(state),
                Said::Executing | Said::Ended => {
                    return Err(Error::Container("the container's first process ended before it was ready".into()));
                }
            }
        }
    }

    fn state_of(&self, pid: Pid, cgroup: &Cgroup) -> Result<State> {
        // It is our child and not waited for, so the pid is its own.
        let found = process::stat(pid).map_err(file("read", format!("/proc/{pid}/stat")))?;
        let hooks = self.spec.hooks().as_ref();
        let list = |list: Option<&Option<Vec<Hook>>>| list.cloned().flatten().unwrap_or_default();
        Ok(State {
            version: STATE_VERSION,
            id: self.options.id.clone(),
            pid: pid.as_raw(),
            pid_start: found.ok_or(Errno::ESRCH).map_err(kernel(format!("read /proc/{pid}/stat")))?.start,
            bundle: self.bundle.to_owned(),
            rootfs: self.spec.root().as_ref().map(|root| self.bundle.join(root.path())).unwrap_or_default(),
            created: clock::now(),
            annotations: self.spec.annotations().clone().unwrap_or_default(),
            cgroup: cgroup.path().to_owned(),
            resctrl: Vec::new(),
            unit: self.plan.cgroup.place.unit.as_ref().map(|unit| unit.name.clone()),
            poststart: list(hooks.map(|hooks| hooks.poststart())),
            poststop: list(hooks.map(|hooks| hooks.poststop())),
        })
    }

    fn run_runtime_hooks(&self, pid: Pid, pidfd: &OwnedFd) -> Result<()> {
        let Some(hooks) = self.spec.hooks() else { return Ok(()) };
        let state = self.hook_state().json("creating", pid.as_raw());
        let run = |kind, list: &Option<Vec<Hook>>| {
            let place = Place::Runtime { bundle: self.bundle, first: Some(pidfd.as_fd()) };
            hooks::run_all(kind, list.as_deref().unwrap_or_default(), &state, place, &[])
        };
        run("prestart", hooks.prestart())?;
        run("createRuntime", hooks.create_runtime())
    }
}

/// Clones into the cgroup. Where that is refused (an old kernel, a threaded cgroup) the child has to enter it by itself: `false`.
pub(super) fn clone_into(namespaces: CloneFlags, group: &OwnedFd) -> Result<(Cloned, bool)> {
    match process::clone(namespaces, Some(group.as_fd())) {
        Ok(cloned) => Ok((cloned, true)),
        Err(Errno::E2BIG | Errno::EOPNOTSUPP | Errno::EBUSY | Errno::EACCES) => {
            let cloned = process::clone(namespaces, None).map_err(kernel("clone3"))?;
            Ok((cloned, false))
        }
        Err(errno) => Err(kernel("clone3")(errno)),
    }
}

/// The socket that `start` connects to. It is bound through the directory's descriptor: its path may be too long for an address.
fn bind(dir: &StateDir) -> Result<UnixListener> {
    let fd = open(dir.path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let fd = fd.map_err(kernel(format!("open {}", dir.path().display())))?;
    let socket = dir.creating_socket();
    let name = socket.file_name().unwrap_or_default();
    UnixListener::bind(Path::new(&mount::proc_path(&fd)).join(name)).map_err(file("bind", &socket))
}

/// Moves devices into the container's network namespace, before any hook looks for them there.
fn move_devices(devices: &NetDevices, pid: Pid) -> Result<()> {
    let path = devices.namespace.clone().unwrap_or_else(|| format!("/proc/{pid}/ns/net").into());
    let namespace = open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let namespace = namespace.map_err(kernel(format!("linux.namespaces: open {}", path.display())))?;
    devices.devices.iter().try_for_each(|device| {
        move_device(&device.from, &device.to, namespace.as_fd())
            .map_err(|source| Error::NetDevice { name: device.from.clone(), source })
    })
}

/// Takes away the mounts that a container without a mount namespace has made in the runtime's. None are fine.
pub(super) fn unmount(root: &Path) -> Result<()> {
    match umount2(root, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(kernel(format!("unmount {}", root.display()))(errno)),
    }
}
