//! Regular files in directories that others may write to: reached below a directory that is trusted, through no link, and
//! looked at before they are opened, so that nothing but a regular file ever is.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::path::file_type;

/// Tries to make a file under a name that somebody else puts something at again and again.
const TRIES: u32 = 8;

/// Why a file is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is something else.
    #[error("it is {0}, not a regular file")]
    Kind(&'static str),
    /// It is known by other names too, and may be somebody else's.
    #[error("it is a hard link to a file with {0} names")]
    Names(u64),
}

/// The directory `below` the one at `root`. Links on the way to `root` are followed, those below are not.
///
/// # Errors
/// openat2(2)'s; ENOTDIR for a link.
pub fn directory(root: &Path, below: &Path) -> nix::Result<OwnedFd> {
    descend(root_of(root)?, below, None)
}

/// As [`directory`]; what is missing of `below` is made, with this mode whatever the umask is.
///
/// # Errors
/// As [`directory`], and mkdirat(2)'s.
pub fn make_directory(root: &Path, below: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    descend(root_of(root)?, below, Some(mode))
}

fn root_of(root: &Path) -> nix::Result<OwnedFd> {
    open(root, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn descend(mut dir: OwnedFd, below: &Path, make: Option<Mode>) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    for component in below.components() {
        let Component::Normal(name) = component else { return Err(Errno::EINVAL) };
        dir = match (openat2(&dir, name, how), make) {
            (Err(Errno::ENOENT), Some(mode)) => {
                let made = mkdirat(&dir, name, mode);
                let child = match made {
                    Ok(()) | Err(Errno::EEXIST) => openat2(&dir, name, how)?,
                    Err(errno) => return Err(errno),
                };
                if made.is_ok() {
                    fchmod(&child, mode)?;
                }
                child
            }
            (other, _) => other?,
        };
    }
    Ok(dir)
}

/// Whether this is a regular file with no other name.
///
/// # Errors
/// [`Refused`].
pub fn check(stat: &FileStat) -> Result<(), Refused> {
    let kind = match file_type(stat) {
        SFlag::S_IFREG if stat.st_nlink > 1 => return Err(Refused::Names(stat.st_nlink)),
        SFlag::S_IFREG => return Ok(()),
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a fifo",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFCHR => "a character device",
        SFlag::S_IFBLK => "a block device",
        _ => "something else",
    };
    Err(Refused::Kind(kind))
}

/// What is known of the file of that name itself; a link is not followed.
///
/// # Errors
/// fstatat(2)'s.
pub fn look(dir: impl AsFd, name: &OsStr) -> nix::Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Opens a regular file to read.
///
/// # Errors
/// [`Refused`] as an [`io::Error`] of kind `InvalidInput`; openat(2)'s.
pub fn open_to_read(dir: impl AsFd, name: &OsStr) -> io::Result<File> {
    reopen(dir, name, OFlag::O_RDONLY)
}

/// Opens a regular file to append to, made with this mode if it is missing. Whatever else has the name loses it first: in
/// this directory, names are ours.
///
/// # Errors
/// As [`open_to_read`]; unlinkat(2)'s, for a directory of that name.
pub fn open_to_append(dir: impl AsFd, name: &OsStr, mode: Mode) -> io::Result<File> {
    let append = OFlag::O_WRONLY | OFlag::O_APPEND;
    let made = append | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    for _ in 0..TRIES {
        match openat(&dir, name, made, mode) {
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
            Ok(file) => {
                fchmod(&file, mode)?;
                return Ok(file.into());
            }
        }
        match reopen(&dir, name, append) {
            Err(error) if is_refused(&error) => match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    Err(Errno::EEXIST.into())
}

/// Whether an error says that what is there is no regular file of ours.
#[must_use]
pub fn is_refused(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Refused>())
}

/// Looks before it opens: opening a fifo waits, and opening a device may do anything.
fn reopen(dir: impl AsFd, name: &OsStr, flags: OFlag) -> io::Result<File> {
    let place = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    check(&fstat(&place)?).map_err(|refused| io::Error::new(io::ErrorKind::InvalidInput, refused))?;
    let same = format!("/proc/self/fd/{}", place.as_raw_fd());
    Ok(open(same.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())?.into())
}

/// The directory of a container's logs and the name of the file in it, from the file's path: LOGS/POD/CONTAINER/FILE, of
/// which all below LOGS is looked up without links.
#[must_use]
pub fn parts_of_log(path: &Path) -> Option<(&Path, &Path, &OsStr)> {
    let (directory, name) = (path.parent()?, path.file_name()?);
    let root = directory.parent()?.parent()?;
    Some((root, directory.strip_prefix(root).ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn only_regular_files_of_one_name_are_opened() {
        let temp = tempfile::tempdir().unwrap();
        let secret = temp.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let logs = temp.path().join("logs");
        fs::create_dir_all(logs.join("pod/app")).unwrap();
        let dir = directory(&logs, Path::new("pod/app")).unwrap();
        let at = |name: &str| logs.join("pod/app").join(name);
        type Plant<'a> = (&'a str, &'a dyn Fn(&Path));
        let plants: [Plant<'_>; 4] = [
            ("link", &|path| symlink(&secret, path).unwrap()),
            ("hard", &|path| fs::hard_link(&secret, path).unwrap()),
            ("fifo", &|path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap()),
            ("device", &|path| symlink("/dev/zero", path).unwrap()),
        ];
        for (name, plant) in plants {
            plant(&at(name));
            // The control: opened by its path, it is the other file.
            if matches!(name, "link" | "hard") {
                assert_eq!(fs::read_to_string(at(name)).unwrap(), "secret");
            }
            let error = open_to_read(&dir, OsStr::new(name)).unwrap_err();
            assert!(is_refused(&error), "{name}: {error}");
            let mut file = open_to_append(&dir, OsStr::new(name), Mode::from_bits_truncate(0o640)).unwrap();
            file.write_all(b"line\n").unwrap();
            assert_eq!(fs::read_to_string(&secret).unwrap(), "secret", "{name}");
            let mut text = String::new();
            open_to_read(&dir, OsStr::new(name)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "line\n");
            assert_eq!(fs::metadata(at(name)).unwrap().mode() & 0o7777, 0o640);
        }
        fs::create_dir(at("directory")).unwrap();
        assert!(open_to_append(&dir, OsStr::new("directory"), Mode::S_IRWXU).is_err());
    }

    #[test]
    fn directories_are_not_reached_through_links() {
        let temp = tempfile::tempdir().unwrap();
        let (real, root) = (temp.path().join("real"), temp.path().join("root"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &root).unwrap();
        let mode = Mode::from_bits_truncate(0o755);
        make_directory(&root, Path::new("pod/app"), mode).unwrap();
        assert!(real.join("pod/app").is_dir(), "links to the root itself are the node's");
        fs::rename(real.join("pod"), real.join("away")).unwrap();
        symlink("/etc", real.join("pod")).unwrap();
        for made in [directory(&root, Path::new("pod/app")), make_directory(&root, Path::new("pod/app"), mode)] {
            assert_eq!(made.unwrap_err(), Errno::ENOTDIR);
        }
        assert_eq!(directory(&root, Path::new("away/../away")).unwrap_err(), Errno::EINVAL);
    }
}
