//! Names of signals, as `lifecycle.stopSignal` and images write them. Numbers are Linux's, real-time ones as glibc counts.

/// The signal that asks a container to stop, where nothing else is said.
pub const SIGTERM: i32 = 15;

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// signal(7), "Standard signals", x86 and ARM. Of two names for one number the first is the one that is shown.
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of `SIGUSR1`, `SIGRTMIN+3` or `SIGRTMAX-2`: the names that the API accepts.
pub fn by_name(name: &str) -> Option<i32> {
    let short = name.strip_prefix("SIG")?;
    let offset = |text: &str, sign: char| -> Option<i32> {
        let digits = text.strip_prefix(sign).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok().filter(|n| (1..=RTMAX - RTMIN).contains(n))
    };
    match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(RTMIN),
        (Some(rest), _) => offset(rest, '+').filter(|n| *n <= 15).map(|n| RTMIN + n),
        (_, Some("")) => Some(RTMAX),
        (_, Some(rest)) => offset(rest, '-').filter(|n| *n <= 14).map(|n| RTMAX - n),
        (None, None) => NAMES.iter().find(|(known, _)| *known == short).map(|(_, number)| *number),
    }
}

/// The number of an image's `STOPSIGNAL`: a name with or without `SIG`, in any case, or a number.
pub fn of_image(text: &str) -> Option<i32> {
    let name = text.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return Some(number).filter(|n| (1..=RTMAX).contains(n));
    }
    by_name(&name).or_else(|| by_name(&format!("SIG{name}")))
}

/// The name that the API shows.
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number == RTMIN => "SIGRTMIN".to_owned(),
        None if number == RTMAX => "SIGRTMAX".to_owned(),
        None if (RTMIN..=RTMIN + 15).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None if (RTMIN..RTMAX).contains(&number) => format!("SIGRTMAX-{}", RTMAX - number),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("SIGUSR1", 10),
            ("SIGIOT", 6),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAX", 64),
            ("SIGRTMAX-14", 50),
        ] {
            assert_eq!(by_name(text), Some(number), "{text}");
        }
        for text in ["TERM", "SIG", "SIGNONE", "SIGRTMIN+16", "SIGRTMIN-1", "SIGRTMAX-15", "SIGRTMIN+", "sigterm", "9"]
        {
            assert_eq!(by_name(text), None, "{text}");
        }
        for number in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(by_name(&name(number)), Some(number));
        }
    }

    #[test]
    fn images_write_them_in_many_ways() {
        for text in ["SIGQUIT", "quit", "3", " Quit "] {
            assert_eq!(of_image(text), Some(3), "{text}");
        }
        assert_eq!(of_image("rtmin+3"), Some(37));
        for text in ["", "0", "65", "-1", "SOON"] {
            assert_eq!(of_image(text), None, "{text}");
        }
    }
}
