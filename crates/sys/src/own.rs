//! A program's own files: read whole, never through a link, never a fifo, a device or without an end.
//!
//! What a program reads back need not be what it wrote: a hand, a restore or a broken disk may have put something else in its
//! place. A fifo would hang whoever opens it, a device may do worse when it is opened, and a link leads to a file that is not the
//! program's.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::makedev;

/// Most bytes of a file of podwright's own state. The largest are those with a manifest, of which 10 MiB are accepted.
pub const MAX_STATE: u64 = 64 << 20;

/// What is done with a link in place of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It is an error.
    Refuse,
    /// It is followed: an administrator may have put it there. So may the null device, as a file with nothing in it.
    Follow,
}

/// All bytes of a regular file of at most `limit` bytes; a link in its place is an error. Never waits for another process.
///
/// # Errors
/// Those of the file system; `InvalidData` for what is no regular file or too large, with a word about what it is.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read(path, limit, Links::Refuse)
}

/// As [`read_regular`], with a choice about links.
///
/// # Errors
/// As [`read_regular`].
pub fn read(path: &Path, limit: u64, links: Links) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    let mut file = open_checked(path, &mut options, links)?;
    let too_large = |size: u64| {
        let message = format!("has {size} bytes or more, and {limit} are accepted");
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    };
    let size = file.metadata()?.len();
    if size > limit {
        return too_large(size);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // Files of the kernel have no size, and others may grow.
    (&mut file).take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > limit { too_large(size) } else { Ok(bytes) }
}

/// As [`read_regular`], as text.
///
/// # Errors
/// As [`read_regular`]; `InvalidData` for what is not UTF-8.
pub fn read_text(path: &Path, limit: u64, links: Links) -> io::Result<String> {
    let bytes = read(path, limit, links)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Opens a regular file of the program's own as `options` say; one that is not there is made if they say so. A link is an error, and
/// so is anything else in its place. Never waits for another process.
///
/// # Errors
/// As [`read_regular`].
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_checked(path, options, Links::Refuse)
}

fn open_checked(path: &Path, options: &mut OpenOptions, links: Links) -> io::Result<File> {
    let metadata = |path: &Path| match links {
        Links::Refuse => fs::symlink_metadata(path),
        Links::Follow => fs::metadata(path),
    };
    // A device is not opened even for a look at it.
    match metadata(path) {
        Ok(found) => check(&found, links)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let no_links = if links == Links::Refuse { OFlag::O_NOFOLLOW } else { OFlag::empty() };
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | no_links;
    let file = options.custom_flags(flags.bits()).open(path)?;
    // It may have become something else since.
    check(&file.metadata()?, links)?;
    Ok(file)
}

/// An error that names what is there instead of a regular file.
fn check(found: &Metadata, links: Links) -> io::Result<()> {
    let is_null = found.file_type().is_char_device() && found.rdev() == makedev(1, 3);
    let found = found.file_type();
    let what = match () {
        () if found.is_file() || is_null && links == Links::Follow => return Ok(()),
        () if found.is_symlink() => "a symbolic link",
        () if found.is_dir() => "a directory",
        () if found.is_fifo() => "a fifo",
        () if found.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::{Mode, SFlag, mknod};

    fn said(result: io::Result<impl std::fmt::Debug>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        error.to_string()
    }

    #[test]
    fn the_null_device_is_an_empty_file_of_an_administrator() {
        let null = Path::new("/dev/null");
        assert_eq!(read(null, 1, Links::Follow).unwrap(), b"");
        assert!(said(read_regular(null, 1)).contains("a device"));
    }

    #[test]
    fn a_regular_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        assert!(said(read_regular(&path, 4)).contains("4 are accepted"));
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(said(read_regular(&path, MAX_STATE)).contains("bytes or more"));
        assert_eq!(read_regular(&dir.path().join("none"), 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!read_text(Path::new("/proc/sys/kernel/random/boot_id"), 100, Links::Refuse).unwrap().is_empty());
    }

    #[test]
    fn everything_else_is_named_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::write(at("file"), "x").unwrap();
        symlink(at("file"), at("symbolic link")).unwrap();
        // /dev/zero: without an end. Where no device can be made, the one that is there stands for it.
        let made = mknod(&at("device"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5));
        for name in ["fifo", "socket", "directory", "symbolic link", "device"] {
            let path = if name == "device" && made.is_err() { "/dev/zero".into() } else { at(name) };
            assert_eq!(said(read_regular(&path, 10)), format!("is a {name}, not a regular file"));
            let opened = open_own(&path, OpenOptions::new().read(true).write(true).create(true));
            assert_eq!(said(opened), format!("is a {name}, not a regular file"));
        }
        assert_eq!(read(&at("symbolic link"), 10, Links::Follow).unwrap(), b"x");
    }

    #[test]
    fn a_link_makes_no_file_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, link) = (dir.path().join("outside"), dir.path().join("lock"));
        symlink(&outside, &link).unwrap();
        let options = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true);
            options
        };
        assert!(open_own(&link, &mut options()).is_err());
        assert!(!outside.exists());
        // The control: without it the link is followed.
        options().open(&link).unwrap();
        assert!(outside.exists());
    }
}
