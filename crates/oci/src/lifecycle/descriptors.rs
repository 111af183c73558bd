//! Descriptors that the caller hands through the runtime to the program: `--preserve-fds`, and the sockets of socket activation
//! (sd_listen_fds(3)).

use podwright_inside::Passed;

use crate::error::{Error, Result};

/// What this process was given, with `preserve` descriptors after the activation sockets. One that is not open stays so: all that the
/// runtime opens itself is close-on-exec, whatever its number.
///
/// # Errors
/// [`Error::Usage`] for a wrong `LISTEN_FDS`.
pub(super) fn of_this_process(preserve: u32) -> Result<Passed> {
    of(preserve, std::process::id(), |name| std::env::var(name).ok())
}

fn of(preserve: u32, own_pid: u32, variable: impl Fn(&str) -> Option<String>) -> Result<Passed> {
    // They are somebody else's, unless the pid says otherwise.
    let ours = variable("LISTEN_PID").is_some_and(|pid| pid.parse() == Ok(own_pid));
    let Some(text) = variable("LISTEN_FDS").filter(|_| ours) else {
        return Ok(Passed { count: preserve, env: vec![] });
    };
    let wrong = || Error::Usage(format!("LISTEN_FDS={text}: is no number of descriptors"));
    let sockets: u32 = text.parse().map_err(|_| wrong())?;
    let count = sockets.checked_add(preserve).filter(|count| *count < 1 << 20).ok_or_else(wrong)?;
    let mut env = Vec::new();
    if sockets > 0 {
        env.push(format!("LISTEN_FDS={sockets}"));
        env.extend(variable("LISTEN_FDNAMES").map(|names| format!("LISTEN_FDNAMES={names}")));
    }
    Ok(Passed { count, env })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(preserve: u32, variables: &[(&str, &str)]) -> Result<Passed> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        of(preserve, 7, find)
    }

    #[test]
    fn activation_sockets_come_first() {
        let none = Passed { count: 1, env: vec![] };
        assert_eq!(given(1, &[]).unwrap(), none);
        assert_eq!(given(1, &[("LISTEN_FDS", "2")]).unwrap(), none, "nobody says that they are ours");
        assert_eq!(given(1, &[("LISTEN_FDS", "2"), ("LISTEN_PID", "8")]).unwrap(), none, "they are somebody else's");
        let both = given(1, &[("LISTEN_FDS", "2"), ("LISTEN_PID", "7"), ("LISTEN_FDNAMES", "a:b")]).unwrap();
        assert_eq!(both, Passed { count: 3, env: vec!["LISTEN_FDS=2".into(), "LISTEN_FDNAMES=a:b".into()] });
        for text in ["x", "-1", "4294967295"] {
            assert!(given(1, &[("LISTEN_FDS", text), ("LISTEN_PID", "7")]).is_err(), "{text}");
        }
    }
}
