//! The root directory of the calling process.

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use podwright_sys::path::Root;

/// The root directory, for lookups that stay below it.
///
/// # Errors
/// open(2)'s.
pub fn own_root() -> nix::Result<Root> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map(Root::new)
}
