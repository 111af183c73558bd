//! Threads that may never come back from the kernel.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Gives the calling thread a table of descriptors of its own, in which only 0 to 2 and those to `keep` are open.
///
/// For a thread that makes calls which a file system may never answer. Such a thread outlives even SIGKILL, and a table that it
/// shares with its process would outlive it with it: locks would stay taken and connections open until the file system answers.
///
/// What the thread opens afterwards is its own. Whatever else the process has open, the thread must not use: to it those numbers are
/// closed, and that goes for what a library opens unseen, such as what wakes an
/// async runtime. Nothing else changes for the other threads.
///
/// # Errors
/// ENOMEM; EMFILE if the table is larger than it may be by now.
pub fn keep_only(keep: &[BorrowedFd<'_>]) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    keep.sort_unstable();
    let mut next = 3;
    for number in keep.into_iter().filter(|number| *number >= 3).chain([u32::MAX]) {
        if next < number {
            // SAFETY: the table belongs to this thread alone since the call above, so no descriptor of another thread is closed. What
            // this thread's own frames hold, the caller promises not to use; no memory is touched.
            Errno::result(unsafe { libc::close_range(next, number - 1, 0) })?;
        }
        next = next.max(number.saturating_add(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    fn open() -> usize {
        std::fs::read_dir("/proc/thread-self/fd").unwrap().count()
    }

    #[test]
    fn a_thread_keeps_what_it_is_told_to_and_the_others_keep_everything() {
        let (kept, other) = (File::open("/proc/self/stat").unwrap(), File::open("/proc/self/status").unwrap());
        let own = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                keep_only(&[kept.as_fd()]).unwrap();
                let mut text = String::new();
                (&kept).read_to_string(&mut text).unwrap();
                assert!(!text.is_empty());
                assert_eq!((&other).read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::EBADF));
                open()
            });
            thread.join().unwrap()
        });
        // 0 to 2, the kept one, and the listing itself.
        assert!(own <= 5, "{own} descriptors");
        let mut text = String::new();
        (&other).read_to_string(&mut text).unwrap();
        assert!(text.starts_with("Name:"));
    }
}
