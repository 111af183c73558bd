//! What the container's first process does: the words of a plan.

use std::path::PathBuf;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use podwright_inside as inside;
use podwright_inside::Program;
use podwright_sys::device;
use podwright_sys::mount::Change;

use super::ids::Mappings;

/// How the first process learns that it may execute the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `run`: the runtime says go once the state is saved.
    Go,
    /// `create`: a later `start` does.
    Start,
}

/// One thing that the container's first process does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// What every process on its way into a container may do.
    Inside(inside::Step),
    /// Enter an existing namespace.
    Join {
        /// Its kind, one bit.
        kind: CloneFlags,
        /// A file such as `/proc/1/ns/net`.
        path: PathBuf,
    },
    /// Wait until the runtime has written the mappings of the user namespace.
    AwaitMappings,
    /// Check that a user namespace that was joined has these mappings.
    CheckMappings(Mappings),
    /// Become this user and group of the user namespace, with all capabilities there: files that are made belong to them.
    BecomeRoot {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Make a time namespace, set its clocks and enter it.
    UnshareTime {
        /// Lines of `/proc/self/timens_offsets`.
        offsets: String,
    },
    /// Make a cgroup namespace whose root is the container's cgroup.
    UnshareCgroup,
    /// Set the host name.
    Hostname(String),
    /// Set the NIS domain name.
    Domainname(String),
    /// Set the propagation of all mounts of the new mount namespace.
    Propagation(MsFlags),
    /// Bind the root file system to itself: it becomes a mount that can be pivoted to.
    BindRoot {
        /// Where it is on the host.
        path: PathBuf,
        /// The runtime has opened it, see [`BindMount::early`].
        early: bool,
    },
    /// Mount a new file system.
    MountFs(FsMount),
    /// Mount an existing directory or file.
    Bind(BindMount),
    /// Show the container its cgroup.
    MountCgroup {
        /// Where.
        target: PathBuf,
        /// `MS_*` flags.
        flags: MsFlags,
        /// With an own cgroup namespace a cgroup2 mount shows the right part; without one the directory is bound.
        namespaced: bool,
        /// Options of the file system.
        data: String,
        /// A propagation type and whether it is recursive.
        propagation: Option<MsFlags>,
    },
    /// Change attributes and propagation of what is mounted already.
    ChangeMount {
        /// Where.
        target: PathBuf,
        /// For the mount itself.
        change: Change,
        /// For it and those below.
        recursive_change: Change,
    },
    /// Change a file system that is mounted already.
    Remount {
        /// Where.
        target: PathBuf,
        /// All `MS_*` flags that it has from now on.
        flags: MsFlags,
        /// Options of the file system.
        data: String,
    },
    /// Make device nodes.
    Devices(Vec<DeviceNode>),
    /// Make symlinks (link, target) in `/dev` where nothing is.
    DevLinks,
    /// Make the working directory where it is missing.
    MakeCwd(PathBuf),
    /// Write a kernel parameter.
    Sysctl {
        /// Below `/proc/sys`.
        path: PathBuf,
        /// What to write.
        value: String,
        /// The namespace that holds it, to be checked against the host's when the container has not its own.
        shared_namespace: Option<&'static str>,
    },
    /// Make a terminal of the container's own devpts, and send its master to the console socket.
    OpenTerminal {
        /// Its size; `None`: as it comes.
        size: Option<TerminalSize>,
        /// Show it as `/dev/console`.
        console: bool,
    },
    /// Let the runtime run the prestart and createRuntime hooks.
    RuntimeHooks,
    /// Run the createContainer hooks.
    CreateContainerHooks,
    /// Make file systems read-only whose mount points had to be filled first.
    SealMounts,
    /// Hide a file or directory.
    Mask(PathBuf),
    /// Make a file or directory read-only, with all mounts below it.
    ReadonlyPath(PathBuf),
    /// Make the root file system's own mount read-only.
    ReadonlyRoot,
    /// Change the root and let go of the old one.
    PivotRoot,
    /// Change the root where it cannot be pivoted (it is a ramfs): move the new one over the old one and chroot(2) to it.
    MoveRoot,
    /// Change the root by chroot(2), in a mount namespace that is not the container's own.
    Chroot,
    /// Change the root to the one of a container that runs, likewise.
    EnterRoot,
    /// Set the propagation of the container's root.
    RootPropagation(MsFlags),
    /// Look for the program, so that `create` can report that it is missing.
    FindProgram {
        /// The program.
        program: Program,
        /// For a name relative to it.
        cwd: PathBuf,
    },
    /// Wait for the runtime or for `start`.
    Await(Gate),
    /// Run the startContainer hooks.
    StartContainerHooks {
        /// For those that name no environment.
        env: Vec<String>,
    },
    /// Check that the kernel has this security module, and keep a way to ask it for a label.
    FindModule {
        /// Which one.
        module: SecurityModule,
        /// The field that asks for it.
        field: &'static str,
    },
    /// Take this label with the program.
    Label {
        /// The module that knows it.
        module: SecurityModule,
        /// The name of a profile, or a context.
        label: String,
    },
    /// Make the terminal the session's, and descriptors 0 to 2.
    AttachTerminal,
    /// Load the seccomp filter where it does nothing yet, and hand its listener to the runtime. Nothing happens with a filter that
    /// can only be loaded with [`inside::Step::LoadFilter`].
    OfferListener,
    /// Clone a process that goes on with the steps behind this one in the container's PID namespace, and end: all that the
    /// container may not see has been done out of its sight.
    Succeed,
    /// There is no program (runtime-spec, config.md: `process` is required when `start` is called).
    NoProcess,
}

impl From<inside::Step> for Step {
    fn from(step: inside::Step) -> Step {
        Step::Inside(step)
    }
}

/// A security module of the kernel that knows labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityModule {
    /// Labels are names of profiles.
    AppArmor,
    /// Labels are contexts.
    SeLinux,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// A new file system to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsMount {
    /// Where, seen from the container.
    pub target: PathBuf,
    /// Type, as in `/proc/filesystems`.
    pub fstype: String,
    /// What the mount table shows as its source.
    pub source: PathBuf,
    /// `MS_*` flags.
    pub flags: MsFlags,
    /// Options of the file system.
    pub data: String,
    /// A propagation type and whether it is recursive.
    pub propagation: Option<MsFlags>,
    /// To be made read-only by [`Step::SealMounts`] instead of at once.
    pub seal: bool,
    /// Filled with what it covers.
    pub copy_up: bool,
    /// What of the host to bind where this mount is not permitted: the kernel's views of namespaces that are not the
    /// container's cannot be mounted anew from its user namespace.
    pub or_bind: Option<PathBuf>,
}

/// An existing directory or file to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Where, seen from the container.
    pub target: PathBuf,
    /// What, seen from the host.
    pub source: PathBuf,
    /// With the mounts below it.
    pub recursive: bool,
    /// Attributes for the top mount.
    pub change: Change,
    /// Attributes and propagation for all of its mounts.
    pub recursive_change: Change,
    /// Opened by the runtime before it makes the first process: what that is not allowed to reach from its user namespace, or
    /// what has to stay connected with the host's mounts, or whose owners are mapped.
    pub early: bool,
    /// Owners are mapped: files of the first id of a mapping belong to the second.
    pub mapping: Option<MountMapping>,
}

/// How the owners of a mount are mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountMapping {
    /// From the ids in the file system to those that are seen.
    pub mappings: Mappings,
    /// For the mounts below as well.
    pub recursive: bool,
}

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where, seen from the container.
    pub path: PathBuf,
    /// `None`: a fifo.
    pub kind: Option<device::Kind>,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
