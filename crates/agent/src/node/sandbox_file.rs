//! What an agent has written down of a sandbox: `sandbox.json`.

use std::io;
use std::path::Path;

use podwright_proto::{SandboxConfig, VERSION};
use podwright_sys::own::{MAX_STATE, read_regular};

/// Why a `sandbox.json` tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[from] io::Error),
    /// It is not what an agent writes.
    #[error("is damaged")]
    Damaged(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("has version {found}, and this podwright reads version {VERSION}")]
    Version {
        /// Which.
        found: u32,
    },
    /// Whoever acts on it kills what is in the cgroup.
    #[error("names the uid {uid} and the cgroup {cgroup:?}, which are not this pod's")]
    Foreign {
        /// Which it names.
        uid: String,
        /// Which it names.
        cgroup: String,
    },
}

impl ConfigError {
    /// Whether another try may tell more: the file is there, or may be, and was not given.
    pub fn may_pass(&self) -> bool {
        match self {
            ConfigError::Read(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData),
            ConfigError::Damaged(_) | ConfigError::Version { .. } | ConfigError::Foreign { .. } => false,
        }
    }
}

/// Reads a `sandbox.json` of the pod of this uid.
///
/// # Errors
/// When there is none, or it is not usable.
pub fn read_config(path: &Path, uid: &str) -> Result<SandboxConfig, ConfigError> {
    let config: SandboxConfig = serde_json::from_slice(&read_regular(path, MAX_STATE)?)?;
    if config.version != VERSION {
        return Err(ConfigError::Version { found: config.version });
    }
    let is_its = config.cgroup.file_name().is_some_and(|name| *name == *format!("pod{uid}"));
    if config.uid != uid || !is_its {
        let cgroup = config.cgroup.display().to_string();
        return Err(ConfigError::Foreign { uid: config.uid, cgroup });
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    #[test]
    fn a_file_that_would_kill_others_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandbox.json");
        let config = |version, uid: &str, cgroup: &str| SandboxConfig {
            version,
            uid: uid.into(),
            namespace: "default".into(),
            name: "p".into(),
            number: 3,
            boot_id: "b".into(),
            hostname: None,
            unshare_net: false,
            unshare_ipc: false,
            cgroup: PathBuf::from(cgroup),
            records: "/r".into(),
            run: "/r".into(),
            files: None,
        };
        let write = |config: &SandboxConfig| fs::write(&path, serde_json::to_vec(config).unwrap()).unwrap();
        write(&config(VERSION, "u", "/sys/fs/cgroup/podwright.slice/podu"));
        assert_eq!(read_config(&path, "u").unwrap().number, 3);
        for cgroup in ["/sys/fs/cgroup", "/sys/fs/cgroup/podwright.slice/podother", "/", ""] {
            write(&config(VERSION, "u", cgroup));
            assert!(matches!(read_config(&path, "u"), Err(ConfigError::Foreign { .. })), "{cgroup}");
        }
        write(&config(VERSION, "other", "/sys/fs/cgroup/podwright.slice/podu"));
        assert!(matches!(read_config(&path, "u"), Err(ConfigError::Foreign { .. })));
        write(&config(VERSION + 1, "u", "/sys/fs/cgroup/podwright.slice/podu"));
        assert!(matches!(read_config(&path, "u"), Err(ConfigError::Version { .. })));
        fs::write(&path, "{").unwrap();
        assert!(matches!(read_config(&path, "u"), Err(ConfigError::Damaged(_))));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read_config(&path, "u"), Err(ConfigError::Read(_))));
    }
}
