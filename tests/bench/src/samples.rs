//! What was measured, by key, and rounds in which every subject has its turn.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// Values by key; several values of one key are samples of it.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    /// Adds one value.
    pub(crate) fn add(&mut self, key: impl Into<String>, value: f64) {
        self.0.entry(key.into()).or_default().push(value);
    }

    /// The median of every key.
    pub(crate) fn medians(&self) -> BTreeMap<String, f64> {
        self.0.iter().filter_map(|(key, values)| Some((key.clone(), median(values)?))).collect()
    }
}

/// The value in the middle; of an even number, the mean of the two there.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// One thing to measure: does it once, and adds what it found.
pub(crate) type Turn<'a> = Box<dyn FnMut(&mut Samples) -> Result<()> + 'a>;

/// Runs A B C, A B C, …: what slows the machine for a while slows all alike. The first round only warms caches.
///
/// # Errors
/// The first one of any turn, with the subject's name.
pub(crate) fn interleave(rounds: usize, subjects: &mut [(&str, Turn<'_>)], samples: &mut Samples) -> Result<()> {
    let mut warm_up = Samples::default();
    for round in 0..=rounds {
        for (name, turn) in subjects.iter_mut() {
            let into = if round == 0 { &mut warm_up } else { &mut *samples };
            turn(into).with_context(|| format!("{name}, round {round} of {rounds}"))?;
        }
        eprint!("{}", if round == 0 { "  round" } else { "" });
        eprint!(" {round}");
    }
    eprintln!();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn every_subject_has_its_turn_in_every_round_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(String::new());
        let turn = |key: &'static str| -> Turn<'_> {
            let order = &order;
            Box::new(move |samples| {
                order.borrow_mut().push_str(key);
                samples.add(key, order.borrow().len() as f64);
                Ok(())
            })
        };
        let mut samples = Samples::default();
        interleave(2, &mut [("a", turn("a")), ("b", turn("b"))], &mut samples).unwrap();
        assert_eq!(order.borrow().as_str(), "ababab");
        assert_eq!(samples.medians(), [("a".to_owned(), 4.0), ("b".to_owned(), 5.0)].into());
    }

    #[test]
    fn an_error_names_the_subject_and_the_round() {
        let mut samples = Samples::default();
        let mut subjects: [(&str, Turn<'_>); 1] = [("crun", Box::new(|_| anyhow::bail!("no")))];
        let error = interleave(3, &mut subjects, &mut samples).unwrap_err();
        assert_eq!(format!("{error:#}"), "crun, round 0 of 3: no");
    }
}
