//! "did you mean".

/// Enough for every table of fields; a list of names may be longer.
const MOST_CANDIDATES: usize = 100;
/// Characters that are compared.
const LONGEST: usize = 64;

/// The candidate that `found` is most likely a slip of; `None` when none is near.
pub fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower: Vec<char> = found.to_lowercase().chars().take(LONGEST).collect();
    let allowed = match lower.len() {
        0 => return None,
        1..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    let scored = candidates.into_iter().take(MOST_CANDIDATES).filter(|c| c.len() <= 2 * LONGEST).map(|candidate| {
        let other: Vec<char> = candidate.to_lowercase().chars().collect();
        (distance(&lower, &other), candidate)
    });
    scored
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_others_are_not() {
        let fields = ["image", "imagePullPolicy", "initContainers", "restartPolicy", "env", "name"];
        for (found, expected) in [
            ("imagee", Some("image")),
            ("iamge", Some("image")),
            ("initContainer", Some("initContainers")),
            ("restartpolicy", Some("restartPolicy")),
            ("envs", Some("env")),
            ("replicas", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, fields), expected, "{found}");
        }
    }
}
