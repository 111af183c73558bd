//! A name of which there is no pod.

use super::{Advice, Explanation, Situation};
use crate::manifest::nearest;

/// What there is instead.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Namespace and name of every pod, ended ones included.
    pub pods: Vec<(String, String)>,
    /// Files that are not accepted, each with its problems, one line each.
    pub rejected: Vec<(String, Vec<String>)>,
    /// How long ended pods are remembered, for people: `7 d`.
    pub retention: String,
    /// The manifest directory.
    pub directory: String,
}

/// Explains why there is no such pod, and what was probably meant.
pub fn missing(namespace: &str, name: &str, known: &Known) -> Explanation {
    let mut details = Vec::new();
    let mut advice = Vec::new();
    let elsewhere: Vec<&str> =
        known.pods.iter().filter(|(ns, other)| other == name && ns != namespace).map(|(ns, _)| ns.as_str()).collect();
    for ns in &elsewhere {
        advice.push(Advice {
            text: format!("there is one in namespace {ns}"),
            with: Some(format!("podwright why {name} -n {ns}")),
        });
    }
    let here = known.pods.iter().filter(|(ns, _)| ns == namespace).map(|(_, other)| other.as_str());
    if let Some(near) = nearest(name, here) {
        let flag = if namespace == "default" { String::new() } else { format!(" -n {namespace}") };
        advice
            .push(Advice { text: format!("did you mean {near}?"), with: Some(format!("podwright why {near}{flag}")) });
    }
    // The text of a problem, or the file's name, may well name it; files that do come first.
    let mut rejected: Vec<&(String, Vec<String>)> = known.rejected.iter().collect();
    rejected.sort_by_key(|(file, problems)| !(file.contains(name) || problems.iter().any(|p| p.contains(name))));
    let suspect = rejected
        .first()
        .is_some_and(|(file, problems)| file.contains(name) || problems.iter().any(|p| p.contains(name)));
    for (file, problems) in rejected.iter().take(3) {
        details.push(format!("{file} is rejected, and none of its new pods runs:"));
        details.extend(problems.iter().take(3).map(|problem| format!("  {problem}")));
    }
    if let Some((file, _)) = rejected.first() {
        advice.push(Advice { text: "put the file right".to_owned(), with: Some(format!("podwright validate {file}")) });
    }
    details.push(format!("pods come from {}; ended ones are remembered for {}", known.directory, known.retention));
    if advice.is_empty() {
        advice.push(Advice { text: "what there is".to_owned(), with: Some("podwright get pods -A --all".to_owned()) });
        advice
            .push(Advice { text: "what became of each file".to_owned(), with: Some("podwright get files".to_owned()) });
    }
    Explanation {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        container: None,
        phase: String::new(),
        situation: if suspect { Situation::Rejected } else { Situation::NotFound },
        summary: format!("there is no pod {namespace}/{name}"),
        details,
        last_end: None,
        figures: Vec::new(),
        changes: Vec::new(),
        advice,
        containers: Vec::new(),
    }
}
