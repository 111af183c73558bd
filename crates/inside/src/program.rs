//! The program that a process becomes.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{SFlag, fstat, stat};
use nix::unistd::{AccessFlags, execve, faccessat, getuid};
use podwright_sys::path::{file_type, is_dir};
use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::root::own_root;

/// Where programs are looked up when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of the container's `/etc/passwd` is read in search of a home directory, bytes.
const MAX_PASSWD: u64 = 1 << 20;

/// A program and what it gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Program {
    /// The name to look up, and its arguments.
    pub args: Vec<String>,
    /// `KEY=VALUE`; the last `PATH` here is where the name is looked up. `HOME` is added if it is missing.
    pub env: Vec<String>,
}

/// Descriptors that are passed on to the program besides its first three.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passed {
    /// How many, from 3 on.
    pub count: u32,
    /// For the environment, if there are activation sockets (sd_listen_fds(3)). `LISTEN_PID` is added by the program's process
    /// itself, which alone knows its pid in its own PID namespace.
    pub env: Vec<String>,
}

impl Program {
    /// Looks for it, from a working directory, so that it can be told early that it is missing.
    ///
    /// # Errors
    /// [`StepError::NotInPath`], [`StepError::Exec`].
    pub fn find(&self, cwd: &Path) -> Result<(), StepError> {
        let name = self.name();
        let mut found = StepError::NotInPath(name.to_owned());
        for candidate in self.candidates() {
            let candidate = cwd.join(candidate);
            match is_executable(&candidate) {
                Ok(()) => return Ok(()),
                Err(Errno::ENOENT | Errno::ENOTDIR) if !name.contains('/') => {}
                Err(source) => found = StepError::Exec { name: name.to_owned(), source },
            }
        }
        Err(found)
    }

    /// Becomes it, looked up as execvp(3) does, or tells why not.
    pub(crate) fn exec(&self, passed: &Passed) -> StepError {
        let name = self.name();
        let strings =
            |list: &[String]| list.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>();
        let mut env = self.env.clone();
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            env.push(format!("HOME={}", home_of(getuid().as_raw())));
        }
        if !passed.env.is_empty() {
            env.extend(passed.env.iter().cloned());
            env.push(format!("LISTEN_PID={}", std::process::id()));
        }
        let (Ok(args), Ok(env)) = (strings(&self.args), strings(&env)) else {
            return StepError::Exec { name: name.to_owned(), source: Errno::EINVAL };
        };
        let mut failed = StepError::NotInPath(name.to_owned());
        for candidate in self.candidates() {
            let Ok(path) = CString::new(candidate) else { continue };
            let Err(source) = execve(&path, &args, &env);
            match source {
                Errno::ENOENT | Errno::ENOTDIR if !name.contains('/') => {}
                // As execvp(3): remembered, and the next directory is tried.
                Errno::EACCES if !name.contains('/') => failed = StepError::Exec { name: name.to_owned(), source },
                source => return StepError::Exec { name: name.to_owned(), source },
            }
        }
        failed
    }

    fn name(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// Paths to try, in order: the name itself if it has a slash, else its places in the program's own `PATH`.
    fn candidates(&self) -> Vec<String> {
        let name = self.name();
        if name.contains('/') || name.is_empty() {
            return vec![name.to_owned()];
        }
        let path = self.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        path.split(':').map(|dir| if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") }).collect()
    }
}

/// Whether execve(2) would take it for a program, but for its content.
fn is_executable(path: &Path) -> nix::Result<()> {
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::empty())?;
    if is_dir(&stat(path)?) { Err(Errno::EACCES) } else { Ok(()) }
}

/// The user's home directory as the container's `/etc/passwd` has it, else `/`.
fn home_of(uid: u32) -> String {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let Ok(file) = own_root().and_then(|root| root.open(Path::new("/etc/passwd"), flags)) else { return "/".into() };
    if !fstat(&file).is_ok_and(|stat| file_type(&stat) == SFlag::S_IFREG) {
        return "/".into();
    }
    let lines = BufReader::new(File::from(file).take(MAX_PASSWD)).lines().map_while(Result::ok);
    lines.filter_map(|line| home_in(&line, uid)).next().unwrap_or_else(|| "/".into())
}

fn home_in(line: &str, uid: u32) -> Option<String> {
    let mut fields = line.split(':').skip(2);
    let found: u32 = fields.next()?.parse().ok()?;
    let home = fields.nth(2)?;
    (found == uid && !home.is_empty()).then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_the_programs_own_path() {
        let program = |name: &str, env: &[&str]| Program {
            args: vec![name.into()],
            env: env.iter().map(|&entry| entry.to_owned()).collect(),
        };
        assert_eq!(program("./x", &["PATH=/a"]).candidates(), ["./x"]);
        assert_eq!(program("x", &["PATH=/old", "PATH=/a::/b"]).candidates(), ["/a/x", "./x", "/b/x"]);
        assert_eq!(program("x", &[]).candidates().len(), 6);
        assert_eq!(program("", &["PATH=/a"]).candidates(), [""], "no directory is taken for a program");
    }

    #[test]
    fn homes_come_from_passwd() {
        assert_eq!(home_in("user:x:1000:1000:A User:/home/user:/bin/sh", 1000), Some("/home/user".into()));
        assert_eq!(home_in("user:x:1000:1000::/home/user:/bin/sh", 1001), None);
        assert_eq!(home_in("user:x:1000:1000:::/bin/sh", 1000), None);
        assert_eq!(home_in("garbage", 0), None);
    }
}
