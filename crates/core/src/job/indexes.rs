//! Sets of completion indexes, in the form in which the API shows them: `1,3-5,7`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of indexes, kept as ranges: what a job with a hundred thousand completions has done is a few of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Indexes {
    /// First and last, ascending, with a gap between any two.
    ranges: Vec<(u32, u32)>,
}

/// A text that is no set of indexes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found \"{found}\", accepted: ascending indexes and ranges, as in 1,3-5,7")]
pub struct IndexesError {
    found: String,
}

impl Indexes {
    /// Adds one; `true` if it was not there.
    pub fn insert(&mut self, index: u32) -> bool {
        // The first range that ends at or after the index's left neighbour.
        let at = self.ranges.partition_point(|(_, last)| last.saturating_add(1) < index);
        match self.ranges.get_mut(at) {
            Some((first, last)) if (*first..=*last).contains(&index) => return false,
            Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
            Some((first, _)) if index.checked_add(1) == Some(*first) => *first = index,
            Some(_) | None => self.ranges.insert(at, (index, index)),
        }
        if let (Some((_, last)), Some(&(first, end))) = (self.ranges.get(at), self.ranges.get(at + 1))
            && last.checked_add(1) == Some(first)
        {
            self.ranges[at].1 = end;
            self.ranges.remove(at + 1);
        }
        true
    }

    /// Whether it is in the set.
    pub fn contains(&self, index: u32) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < index);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The largest one.
    pub fn last(&self) -> Option<u32> {
        self.ranges.last().map(|(_, last)| *last)
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// How many of them are in the other set, too.
    pub fn count_in(&self, other: &Indexes) -> u32 {
        let overlap = |(a, b): (u32, u32), (c, d): (u32, u32)| {
            let (first, last) = (a.max(c), b.min(d));
            if first <= last { last - first + 1 } else { 0 }
        };
        self.ranges.iter().map(|one| other.ranges.iter().map(|two| overlap(*one, *two)).sum::<u32>()).sum()
    }

    /// Without what is not below `limit`.
    pub fn below(&self, limit: u32) -> Indexes {
        let cut = self.ranges.iter().filter(|(first, _)| *first < limit).map(|(f, l)| (*f, (*l).min(limit - 1)));
        Indexes { ranges: cut.collect() }
    }
}

/// Three or more in a row are a range, as the job controller writes it.
impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Indexes {
    type Err = IndexesError;

    fn from_str(text: &str) -> Result<Indexes, IndexesError> {
        let wrong = || IndexesError { found: text.to_owned() };
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok()).flatten().ok_or_else(wrong)
        };
        let mut indexes = Indexes::default();
        if text.is_empty() {
            return Ok(indexes);
        }
        let mut before: Option<u32> = None;
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            // The range's own length is no reason to walk through it.
            if before.is_some_and(|before| first <= before) || last < first || last == u32::MAX {
                return Err(wrong());
            }
            match indexes.ranges.last_mut() {
                Some((_, end)) if *end + 1 == first => *end = last,
                _ => indexes.ranges.push((first, last)),
            }
            before = Some(last);
        }
        Ok(indexes)
    }
}

impl TryFrom<String> for Indexes {
    type Error = IndexesError;

    fn try_from(text: String) -> Result<Indexes, IndexesError> {
        text.parse()
    }
}

impl From<Indexes> for String {
    fn from(indexes: Indexes) -> String {
        indexes.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_are_written_as_the_job_controller_writes_them() {
        let shown = |all: &[u32]| {
            let mut indexes = Indexes::default();
            all.iter().for_each(|i| {
                indexes.insert(*i);
            });
            indexes.to_string()
        };
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&[7, 1, 4, 3, 5]), "1,3-5,7");
        assert_eq!(shown(&[0, 1]), "0,1");
        assert_eq!(shown(&[2, 0, 1]), "0-2");
    }

    #[test]
    fn texts_that_are_none_are_refused() {
        for bad in ["a", "1,,2", "1-", "-1", "3-1", "2,1", "1,1", "1-3,3", "+1", " 1", "4294967295", "1-2-3"] {
            assert!(bad.parse::<Indexes>().is_err(), "{bad}");
        }
        assert_eq!("0,1,2,5-9".parse::<Indexes>().unwrap().to_string(), "0-2,5-9");
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(all in prop::collection::vec(0_u32..60, 0..40), limit in 0_u32..60) {
            let (mut ours, mut model) = (Indexes::default(), BTreeSet::new());
            for index in all {
                prop_assert_eq!(ours.insert(index), model.insert(index));
            }
            prop_assert_eq!(ours.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(ours.len() as usize, model.len());
            prop_assert_eq!(ours.to_string().parse::<Indexes>(), Ok(ours.clone()));
            prop_assert!((0..60).all(|i| ours.contains(i) == model.contains(&i)));
            let below = ours.below(limit);
            prop_assert_eq!(below.iter().collect::<Vec<_>>(), model.range(..limit).copied().collect::<Vec<_>>());
            prop_assert_eq!(ours.count_in(&below), below.len());
        }
    }
}
