//! An object of which what is kept on disk cannot be used.

use super::explanation::{Advice, Explanation, Situation};
use crate::objects::Kind;

/// What is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Unusable<'a> {
    /// What is wrong, each with its path.
    pub problems: &'a [&'a str],
    /// Processes of it run.
    pub runs: bool,
    /// The manifest that is held back for its sake.
    pub file: Option<&'a str>,
}

/// How it is discarded.
pub fn discard(kind: Kind, (namespace, name): (&str, &str)) -> String {
    let flag = if namespace == "default" { String::new() } else { format!(" -n {namespace}") };
    format!("podwright delete {} {name}{flag}", kind.singular())
}

/// Explains what is wrong, what that means, and what to do.
pub fn unusable(kind: Kind, (namespace, name): (&str, &str), known: Unusable<'_>) -> Explanation {
    let mut details: Vec<String> = known.problems.iter().map(|problem| (*problem).to_owned()).collect();
    details.push("nobody knows what has become of it, so nothing of it is started or removed".to_owned());
    if known.runs {
        details.push("its processes go on, and nobody looks after them".to_owned());
    }
    details.extend(known.file.map(|file| format!("{file} is held back until that is settled")));
    let advice = vec![
        Advice {
            text: "if a newer podwright wrote it, go back to that one; it goes on from there".to_owned(),
            with: None,
        },
        Advice {
            text: "to discard what is kept of it, with its processes".to_owned(),
            with: Some(discard(kind, (namespace, name))),
        },
    ];
    let summary = format!("{namespace}/{name}: what is kept of this {} on disk cannot be used", kind.singular());
    Explanation {
        phase: "Unknown".to_owned(),
        details,
        advice,
        ..Explanation::new(kind, (namespace, name), Situation::StateUnusable, summary)
    }
}
