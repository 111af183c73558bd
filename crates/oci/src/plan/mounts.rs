//! `mounts`: fstab-style options to flags, and mounts to steps.

use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use oci_spec::runtime::Mount;
use podwright_sys::mount::Change;

use super::namespaces::Mounts;
use super::{BindMount, FsMount, Mappings, MountMapping, Namespaces, PlanError, Result, Step, UserNamespace};

const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(1 << 8);
const I_VERSION: MsFlags = MsFlags::from_bits_retain(1 << 23);
const LAZYTIME: MsFlags = MsFlags::from_bits_retain(1 << 25);

/// Options that turn a flag on or off (runtime-spec, config.md, "Linux mount options"); with an `r` before, and if they are
/// attributes of a mount, they hold for all mounts below as well.
const FLAGS: [(&str, MsFlags, bool); 28] = [
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("nosymfollow", NOSYMFOLLOW, true),
    ("symfollow", NOSYMFOLLOW, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("mand", MsFlags::MS_MANDLOCK, true),
    ("nomand", MsFlags::MS_MANDLOCK, false),
    ("iversion", I_VERSION, true),
    ("noiversion", I_VERSION, false),
    ("lazytime", LAZYTIME, true),
    ("nolazytime", LAZYTIME, false),
    ("silent", MsFlags::MS_SILENT, true),
];

/// How many of [`FLAGS`], from the front, have a recursive form.
const RECURSIVE: usize = 18;

const PROPAGATION: [(&str, MsFlags); 8] = [
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
];

/// Options, understood.
#[derive(Debug)]
struct Options {
    bind: bool,
    recursive: bool,
    set: MsFlags,
    clear: MsFlags,
    recursive_set: MsFlags,
    recursive_clear: MsFlags,
    propagation: Option<MsFlags>,
    /// Owners are mapped: `true` in the mounts below as well.
    map_ids: Option<bool>,
    remount: bool,
    copy_up: bool,
    data: Vec<String>,
}

fn parse(options: &[String]) -> Options {
    let none = MsFlags::empty();
    let mut parsed = Options {
        bind: false,
        recursive: false,
        set: none,
        clear: none,
        recursive_set: none,
        recursive_clear: none,
        propagation: None,
        map_ids: None,
        remount: false,
        copy_up: false,
        data: Vec::new(),
    };
    for option in options {
        let option = option.as_str();
        if let Some((_, flag, on)) = FLAGS.iter().find(|(name, ..)| *name == option) {
            toggle(&mut parsed.set, &mut parsed.clear, *flag, *on);
        } else if let Some((_, kind)) = PROPAGATION.iter().find(|(name, _)| *name == option) {
            parsed.propagation = Some(*kind);
        } else if let Some((_, flag, on)) = recursive_form(option) {
            toggle(&mut parsed.recursive_set, &mut parsed.recursive_clear, *flag, *on);
        } else {
            match option {
                "defaults" | "loud" | "norecursive" | "" => {}
                "bind" => parsed.bind = true,
                "rbind" => (parsed.bind, parsed.recursive) = (true, true),
                "idmap" => parsed.map_ids = Some(false),
                "ridmap" => parsed.map_ids = Some(true),
                "remount" => parsed.remount = true,
                "tmpcopyup" => parsed.copy_up = true,
                other => parsed.data.push(other.to_owned()),
            }
        }
    }
    parsed
}

pub(super) fn option_names() -> Vec<String> {
    let plain = FLAGS.iter().map(|(name, ..)| (*name).to_owned());
    let recursive = FLAGS[..RECURSIVE].iter().map(|(name, ..)| format!("r{name}"));
    let propagation = PROPAGATION.iter().map(|(name, _)| (*name).to_owned());
    let rest = ["bind", "defaults", "idmap", "loud", "rbind", "remount", "ridmap", "tmpcopyup"].map(str::to_owned);
    let mut names: Vec<String> = plain.chain(recursive).chain(propagation).chain(rest).collect();
    names.sort();
    names
}

fn recursive_form(option: &str) -> Option<&'static (&'static str, MsFlags, bool)> {
    let plain = option.strip_prefix('r')?;
    FLAGS[..RECURSIVE].iter().find(|(name, ..)| *name == plain)
}

fn toggle(set: &mut MsFlags, clear: &mut MsFlags, flag: MsFlags, on: bool) {
    set.set(flag, on);
    clear.set(flag, !on);
}

/// What mounts depend on besides themselves.
pub(super) struct View<'a> {
    pub(super) bundle: &'a Path,
    pub(super) namespaces: &'a Namespaces,
    pub(super) user: Option<&'a UserNamespace>,
    /// What all mounts of the new mount namespace have at first.
    pub(super) propagation: MsFlags,
    /// The SELinux context of new file systems.
    pub(super) label: Option<&'a str>,
}

/// The steps for all mounts, in their order.
pub(super) fn plan(mounts: &[Mount], view: &View<'_>) -> Result<Vec<Step>> {
    mounts.iter().enumerate().map(|(index, mount)| plan_one(mount, index, view)).collect()
}

fn plan_one(mount: &Mount, index: usize, view: &View<'_>) -> Result<Step> {
    let field = format!("mounts[{index}]");
    let target = cleaned(mount.destination());
    if target == Path::new("/") {
        return Err(PlanError::new(format!("{field}.destination"), "is the root, which is mounted already"));
    }
    let options = parse(mount.options().as_deref().unwrap_or_default());
    let mapping = mapping(mount, &options, view, &field)?;
    let fstype = mount.typ().as_deref().unwrap_or_default();
    if options.copy_up && (fstype != "tmpfs" || options.bind || options.remount) {
        return Err(PlanError::new(format!("{field}.options"), "tmpcopyup found; it fills a new mount of type tmpfs"));
    }
    if options.remount {
        return remount(target, &options, options.bind || fstype == "bind", &field);
    }
    if options.bind || fstype == "bind" {
        return Ok(Step::Bind(bind(mount, target, &options, mapping, &field, view)?));
    }
    if mapping.is_some() {
        let problem =
            "are mapped for a new file system; only what is bound (option bind or rbind) can have its owners mapped";
        return Err(PlanError::new(format!("{field}.uidMappings"), problem));
    }
    match fstype {
        "" | "none" => Err(PlanError::new(
            format!("{field}.type"),
            "is missing, and the options name neither bind nor rbind; give a file system type such as tmpfs",
        )),
        other if other != "proc" && target == Path::new("/proc") => Err(PlanError::new(
            format!("{field}.type"),
            format!("{other:?} found for /proc; proc, or a bind mount of a proc file system, is accepted"),
        )),
        "cgroup" | "cgroup2" => cgroup(target, &options, view, &field),
        _ => Ok(Step::MountFs(file_system(mount, target, fstype, options, view))),
    }
}

/// An absolute path without `.` and `..`, so that what is asked about a destination here is asked of its only name. Relative ones
/// are deprecated; they start at the root.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// The container's cgroup.
fn cgroup(target: PathBuf, options: &Options, view: &View<'_>, field: &str) -> Result<Step> {
    let namespaced = view.namespaces.owns(CloneFlags::CLONE_NEWCGROUP);
    match options.data.first() {
        Some(option) if !namespaced => {
            let problem = format!(
                "{option:?} found; without a cgroup namespace the directory is bound, which has no such option"
            );
            Err(PlanError::new(format!("{field}.options"), problem))
        }
        _ => Ok(Step::MountCgroup {
            target,
            flags: options.set,
            namespaced,
            data: options.data.join(","),
            // A new mount is private already.
            propagation: options.propagation.filter(|kind| !kind.contains(MsFlags::MS_PRIVATE)),
        }),
    }
}

/// A change of what is mounted already: of the mount alone with `bind`, else of the file system (mount(2), "Remounting").
fn remount(target: PathBuf, options: &Options, bind: bool, field: &str) -> Result<Step> {
    let (change, recursive_change) = changes(options);
    if bind {
        return match options.data.first() {
            Some(option) => {
                Err(PlanError::new(format!("{field}.options"), format!("{option:?} is no option of a bind mount")))
            }
            None => Ok(Step::ChangeMount { target, change, recursive_change }),
        };
    }
    if options.propagation.is_some() || !recursive_change.is_empty() {
        let problem = "remount found with propagation or recursive options, which are changed with remount and bind";
        return Err(PlanError::new(format!("{field}.options"), problem));
    }
    Ok(Step::Remount { target, flags: options.set, data: options.data.join(",") })
}

/// What is changed of the top mount, and of all of its mounts.
fn changes(options: &Options) -> (Change, Change) {
    let change = Change::flags(options.set, options.clear);
    let recursive_change = Change::flags(options.recursive_set, options.recursive_clear);
    match options.propagation {
        Some(kind) if kind.contains(MsFlags::MS_REC) => (change, recursive_change.propagation(kind - MsFlags::MS_REC)),
        Some(kind) => (change.propagation(kind), recursive_change),
        None => (change, recursive_change),
    }
}

/// How owners are mapped, if they are: by the mount's own mappings, or for the bare option by those of the container
/// (runtime-spec, config.md, "Linux mount options").
fn mapping(mount: &Mount, options: &Options, view: &View<'_>, field: &str) -> Result<Option<MountMapping>> {
    let own = Mappings::of(mount.uid_mappings().as_ref(), mount.gid_mappings().as_ref(), field)?;
    let recursive = options.map_ids == Some(true);
    match (own, options.map_ids, view.user.and_then(|user| user.mappings.clone())) {
        (Some(mappings), ..) | (None, Some(_), Some(mappings)) => Ok(Some(MountMapping { mappings, recursive })),
        (None, None, _) => Ok(None),
        (None, Some(_), None) => Err(PlanError::new(
            format!("{field}.uidMappings"),
            "is missing for the option idmap or ridmap, and linux.uidMappings is, too",
        )),
    }
}

fn bind(
    mount: &Mount,
    target: PathBuf,
    options: &Options,
    mapping: Option<MountMapping>,
    field: &str,
    view: &View<'_>,
) -> Result<BindMount> {
    let source = mount
        .source()
        .as_ref()
        .filter(|source| !source.as_os_str().is_empty())
        .ok_or_else(|| PlanError::new(format!("{field}.source"), "is missing for a bind mount"))?;
    // Settings of file systems are left out, as mount(2) does with them; words that nobody knows are mistakes.
    if let Some(option) = options.data.iter().find(|option| !option.contains('=')) {
        return Err(PlanError::new(format!("{field}.options"), format!("{option:?} is no option of a bind mount")));
    }
    // Mounts of the new mount namespace have lost their connection with the host's, as far as its propagation says.
    let connected = |kind: MsFlags| {
        kind.contains(MsFlags::MS_SHARED) || kind.contains(MsFlags::MS_SLAVE) && view.propagation != MsFlags::MS_SLAVE
    };
    let own = view.namespaces.mounts() == Mounts::Own;
    let early = view.user.is_some() || !own || mapping.is_some() || options.propagation.is_some_and(connected);
    let (change, mut recursive_change) = changes(options);
    if early && options.propagation.is_none() {
        recursive_change = recursive_change.propagation(view.propagation);
    }
    let source = view.bundle.join(source);
    Ok(BindMount { target, source, recursive: options.recursive, change, recursive_change, early, mapping })
}

fn file_system(mount: &Mount, target: PathBuf, fstype: &str, options: Options, view: &View<'_>) -> FsMount {
    // Mount points below a tmpfs are made in it, so it turns read-only only after all mounts.
    let seal = fstype == "tmpfs" && options.set.contains(MsFlags::MS_RDONLY);
    let flags = if seal { options.set - MsFlags::MS_RDONLY } else { options.set };
    let mut data = options.data;
    if let Some(label) = view.label.filter(|_| !matches!(fstype, "proc" | "sysfs")) {
        // Categories of a label are separated by commas.
        data.push(format!("context=\"{label}\""));
    }
    FsMount {
        target,
        fstype: fstype.to_owned(),
        source: mount.source().clone().unwrap_or_else(|| fstype.into()),
        flags,
        data: data.join(","),
        copy_up: options.copy_up,
        propagation: options.propagation,
        seal,
        or_bind: or_bind(fstype, view),
    }
}

/// A view of the kernel belongs to a namespace, and only who rules over that may mount it anew: from a user namespace, the host's
/// is bound instead, where the namespace is the host's or comes from elsewhere. A `/proc` of another PID namespace would be
/// a wrong one.
fn or_bind(fstype: &str, view: &View<'_>) -> Option<PathBuf> {
    view.user?;
    let new = |kind| view.namespaces.new.contains(kind);
    match fstype {
        "sysfs" if !new(CloneFlags::CLONE_NEWNET) => Some("/sys".into()),
        "mqueue" if !new(CloneFlags::CLONE_NEWIPC) => Some("/dev/mqueue".into()),
        "proc" if !view.namespaces.owns(CloneFlags::CLONE_NEWPID) => Some("/proc".into()),
        _ => None,
    }
}
