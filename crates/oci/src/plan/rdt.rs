//! `linux.intelRdt`: a group of the resctrl file system, by name.

use oci_spec::runtime::Linux;

use super::{PlanError, Result};

/// What the container gets of caches and memory bandwidth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rdt {
    /// The group's directory; empty: the root of the file system.
    pub group: String,
    /// Whether the group is the container's own: made with it and removed with it.
    pub own: bool,
    /// Lines for `schemata`, in order.
    pub schemata: Vec<String>,
    /// The container's own monitoring group in that group.
    pub monitor: Option<String>,
}

pub(super) fn plan(linux: &Linux, id: &str) -> Result<Option<Rdt>> {
    let Some(rdt) = linux.intel_rdt() else { return Ok(None) };
    let given = rdt.clos_id().clone().filter(|name| !name.is_empty());
    if let Some(name) = given.as_deref().filter(|name| *name != "/")
        && (name.contains(['/', '\n', '\0']) || matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data"))
    {
        let problem = format!("{name:?} found; the name of a group accepted, or / for the default one");
        return Err(PlanError::new("linux.intelRdt.closID", problem));
    }
    let mut schemata = Vec::new();
    let lines = [
        ("l3CacheSchema", "L3", rdt.l3_cache_schema().as_slice()),
        ("memBwSchema", "MB:", rdt.mem_bw_schema().as_slice()),
        ("schemata", "", rdt.schemata().as_deref().unwrap_or_default()),
    ];
    for (field, prefix, list) in lines {
        for line in list.iter().filter(|line| !line.is_empty()) {
            let problem = match (line.contains('\n'), line.starts_with(prefix)) {
                (true, _) => "holds a line break".to_owned(),
                (_, false) => format!("{line:?} found; it has to start with {prefix}"),
                (false, true) => {
                    schemata.push(line.clone());
                    continue;
                }
            };
            return Err(PlanError::new(format!("linux.intelRdt.{field}"), problem));
        }
    }
    let group = match given.as_deref() {
        Some("/") => String::new(),
        Some(name) => name.to_owned(),
        None => id.to_owned(),
    };
    let monitor = (rdt.enable_monitoring() == &Some(true)).then(|| id.to_owned());
    Ok(Some(Rdt { group, own: given.is_none(), schemata, monitor }))
}
