//! The shim's binary, taken once into a sealed memory file: every pod runs the same one, whatever a package upgrade does
//! to the file, and no container can write it (CVE-2019-5736).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use podwright_sys::own::open_own;
use tokio::process::{Child, Command};

/// Where system-wide tools are looked for, whatever the agent's environment says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `MFD_EXEC` of Linux 6.3, asked for since `vm.memfd_noexec` may deny execution otherwise.
const MFD_EXEC: u32 = 0x10;

/// The binary.
#[derive(Debug)]
pub struct ShimBinary {
    file: File,
}

impl ShimBinary {
    /// Takes a copy of the file.
    ///
    /// # Errors
    /// When it cannot be read, or there is no memory for it.
    pub fn open(path: &Path) -> io::Result<ShimBinary> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let create = |flags| memfd_create(c"podwright-shim", flags);
        let memory = match create(flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
            Err(nix::Error::EINVAL) => create(flags)?,
            other => other?,
        };
        let mut file = File::from(memory);
        io::copy(&mut File::open(path)?, &mut file)?;
        file.flush()?;
        let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(ShimBinary { file })
    }

    /// Starts a shim with its listening socket as standard input and its own log as standard error. It has its own
    /// process group, so that what a terminal sends to the agent does not reach pods.
    ///
    /// # Errors
    /// Those of fork(2) and execve(2), and of the log file.
    pub fn spawn(&self, config: &Path, listener: UnixListener, log: &Path) -> io::Result<Child> {
        let log = open_own(log, fs::OpenOptions::new().create(true).append(true))?;
        Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
            .arg0("podwright-shim")
            .arg(config)
            .current_dir("/")
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .process_group(0)
            .spawn()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_runs_from_memory_and_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let binary = ShimBinary::open(Path::new("/bin/cat")).unwrap();
        assert!((&binary.file).write_all(b"x").is_err());
        fs::write(dir.path().join("in"), "").unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let mut child = binary.spawn(&dir.path().join("in"), listener, &dir.path().join("log")).unwrap();
        assert!(child.wait().await.unwrap().success());
    }
}
