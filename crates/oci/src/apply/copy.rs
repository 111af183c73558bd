//! Fills a new tmpfs with what it covers (the mount option `tmpcopyup`).
//!
//! What is copied is the image's: no link is followed, and what is opened is what was looked at.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};
use podwright_sys::path::file_type;

use super::errno_of;

/// Copies the directory `from` into the root of the file system `to`, which also takes its mode and owner unless its options
/// say otherwise. Links between files are not kept, and extended attributes are not copied.
///
/// # Errors
/// openat(2)'s, read(2)'s and write(2)'s: ENOSPC when the new file system is too small.
pub(super) fn copy_up(from: OwnedFd, to: &OwnedFd, options: &str) -> nix::Result<()> {
    let to = openat(to, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&from)?;
    copy_dir(from, &to)?;
    let given = |key: &str| options.split(',').any(|option| option.starts_with(key));
    let uid = (!given("uid=")).then(|| Uid::from_raw(stat.st_uid));
    let gid = (!given("gid=")).then(|| Gid::from_raw(stat.st_gid));
    fchown(&to, uid, gid)?;
    if given("mode=") { Ok(()) } else { fchmod(&to, mode_of(&stat)) }
}

fn copy_dir(from: OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    let mut dir = Dir::from_fd(from)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        copy_entry(&dir, name.as_c_str(), to)?;
    }
    Ok(())
}

fn copy_entry(from: &Dir, name: &std::ffi::CStr, to: &OwnedFd) -> nix::Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = file_type(&stat);
    match kind {
        SFlag::S_IFDIR => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            mkdirat(to, name, Mode::S_IRWXU)?;
            let made = openat(to, name, flags, Mode::empty())?;
            copy_dir(openat(from, name, flags, Mode::empty())?, &made)?;
            own(&made, &stat)
        }
        SFlag::S_IFREG => copy_file(from, name, to),
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name)?;
            symlinkat(Path::new(&target), to, name)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        }
        _ => {
            mknodat(to, name, kind, mode_of(&stat), stat.st_rdev)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        }
    }
}

fn copy_file(from: &Dir, name: &std::ffi::CStr, to: &OwnedFd) -> nix::Result<()> {
    // Without waiting for a writer, should it be a fifo by now.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut source = File::from(openat(from, name, flags, Mode::empty())?);
    let stat = fstat(&source)?;
    if file_type(&stat) != SFlag::S_IFREG {
        return Err(Errno::ESTALE);
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let mut made = File::from(openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    io::copy(&mut source, &mut made).map_err(|err| errno_of(&err))?;
    own(&OwnedFd::from(made), &stat)
}

/// Gives owner and mode; the mode last, since a change of owner clears some of it.
fn own(made: &OwnedFd, stat: &FileStat) -> nix::Result<()> {
    fchown(made, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(made.as_fd(), mode_of(stat))
}

fn mode_of(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}
