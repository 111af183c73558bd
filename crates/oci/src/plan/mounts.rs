//! `mounts`: fstab-style options to flags, and mounts to steps.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime::Mount;
use podwright_sys::mount::Change;

use super::{BindMount, FsMount, PlanError, Result, Step};

const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(1 << 8);
const LAZYTIME: MsFlags = MsFlags::from_bits_retain(1 << 25);

/// Options that turn a flag on or off (runtime-spec, config.md, "Linux mount options"); with an `r` before, and if they are
/// attributes of a mount, they hold for all mounts below as well.
const FLAGS: [(&str, MsFlags, bool); 26] = [
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
    data: Vec<String>,
}

fn parse(options: &[String], field: &str) -> Result<Options> {
    let none = MsFlags::empty();
    let mut parsed = Options {
        bind: false,
        recursive: false,
        set: none,
        clear: none,
        recursive_set: none,
        recursive_clear: none,
        propagation: None,
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
                "remount" | "idmap" | "ridmap" | "tmpcopyup" => {
                    return Err(PlanError::unsupported(format!("{field}.options: {option}")));
                }
                other => parsed.data.push(other.to_owned()),
            }
        }
    }
    Ok(parsed)
}

pub(super) fn option_names() -> Vec<String> {
    let plain = FLAGS.iter().map(|(name, ..)| (*name).to_owned());
    let recursive = FLAGS[..RECURSIVE].iter().map(|(name, ..)| format!("r{name}"));
    let propagation = PROPAGATION.iter().map(|(name, _)| (*name).to_owned());
    let rest = ["bind", "defaults", "loud", "rbind"].map(str::to_owned);
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

/// The steps for all mounts, in their order.
pub(super) fn plan(mounts: &[Mount], bundle: &Path, cgroup_namespace: bool) -> Result<Vec<Step>> {
    mounts.iter().enumerate().map(|(index, mount)| plan_one(mount, index, bundle, cgroup_namespace)).collect()
}

fn plan_one(mount: &Mount, index: usize, bundle: &Path, cgroup_namespace: bool) -> Result<Step> {
    let field = format!("mounts[{index}]");
    if mount.uid_mappings().iter().chain(mount.gid_mappings()).any(|list| !list.is_empty()) {
        return Err(PlanError::unsupported(format!("{field}.uidMappings")));
    }
    // Relative destinations are deprecated; they start at the root.
    let target = Path::new("/").join(mount.destination());
    if target == Path::new("/") {
        return Err(PlanError::new(format!("{field}.destination"), "is the root, which is mounted already"));
    }
    let options = parse(mount.options().as_deref().unwrap_or_default(), &field)?;
    let fstype = mount.typ().as_deref().unwrap_or_default();
    if options.bind || fstype == "bind" {
        return Ok(Step::Bind(bind(mount, target, &options, &field, bundle)?));
    }
    match fstype {
        "" | "none" => Err(PlanError::new(
            format!("{field}.type"),
            "is missing, and the options name neither bind nor rbind; give a file system type such as tmpfs",
        )),
        "cgroup" | "cgroup2" => Ok(Step::MountCgroup { target, flags: options.set, namespaced: cgroup_namespace }),
        _ => Ok(Step::MountFs(file_system(mount, target, fstype, options))),
    }
}

fn bind(mount: &Mount, target: PathBuf, options: &Options, field: &str, bundle: &Path) -> Result<BindMount> {
    let source = mount
        .source()
        .as_ref()
        .ok_or_else(|| PlanError::new(format!("{field}.source"), "is missing for a bind mount"))?;
    if let Some(option) = options.data.first() {
        return Err(PlanError::new(format!("{field}.options"), format!("{option:?} is no option of a bind mount")));
    }
    let mut change = Change::flags(options.set, options.clear);
    let mut recursive_change = Change::flags(options.recursive_set, options.recursive_clear);
    if let Some(kind) = options.propagation {
        let bare = kind - MsFlags::MS_REC;
        if kind.contains(MsFlags::MS_REC) {
            recursive_change = recursive_change.propagation(bare);
        } else {
            change = change.propagation(bare);
        }
    }
    Ok(BindMount { target, source: bundle.join(source), recursive: options.recursive, change, recursive_change })
}

fn file_system(mount: &Mount, target: PathBuf, fstype: &str, options: Options) -> FsMount {
    // Mount points below a tmpfs are made in it, so it turns read-only only after all mounts.
    let seal = fstype == "tmpfs" && options.set.contains(MsFlags::MS_RDONLY);
    let flags = if seal { options.set - MsFlags::MS_RDONLY } else { options.set };
    FsMount {
        target,
        fstype: fstype.to_owned(),
        source: mount.source().clone().unwrap_or_else(|| fstype.into()),
        flags,
        data: options.data.join(","),
        propagation: options.propagation,
        seal,
    }
}
