//! A name of which there is no object.

use super::explanation::{Advice, Explanation, Situation};
use crate::manifest::nearest;
use crate::objects::Kind;

/// What there is instead.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Kind, namespace and name of every object that can be meant: of all kinds, ended pods included.
    pub names: Vec<(Kind, String, String)>,
    /// Files that are not accepted, each with its problems, one line each.
    pub rejected: Vec<(String, Vec<String>)>,
    /// How long ended pods are remembered, for people: `7 d`.
    pub retention: String,
    /// The manifest directory.
    pub directory: String,
}

impl Known {
    /// Those that are meant by a question about `kind`: who asks about a pod may not have thought of the kind.
    fn candidates(&self, kind: Kind) -> impl Iterator<Item = &(Kind, String, String)> {
        self.names.iter().filter(move |(of, ..)| kind == Kind::Pod || *of == kind)
    }
}

/// How `podwright why` is asked about it.
fn question(kind: Kind, name: &str, namespace: &str) -> String {
    let prefix = if kind == Kind::Pod { String::new() } else { format!("{}/", kind.singular()) };
    let flag = if namespace == "default" { String::new() } else { format!(" -n {namespace}") };
    format!("podwright why {prefix}{name}{flag}")
}

/// Explains why there is no such object, and what was probably meant.
pub fn missing(kind: Kind, namespace: &str, name: &str, known: &Known) -> Explanation {
    let mut details = Vec::new();
    let mut advice = Vec::new();
    for (of, ns, _) in known.candidates(kind).filter(|(_, ns, other)| other == name && ns != namespace) {
        advice.push(Advice { text: format!("there is one in namespace {ns}"), with: Some(question(*of, name, ns)) });
    }
    let here = || known.candidates(kind).filter(|(_, ns, _)| ns == namespace);
    if let Some(near) = nearest(name, here().map(|(.., other)| other.as_str())) {
        let of = here().find(|(.., other)| other == near).map_or(kind, |(of, ..)| *of);
        let (text, with) = (format!("did you mean {near}?"), Some(question(of, near, namespace)));
        advice.push(Advice { text, with });
    }
    // The text of a problem, or the file's name, may well name it; files that do come first.
    let mut rejected: Vec<&(String, Vec<String>)> = known.rejected.iter().collect();
    rejected.sort_by_key(|(file, problems)| !(file.contains(name) || problems.iter().any(|p| p.contains(name))));
    let suspect = rejected
        .first()
        .is_some_and(|(file, problems)| file.contains(name) || problems.iter().any(|p| p.contains(name)));
    for (file, problems) in rejected.iter().take(3) {
        details.push(format!("{file} is rejected, and nothing new of it runs:"));
        details.extend(problems.iter().take(3).map(|problem| format!("  {problem}")));
    }
    if let Some((file, _)) = rejected.first() {
        advice.push(Advice { text: "put the file right".to_owned(), with: Some(format!("podwright validate {file}")) });
    }
    let word = kind.singular();
    details.push(match kind {
        Kind::Pod => format!("pods come from {}; ended ones are remembered for {}", known.directory, known.retention),
        Kind::Job | Kind::CronJob => format!("{word}s come from {}", known.directory),
    });
    if advice.is_empty() {
        let all = if kind == Kind::Pod { " --all" } else { "" };
        advice.push(Advice { text: "what there is".to_owned(), with: Some(format!("podwright get {word}s -A{all}")) });
        advice
            .push(Advice { text: "what became of each file".to_owned(), with: Some("podwright get files".to_owned()) });
    }
    let situation = if suspect { Situation::Rejected } else { Situation::NotFound };
    let summary = format!("there is no {word} {namespace}/{name}");
    Explanation { details, advice, ..Explanation::new(kind, (namespace, name), situation, summary) }
}
