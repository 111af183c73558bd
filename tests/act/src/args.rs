//! `KEY=VALUE` arguments; a comma list gives one value per instance, its last entry repeats.

use std::time::Duration;

/// Keys of `act KEY=VALUE...`.
pub(crate) const RUN_KEYS: &[&str] = &["run", "exit", "term", "code", "sig", "mem", "serve", "listen"];
/// Keys of `act hook`.
pub(crate) const HOOK_KEYS: &[&str] = &["run", "exit"];
/// Keys of `act probe`.
pub(crate) const PROBE_KEYS: &[&str] = &["up", "until", "run"];
/// Keys of `act spy`.
pub(crate) const SPY_KEYS: &[&str] = &["slow", "for"];

/// Keys of `act traced`.
pub(crate) const TRACED_KEYS: &[&str] = &["sig", "exit"];

/// Parsed arguments of one call.
#[derive(Debug)]
pub(crate) struct Args(Vec<(String, Vec<String>)>);

impl Args {
    /// Splits the words; a key that is not in `known`, or is there twice, is an error.
    pub(crate) fn parse(words: &[&str], known: &[&str]) -> Result<Args, String> {
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for word in words {
            let Some((key, values)) = word.split_once('=') else { return Err(format!("{word:?} is not KEY=VALUE")) };
            if !known.contains(&key) {
                return Err(format!("{key:?} is none of {}", known.join(", ")));
            }
            if found.iter().any(|(k, _)| k == key) {
                return Err(format!("{key:?} is given twice"));
            }
            found.push((key.to_owned(), values.split(',').map(str::to_owned).collect()));
        }
        Ok(Args(found))
    }

    /// Whether any value is a list, so that the number of the instance matters.
    pub(crate) fn has_list(&self) -> bool {
        self.0.iter().any(|(_, values)| values.len() > 1)
    }

    /// The value of `key` for the `instance`-th instance, counted from 1.
    pub(crate) fn get(&self, key: &str, instance: usize) -> Option<&str> {
        let (_, values) = self.0.iter().find(|(k, _)| k == key)?;
        values.get(instance.max(1) - 1).or(values.last()).map(String::as_str)
    }

    /// A time; `None` is `inf`.
    pub(crate) fn time(
        &self,
        key: &str,
        instance: usize,
        default: Option<Duration>,
    ) -> Result<Option<Duration>, String> {
        self.get(key, instance).map_or(Ok(default), seconds)
    }

    /// An exit status; 0 when it is not given.
    pub(crate) fn code(&self, key: &str, instance: usize) -> Result<u8, String> {
        let value = self.get(key, instance).unwrap_or("0");
        value.parse().map_err(|_| format!("{key}={value}: an exit status is 0 to 255"))
    }
}

/// Seconds, may be fractions; `inf` is `None`.
pub(crate) fn seconds(text: &str) -> Result<Option<Duration>, String> {
    if text == "inf" {
        return Ok(None);
    }
    let value: f64 = text.parse().map_err(|_| format!("{text:?} are no seconds"))?;
    Duration::try_from_secs_f64(value).map(Some).map_err(|_| format!("{text:?} are no seconds"))
}

/// A size with one of the suffixes Ki, Mi, Gi, in bytes.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let (digits, unit) = text.split_at(text.len().saturating_sub(2));
    let unit = match unit {
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(format!("{text:?}: a size ends in Ki, Mi or Gi")),
    };
    digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(|| format!("{text:?} is no size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_give_a_value_per_instance_and_repeat_the_last() {
        let args = Args::parse(&["run=3,inf", "exit=1,0"], RUN_KEYS).unwrap();
        assert!(args.has_list());
        assert_eq!(args.time("run", 1, None), Ok(Some(Duration::from_secs(3))));
        assert_eq!(args.time("run", 2, None), Ok(None));
        assert_eq!((args.code("exit", 1), args.code("exit", 2), args.code("exit", 9)), (Ok(1), Ok(0), Ok(0)));
        assert_eq!(args.time("term", 1, Some(Duration::ZERO)), Ok(Some(Duration::ZERO)));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for words in [&["rum=1"][..], &["run=1", "run=2"], &["run"]] {
            assert!(Args::parse(words, RUN_KEYS).is_err(), "{words:?}");
        }
        let args = Args::parse(&["exit=256", "run=soon"], RUN_KEYS).unwrap();
        assert!(args.code("exit", 1).is_err() && args.time("run", 1, None).is_err());
        assert!(seconds("-1").is_err() && size("5").is_err() && size("Mi").is_err());
        assert_eq!(size("200Mi"), Ok(200 << 20));
    }
}
