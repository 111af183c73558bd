//! Errors in words.

use std::error::Error;
use std::io;

use nix::errno::Errno;

/// An error and its causes in one line; the kernel's answers in its own words (`No such file or directory`).
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = in_words(error);
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&in_words(cause));
        next = cause.source();
    }
    text
}

fn in_words(error: &(dyn Error + 'static)) -> String {
    let errno = error.downcast_ref::<Errno>().copied().or_else(|| {
        let number = error.downcast_ref::<io::Error>()?.raw_os_error()?;
        Some(Errno::from_raw(number))
    });
    errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read {0}")]
    struct Reading(&'static str, #[source] io::Error);

    #[test]
    fn chains_name_every_cause_once() {
        assert_eq!(chain(&Reading("/a", io::Error::from_raw_os_error(2))), "read /a: No such file or directory");
        assert_eq!(chain(&Reading("/a", io::ErrorKind::NotFound.into())), "read /a: entity not found");
    }
}
