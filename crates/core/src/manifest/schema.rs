//! The form of a manifest: which fields there are, which of them podwright does, what they may hold.
//!
//! [`super::table`] is the data, this is the check. A field is never silently ignored: it is done, or accepted with a note
//! that says why it has no effect, or refused.

use super::problem::{At, MOST_ELEMENTS, Problems, join};
use super::quantity::Quantity;
use super::quote::shown;
use super::suggest::nearest;

/// A mapping with known fields.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) fields: &'static [Field],
}

/// A field of an [`Object`].
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) support: Support,
}

/// What podwright makes of a field.
#[derive(Debug)]
pub(super) enum Support {
    /// It does what Kubernetes says.
    Done(Type),
    /// Accepted; the text says why it changes nothing here.
    NoEffect(Type, &'static str),
    /// Valid in Kubernetes, not done yet; the text says what to do.
    Later(&'static str),
    /// Not done on purpose; the text says why, and what to do.
    Never(&'static str),
    /// Written by an API server, not by people; the text says what to do.
    Server(&'static str),
}

/// What a field may hold.
#[derive(Debug)]
pub(super) enum Type {
    String,
    Bool,
    /// Only this one is done yet.
    BoolOnly(bool),
    /// From, to.
    Integer(i64, i64),
    /// An integer or a string: a port or its name.
    Port,
    /// A quantity as Kubernetes writes it.
    Quantity,
    /// Done, and valid but not done yet.
    Word(&'static [&'static str], &'static [&'static str]),
    Object(&'static Object),
    List(&'static Type),
    /// Free keys, string values.
    Strings,
    /// `cpu` and `memory` quantities.
    Amounts,
}

/// Where notes and problems go.
pub(super) struct Findings<'p> {
    pub(super) problems: &'p mut Problems,
    pub(super) notes: &'p mut Problems,
}

/// Checks a mapping against its table.
pub(super) fn check(at: &At<'_>, object: &Object, found: &mut Findings<'_>) {
    if !at.node.is_map() {
        found.problems.at(at, wrong(at, "mapping"));
        return;
    }
    for entry in at.node.entries() {
        let path = join(&at.path, &entry.key);
        let Some(field) = object.fields.iter().find(|f| f.name == entry.key) else {
            // A suggestion that nobody will see is not worth its time.
            let message = if found.problems.is_full() { String::new() } else { unknown(&entry.key, object) };
            found.problems.push(entry.line, path, message);
            continue;
        };
        if entry.node.is_null() {
            continue;
        }
        let value = At::new(&entry.node, path);
        match &field.support {
            Support::Done(accepted) => check_type(&value, accepted, found),
            Support::NoEffect(accepted, why) => {
                check_type(&value, accepted, found);
                found.notes.push(entry.line, value.path, format!("accepted, without effect: {why}"));
            }
            Support::Later(advice) => {
                found.problems.push(entry.line, value.path, format!("{LATER}; {advice}"));
            }
            Support::Never(reason) => found.problems.push(entry.line, value.path, format!("not accepted: {reason}")),
            // What `kubectl create --dry-run -o yaml` leaves: it says nothing.
            Support::Server(_) if entry.node.is_map() && entry.node.entries().is_empty() => {}
            Support::Server(advice) => {
                found.problems.push(
                    entry.line,
                    value.path,
                    format!("set by an API server, not by a manifest; {advice}"),
                );
            }
        }
    }
    for field in object.fields.iter().filter(|f| f.required && at.get(f.name).is_none()) {
        found.problems.push(at.node.line, at.path_of(field.name), format!("required; {}", article(&field.support)));
    }
}

/// How a refusal of a Kubernetes feature begins.
pub(super) const LATER: &str = "valid in Kubernetes, not done by podwright yet";

fn article(support: &Support) -> String {
    match support {
        Support::Done(accepted) | Support::NoEffect(accepted, _) => format!("accepted: {}", accepted.describe()),
        Support::Later(advice) | Support::Never(advice) | Support::Server(advice) => (*advice).to_owned(),
    }
}

fn unknown(key: &str, object: &Object) -> String {
    let done = || object.fields.iter().filter(|f| matches!(f.support, Support::Done(_))).map(|f| f.name);
    match nearest(key, done()).or_else(|| nearest(key, object.fields.iter().map(|f| f.name))) {
        Some(name) => format!("unknown field; did you mean \"{name}\"?"),
        None => format!("unknown field; accepted here: {}", done().collect::<Vec<_>>().join(", ")),
    }
}

fn check_type(at: &At<'_>, accepted: &Type, found: &mut Findings<'_>) {
    let problems = &mut *found.problems;
    match accepted {
        Type::String if at.node.as_str().is_none() => problems.at(at, wrong_string(at, "string")),
        Type::Bool if at.node.as_bool().is_none() => problems.at(at, wrong_bool(at)),
        Type::BoolOnly(done) => match at.node.as_bool() {
            None => problems.at(at, wrong_bool(at)),
            Some(value) if value != *done => problems.at(at, format!("{value} is {LATER}; accepted: {done}")),
            Some(_) => {}
        },
        Type::Integer(low, high) if !at.node.as_int().is_some_and(|i| (*low..=*high).contains(&i)) => {
            problems.at(at, wrong_integer(at, &accepted.describe_to(at)));
        }
        Type::Port if at.node.as_int().is_none() && at.node.as_str().is_none() => {
            problems.at(at, wrong(at, &accepted.describe()));
        }
        Type::Quantity if at.node.as_quantity().is_none() => problems.at(at, wrong(at, &accepted.describe())),
        Type::Word(done, later) => check_word(at, done, later, problems),
        Type::Object(object) => check(at, object, found),
        Type::List(_) if at.node.elements().len() > MOST_ELEMENTS => {
            let found = at.node.elements().len();
            problems.at(at, format!("found {found} elements, accepted: at most {MOST_ELEMENTS}"));
        }
        Type::List(inner) if at.node.is_seq() => at.elements().iter().for_each(|at| check_type(at, inner, found)),
        Type::List(_) => problems.at(at, wrong(at, &accepted.describe())),
        Type::Strings if at.node.is_map() => {
            for (_, value) in at.fields().filter(|(_, at)| at.node.as_str().is_none()) {
                problems.at(&value, wrong_string(&value, "string"));
            }
        }
        Type::Amounts if at.node.is_map() => check_amounts(at, found),
        Type::Strings | Type::Amounts => problems.at(at, wrong(at, &accepted.describe())),
        Type::String | Type::Bool | Type::Integer(..) | Type::Port | Type::Quantity => {}
    }
}

fn check_word(at: &At<'_>, done: &[&str], later: &[&str], problems: &mut Problems) {
    let Some(word) = at.node.as_str() else {
        return problems.at(at, wrong_string(at, &done.join(", ")));
    };
    if done.contains(&word) {
        return;
    }
    let named: Vec<&str> = done.iter().map(|w| if w.is_empty() { "\"\"" } else { w }).collect();
    let accepted = named.join(", ");
    if later.contains(&word) {
        return problems.at(at, format!("{} is {LATER}; accepted: {accepted}", shown(word)));
    }
    let hint = nearest(word, done.iter().copied().filter(|w| !w.is_empty()));
    let hint = hint.map(|w| format!("; did you mean \"{w}\"?")).unwrap_or_default();
    problems.at(at, format!("found {}, accepted: {accepted}{hint}", shown(word)));
}

fn check_amounts(at: &At<'_>, found: &mut Findings<'_>) {
    let problems = &mut *found.problems;
    for (name, value) in at.fields() {
        match name {
            "memory" if value.node.as_quantity().is_some() => {
                if let Some(note) = value.node.as_quantity().and_then(|text| part_of_a_byte(&text)) {
                    found.notes.push(value.node.line, value.path.clone(), note);
                }
            }
            "cpu" if value.node.as_quantity().is_some() => {}
            "cpu" | "memory" => problems.at(&value, wrong(&value, &Type::Quantity.describe())),
            "ephemeral-storage" => problems.at(&value, format!("{LATER}; remove it, accepted: cpu, memory")),
            _ if name.starts_with("hugepages-") || name.contains('/') => {
                problems.at(&value, format!("{LATER}; remove it, accepted: cpu, memory"));
            }
            _ => {
                let hint = nearest(name, ["cpu", "memory"]).map(|w| format!("; did you mean \"{w}\"?"));
                problems.at(&value, format!("unknown resource; accepted: cpu, memory{}", hint.unwrap_or_default()));
            }
        }
    }
}

/// The API server warns of it: hardly anybody means thousandths of a byte.
fn part_of_a_byte(text: &str) -> Option<String> {
    let quantity = Quantity::parse(text).ok().filter(|quantity| !quantity.is_whole())?;
    let bytes = quantity.units().ok()?;
    let meant = text.strip_suffix('m').map(|number| format!("; did you mean {number}Mi?")).unwrap_or_default();
    Some(format!("{} is no whole number of bytes, rounded up to {bytes}{meant}", shown(text)))
}

fn wrong(at: &At<'_>, accepted: &str) -> String {
    format!("found {}, accepted: {accepted}", at.node.describe())
}

/// Where a string is wanted, an unquoted word or number is the usual slip.
fn wrong_string(at: &At<'_>, accepted: &str) -> String {
    match at.node.describe().split_once(' ') {
        Some(("boolean" | "number", text)) => format!("{}; quote it: {}", wrong(at, accepted), shown(text)),
        _ => wrong(at, accepted),
    }
}

fn wrong_bool(at: &At<'_>) -> String {
    match at.node.as_str().map(str::to_lowercase).as_deref() {
        Some("true" | "yes" | "on" | "false" | "no" | "off") => {
            format!("{}; write it without quotes", wrong(at, "true, false"))
        }
        _ => wrong(at, "true, false"),
    }
}

fn wrong_integer(at: &At<'_>, accepted: &str) -> String {
    match at.node.as_str() {
        Some(text) if text.parse::<i64>().is_ok() => format!("{}; write it without quotes", wrong(at, accepted)),
        _ => wrong(at, accepted),
    }
}

impl Type {
    /// As [`Type::describe`], for what was found: only what is above an upper bound makes it worth naming.
    fn describe_to(&self, at: &At<'_>) -> String {
        match self {
            Type::Integer(low, high) if at.node.as_int().is_some_and(|found| found > *high) => {
                format!("integer from {low} to {high}")
            }
            _ => self.describe(),
        }
    }

    /// For messages, after "accepted:".
    fn describe(&self) -> String {
        match self {
            Type::String => "string".to_owned(),
            Type::Bool => "true, false".to_owned(),
            Type::BoolOnly(done) => done.to_string(),
            Type::Integer(low, high) if *high >= LARGE => format!("integer, {low} or more"),
            Type::Integer(low, high) => format!("integer from {low} to {high}"),
            Type::Port => "port number or name of a port".to_owned(),
            Type::Quantity => "quantity, as in 500m, 2 or 64Mi".to_owned(),
            Type::Word(done, _) => done.join(", "),
            Type::Object(_) => "mapping".to_owned(),
            Type::List(inner) => match inner {
                Type::String => "list of strings".to_owned(),
                Type::Integer(..) => "list of integers".to_owned(),
                _ => "list of mappings".to_owned(),
            },
            Type::Strings => "mapping of strings".to_owned(),
            Type::Amounts => "mapping of cpu and memory to quantities".to_owned(),
        }
    }
}

/// Upper bounds from here on are not worth naming where they are kept.
pub(super) const LARGE: i64 = i32::MAX as i64;
