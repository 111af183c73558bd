//! Label and field selectors (k8s.io/apimachinery `pkg/labels`, `pkg/fields`).

use super::error::ApiError;
use crate::status::Index;

/// Which objects a list or watch shows.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    namespace: Option<String>,
    ended: bool,
    labels: Vec<Requirement>,
    fields: Vec<(&'static str, bool, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Objects of `namespace` (`None`: of all); `ended` includes the pods that have ended and were removed.
    pub(super) fn new(namespace: Option<&str>, ended: bool) -> Self {
        Selector { namespace: namespace.map(str::to_owned), ended, ..Selector::default() }
    }

    /// Adds a label selector such as `app=web,tier in (a,b),!old`.
    pub(super) fn labels(mut self, text: Option<&str>) -> Result<Self, ApiError> {
        for part in split_outside_parentheses(text.unwrap_or_default()) {
            let requirement = label_requirement(part).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "labelSelector: found \"{part}\", accepted: KEY, !KEY, KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), \
                     separated by commas"
                ))
            })?;
            self.labels.push(requirement);
        }
        Ok(self)
    }

    /// Adds a field selector such as `metadata.name=web,status.phase!=Running`; `known` are the resource's fields.
    pub(super) fn fields(mut self, text: Option<&str>, known: &[&'static str]) -> Result<Self, ApiError> {
        for part in text.unwrap_or_default().split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, wanted, value) = equality(part).ok_or_else(|| {
                let accepted = "FIELD=VALUE, FIELD==VALUE, FIELD!=VALUE, separated by commas";
                ApiError::bad_request(format!("fieldSelector: found \"{part}\", accepted: {accepted}"))
            })?;
            let field = known.iter().find(|k| **k == key).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "fieldSelector: field \"{key}\" is not supported; accepted: {}",
                    known.join(", ")
                ))
            })?;
            self.fields.push((field, wanted, value.to_owned()));
        }
        Ok(self)
    }

    /// Whether the object is shown.
    pub(super) fn matches(&self, index: &Index) -> bool {
        self.namespace.as_ref().is_none_or(|n| *n == index.namespace)
            && (self.ended || !index.archived)
            && self.fields.iter().all(|(f, wanted, v)| (index.fields.get(f).is_some_and(|have| have == v)) == *wanted)
            && self.labels.iter().all(|r| r.matches(index))
    }
}

impl Requirement {
    fn matches(&self, index: &Index) -> bool {
        match self {
            Requirement::In(k, values) => index.labels.get(k).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(k, values) => index.labels.get(k).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(k) => index.labels.contains_key(k),
            Requirement::Absent(k) => !index.labels.contains_key(k),
        }
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut open = false;
    text.split(|c| {
        open = (open || c == '(') && c != ')';
        c == ',' && !open
    })
    .map(str::trim)
    .filter(|p| !p.is_empty())
    .collect()
}

fn label_requirement(part: &str) -> Option<Requirement> {
    if let Some(body) = part.strip_suffix(')') {
        let (head, values) = body.split_once('(')?;
        let mut words = head.split_whitespace();
        let (key, word) = (words.next().filter(|k| is_key(k))?.to_owned(), words.next()?);
        let values: Vec<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
        return match (word, words.next()) {
            ("in", None) => Some(Requirement::In(key, values)),
            ("notin", None) => Some(Requirement::NotIn(key, values)),
            _ => None,
        };
    }
    if let Some(key) = part.strip_prefix('!').map(str::trim).filter(|k| is_key(k)) {
        return Some(Requirement::Absent(key.to_owned()));
    }
    if let Some((key, wanted, value)) = equality(part).filter(|(k, _, _)| is_key(k)) {
        let values = vec![value.to_owned()];
        return Some(if wanted {
            Requirement::In(key.to_owned(), values)
        } else {
            Requirement::NotIn(key.to_owned(), values)
        });
    }
    is_key(part).then(|| Requirement::Exists(part.to_owned()))
}

/// `K=V`, `K==V` or `K!=V`; the flag tells whether equality is wanted.
fn equality(part: &str) -> Option<(&str, bool, &str)> {
    let (key, value) = part.split_once('=')?;
    let (key, wanted) = key.strip_suffix('!').map_or((key, true), |k| (k, false));
    let value = if wanted { value.strip_prefix('=').unwrap_or(value) } else { value };
    let (key, value) = (key.trim(), value.trim());
    (!key.is_empty() && !value.contains(['=', '!'])).then_some((key, wanted, value))
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use podwright_core::objects::Kind;

    fn index() -> Index {
        let pod = json!({"metadata": {"namespace": "a", "name": "web", "labels": {"app": "web", "tier": "front"}},
                         "status": {"phase": "Running"}});
        Index::of(&pod, Kind::Pod.selectable())
    }

    fn labels(text: &str) -> bool {
        Selector::new(None, false).labels(Some(text)).unwrap().matches(&index())
    }

    fn fields(text: &str) -> bool {
        Selector::new(None, false).fields(Some(text), Kind::Pod.selectable()).unwrap().matches(&index())
    }

    #[test]
    fn label_selectors() {
        for yes in
            ["app=web", "app==web,tier in (back, front)", "app", "!old", "tier notin (x,y),app!=db", "", "none!=x"]
        {
            assert!(labels(yes), "{yes}");
        }
        for no in ["app=db", "tier in (back)", "old", "!app", "app notin (web)", "app=web,tier=back", "app="] {
            assert!(!labels(no), "{no}");
        }
        for bad in ["a in b", "a b", "=x", "a in (x", "a of (x)", "a=b=c", "!"] {
            assert!(Selector::new(None, false).labels(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_and_namespaces() {
        assert!(fields("metadata.name=web,status.phase!=Pending"));
        assert!(!fields("metadata.name=db"));
        assert!(fields("spec.nodeName="));
        let bad = Selector::new(None, false).fields(Some("metadata.nam=web"), Kind::Pod.selectable()).unwrap_err();
        assert!(
            bad.message.starts_with("fieldSelector: field \"metadata.nam\" is not supported; accepted: metadata.name,")
        );
        assert!(Selector::new(Some("a"), false).matches(&index()));
        assert!(!Selector::new(Some("b"), false).matches(&index()));
        let ended = Index { archived: true, ..index() };
        assert!(!Selector::new(None, false).matches(&ended));
        assert!(Selector::new(None, true).matches(&ended));
    }
}
