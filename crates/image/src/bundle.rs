//! Bundles in a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

/// Longest `config.json` that is read, bytes.
const LONGEST_CONFIG: u64 = 4 << 20;

/// The directory of the bundles.
#[derive(Debug, Clone)]
pub struct BundleStore {
    dir: PathBuf,
}

/// An OCI bundle (runtime-spec, bundle.md).
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Its `config.json`.
    pub config: Spec,
    /// Its root file system, an existing directory; absolute if the store's directory is.
    pub rootfs: PathBuf,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The store has nothing of that name.
    #[error("no bundle {name:?} in {}; make {} with config.json and rootfs", dir.display(), dir.join(name).display())]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where was looked.
        dir: PathBuf,
    },
    /// No bundle can have that name.
    #[error(
        "{name:?} cannot be the name of a bundle; accepted: one directory name, at most 255 bytes, not beginning with '.'"
    )]
    InvalidName {
        /// What was asked for.
        name: String,
    },
    /// It is there, but cannot be used.
    #[error("broken bundle: {}: {why}", path.display())]
    Broken {
        /// The file or directory at fault.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl BundleStore {
    /// A store of the bundles in `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> BundleStore {
        BundleStore { dir: dir.into() }
    }

    /// Reads the bundle `name`.
    ///
    /// # Errors
    /// [`LookupError`]; only `NotFound` can be cured by waiting for somebody to make the bundle.
    pub fn lookup(&self, name: &str) -> Result<Bundle, LookupError> {
        if !is_name(name) {
            return Err(LookupError::InvalidName { name: name.to_owned() });
        }
        let dir = self.dir.join(name);
        match fs::metadata(&dir) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(broken(&dir, "not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LookupError::NotFound { name: name.to_owned(), dir: self.dir.clone() });
            }
            Err(error) => return Err(broken(&dir, error)),
        }
        let config = read_config(&dir.join("config.json"))?;
        let rootfs = find_rootfs(&dir, &config)?;
        Ok(Bundle { config, rootfs })
    }
}

/// One path component, so that a manifest cannot name anything outside the store.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn broken(path: &Path, why: impl ToString) -> LookupError {
    LookupError::Broken { path: path.to_owned(), why: why.to_string() }
}

fn read_config(path: &Path) -> Result<Spec, LookupError> {
    let meta = fs::metadata(path).map_err(|error| broken(path, error))?;
    if !meta.is_file() {
        // Opening a fifo would block.
        return Err(broken(path, "not a regular file"));
    }
    if meta.len() > LONGEST_CONFIG {
        return Err(broken(path, format!("{} bytes, accepted: at most {LONGEST_CONFIG}", meta.len())));
    }
    let text = fs::read(path).map_err(|error| broken(path, error))?;
    serde_json::from_slice(&text).map_err(|error| broken(path, format!("not an OCI runtime config: {error}")))
}

fn find_rootfs(dir: &Path, config: &Spec) -> Result<PathBuf, LookupError> {
    let Some(root) = config.root() else {
        return Err(broken(
            &dir.join("config.json"),
            "root.path: required; accepted: the root file system's directory",
        ));
    };
    if root.path().as_os_str().is_empty() {
        return Err(broken(&dir.join("config.json"), "root.path: empty; accepted: the root file system's directory"));
    }
    // An absolute path replaces the bundle's.
    let rootfs = dir.join(root.path());
    match fs::metadata(&rootfs) {
        Ok(meta) if meta.is_dir() => Ok(rootfs),
        Ok(_) => Err(broken(&rootfs, "the root file system is not a directory")),
        Err(error) => Err(broken(&rootfs, format!("the root file system: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"user": {"uid": 7}, "cwd": "/", "args": ["a"]}}"#;

    fn store() -> (tempfile::TempDir, BundleStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = BundleStore::new(dir.path());
        (dir, store)
    }

    fn make(dir: &Path, name: &str, config: &str) -> PathBuf {
        let bundle = dir.join(name);
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::write(bundle.join("config.json"), config).unwrap();
        bundle
    }

    #[test]
    fn a_good_bundle() {
        let (dir, store) = store();
        let path = make(dir.path(), "web:1.2", CONFIG);
        let bundle = store.lookup("web:1.2").unwrap();
        assert_eq!(bundle.rootfs, path.join("rootfs"));
        assert_eq!(bundle.config.process().as_ref().unwrap().user().uid(), 7);
    }

    #[test]
    fn an_absolute_root_is_honoured() {
        let (dir, store) = store();
        let other = tempfile::tempdir().unwrap();
        make(dir.path(), "a", &CONFIG.replace("rootfs", other.path().to_str().unwrap()));
        assert_eq!(store.lookup("a").unwrap().rootfs, other.path());
    }

    #[test]
    fn names_stay_inside_the_store() {
        let (dir, store) = store();
        let outside = make(dir.path(), "a", CONFIG);
        let inner = BundleStore::new(dir.path().join("a"));
        let absolute = outside.to_str().unwrap().to_owned();
        let long = "x".repeat(256);
        for name in ["", ".", "..", "../a", "/", "a/b", "a/", ".hidden", "a\0b", absolute.as_str(), &long] {
            assert!(matches!(inner.lookup(name), Err(LookupError::InvalidName { .. })), "{name:?}");
        }
        assert!(matches!(store.lookup("b"), Err(LookupError::NotFound { .. })));
    }

    #[test]
    fn what_is_broken_is_named() {
        let (dir, store) = store();
        fs::write(dir.path().join("file"), "").unwrap();
        fs::create_dir(dir.path().join("bare")).unwrap();
        make(dir.path(), "text", "{\"ociVersion\": 1}");
        make(dir.path(), "rootless", r#"{"ociVersion": "1.2.0"}"#);
        make(dir.path(), "gone", &CONFIG.replace("rootfs", "elsewhere"));
        fs::create_dir_all(make(dir.path(), "folder", CONFIG).join("x")).unwrap();
        fs::remove_file(dir.path().join("folder/config.json")).unwrap();
        fs::create_dir(dir.path().join("folder/config.json")).unwrap();
        for (name, at, said) in [
            ("file", "file", "not a directory"),
            ("bare", "bare/config.json", "No such file"),
            ("text", "text/config.json", "line 1"),
            ("rootless", "rootless/config.json", "root.path"),
            ("gone", "gone/elsewhere", "No such file"),
            ("folder", "folder/config.json", "not a regular file"),
        ] {
            match store.lookup(name) {
                Err(LookupError::Broken { path, why }) => {
                    assert_eq!(path, dir.path().join(at), "{name}");
                    assert!(why.contains(said), "{name}: {why}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
