//! Small file systems that are filled and freed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// The space.
    Bytes,
    /// The inodes.
    Inodes,
}

/// From here on mounts are this program's own, and those of what it starts. To be called while there is one thread.
///
/// # Errors
/// Those of unshare(2) and mount(2).
pub fn own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// Small file systems at these directories.
#[derive(Debug)]
pub struct Small {
    directories: Vec<PathBuf>,
}

impl Small {
    /// Mounts them, each with so many MiB, and 250 inodes for each of those.
    ///
    /// # Errors
    /// Those of mount(2).
    pub fn mount(directories: Vec<PathBuf>, mib: u32) -> nix::Result<Small> {
        let mut small = Small { directories: Vec::new() };
        for directory in directories {
            let options = format!("size={mib}m,nr_inodes={},mode=755", mib * 250);
            mount(Some("small"), &directory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
            small.directories.push(directory);
        }
        Ok(small)
    }

    /// Uses up what is left, also what became free since the last time.
    ///
    /// # Errors
    /// Any but that there is no more.
    pub fn fill(&self, resource: Resource) -> io::Result<()> {
        self.directories.iter().try_for_each(|directory| match resource {
            Resource::Bytes => fill_bytes(directory),
            Resource::Inodes => fill_inodes(directory),
        })
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Those of removing.
    pub fn free(&self) -> io::Result<()> {
        for directory in &self.directories {
            for (path, remove) in [(filler(directory), true), (directory.join(INODE_DIRECTORY), false)] {
                let removed = if remove { fs::remove_file(&path) } else { fs::remove_dir_all(&path) };
                removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
            }
        }
        Ok(())
    }

    /// Unmounts them.
    pub fn unmount(&mut self) {
        for directory in self.directories.drain(..).rev() {
            // What is still in use goes with its last user.
            if let Err(errno) = umount2(&directory, MntFlags::MNT_DETACH) {
                eprintln!("faults: {} cannot be unmounted: {errno}", directory.display());
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.unmount();
    }
}

const INODE_DIRECTORY: &str = ".inodes";

fn filler(directory: &Path) -> PathBuf {
    directory.join(".filler")
}

/// `StorageFull` is what it is all about.
fn until_full(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(true),
        Err(error) => Err(error),
    }
}

fn fill_bytes(directory: &Path) -> io::Result<()> {
    let opened = OpenOptions::new().create(true).append(true).open(filler(directory));
    let mut file = match opened {
        // Not even a name for the filler: it is full by others.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
        other => other?,
    };
    for size in [1 << 16, 1 << 12, 1] {
        while !until_full(file.write_all(&vec![0; size]))? {}
    }
    Ok(())
}

fn fill_inodes(directory: &Path) -> io::Result<()> {
    let inside = directory.join(INODE_DIRECTORY);
    if until_full(fs::create_dir_all(&inside))? {
        return Ok(());
    }
    let mut number = fs::read_dir(&inside)?.count();
    while !until_full(File::create(inside.join(number.to_string())).map(drop))? {
        number += 1;
    }
    Ok(())
}
