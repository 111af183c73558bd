//! Mappings of user and group ids: `linux.uidMappings`, `linux.gidMappings`, and those of mounts.

use std::fmt;

use oci_spec::runtime::LinuxIdMapping;

use super::{PlanError, Result};

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first one inside.
    pub inside: u32,
    /// The first one outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The last number, 2^32 - 1: to the kernel it says "leave it as it is", which would make whoever asks for it root.
const NO_ID: u32 = u32::MAX;

/// Refuses the number that is nobody's.
pub(super) fn check_id(field: impl FnOnce() -> String, id: u32) -> Result<()> {
    if id == NO_ID {
        return Err(PlanError::new(
            field(),
            format!("{id} found, which stands for no id; 0 to {} accepted", NO_ID - 1),
        ));
    }
    Ok(())
}

/// A mapping of ids; shown as the lines that `/proc/PID/uid_map` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap(Vec<IdRange>);

impl IdMap {
    fn of(list: &[LinuxIdMapping], field: &str) -> Result<Self> {
        let mut ranges: Vec<IdRange> = Vec::with_capacity(list.len());
        for (index, mapping) in list.iter().enumerate() {
            let problem = |text: String| Err(PlanError::new(format!("{field}[{index}]"), text));
            let range = IdRange { inside: mapping.container_id(), outside: mapping.host_id(), count: mapping.size() };
            if range.count == 0 {
                return problem("size is 0; at least 1 is accepted".into());
            }
            for (name, first) in [("containerID", range.inside), ("hostID", range.outside)] {
                // The last number has to stay out: see NO_ID.
                if first.checked_add(range.count).is_none() {
                    return problem(format!("{name} {first} and size {} go beyond the last id", range.count));
                }
            }
            let clash = ranges.iter().position(|other| {
                overlap(range.inside, other.inside, range.count, other.count)
                    || overlap(range.outside, other.outside, range.count, other.count)
            });
            if let Some(other) = clash {
                return problem(format!("has ids in common with [{other}]"));
            }
            ranges.push(range);
        }
        Ok(Self(ranges))
    }

    /// What an id inside is outside.
    #[must_use]
    pub fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
            Some(range.outside + offset)
        })
    }

    /// Root where it is mapped, else this one, else the first one inside.
    pub(super) fn root_or(&self, own: Option<u32>) -> u32 {
        match self.outside(0) {
            Some(_) => 0,
            None => own.or_else(|| self.0.first().map(|range| range.inside)).unwrap_or_default(),
        }
    }
}

fn overlap(a: u32, b: u32, a_count: u32, b_count: u32) -> bool {
    a < b + b_count && b < a + a_count
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|range| writeln!(f, "{} {} {}", range.inside, range.outside, range.count))
    }
}

/// Mappings of user and of group ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mappings {
    /// Users.
    pub uids: IdMap,
    /// Groups.
    pub gids: IdMap,
}

impl Mappings {
    /// Those of two fields below `parent`: both or none.
    pub(super) fn of(
        uids: Option<&Vec<LinuxIdMapping>>,
        gids: Option<&Vec<LinuxIdMapping>>,
        parent: &str,
    ) -> Result<Option<Self>> {
        let list = |list: Option<&Vec<LinuxIdMapping>>| list.cloned().unwrap_or_default();
        let (uids, gids) = (list(uids), list(gids));
        let missing = |field: &str, other: &str| {
            Err(PlanError::new(format!("{parent}.{field}"), format!("is missing; it goes with {other}")))
        };
        match (uids.is_empty(), gids.is_empty()) {
            (true, true) => Ok(None),
            (true, false) => missing("uidMappings", "gidMappings"),
            (false, true) => missing("gidMappings", "uidMappings"),
            (false, false) => Ok(Some(Self {
                uids: IdMap::of(&uids, &format!("{parent}.uidMappings"))?,
                gids: IdMap::of(&gids, &format!("{parent}.gidMappings"))?,
            })),
        }
    }
}
