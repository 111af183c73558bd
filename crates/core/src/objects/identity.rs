//! Which object.

use std::fmt;

use super::kind::Kind;
use crate::manifest::Resource;
use crate::pod::spec::PodSpec;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// `kind`.
    pub kind: Kind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.singular(), self.namespace, self.name)
    }
}

impl Identity {
    /// Of an object of a file.
    pub fn of(object: &Resource) -> Identity {
        Identity::new(object.kind(), object.namespace(), object.name())
    }

    /// Of a pod.
    pub fn of_pod(pod: &PodSpec) -> Identity {
        Identity::new(Kind::Pod, &pod.namespace, &pod.name)
    }

    /// Of what is called so.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Identity {
        Identity { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// For the list of a file's objects: `default/web`, `job default/report`.
    pub fn listed(&self) -> String {
        match self.kind {
            Kind::Pod => format!("{}/{}", self.namespace, self.name),
            _ => self.to_string(),
        }
    }

    /// What is wrong with a `file` that describes this object, which `owner` describes already.
    pub fn conflict(&self, file: &str, owner: &str) -> String {
        format!("{file}: {self} is described by {owner} already; remove it from one of the two files")
    }
}
