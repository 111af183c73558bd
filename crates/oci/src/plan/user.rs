//! The user namespace of a container.

use oci_spec::runtime::{Linux, Process, User};

use super::ids::{IdMap, Mappings};
use super::{Namespaces, PlanError, Result};

/// The container's user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNamespace {
    /// What the runtime writes, or, of a namespace that is joined, what it has to have; `None`: whatever it has.
    pub mappings: Option<Mappings>,
    /// Whether the container makes it.
    pub new: bool,
    /// Set by the runtime, since lowering it takes a capability over the host.
    pub oom_score_adj: Option<i32>,
    /// Who sets the container up, inside: root, or where root is not mapped the process's own user, or without a process the first
    /// one of the mappings.
    pub uid: u32,
    /// Likewise, the group.
    pub gid: u32,
}

impl UserNamespace {
    /// The one that is asked for, if any.
    pub(super) fn of(linux: &Linux, process: Option<&Process>, namespaces: &Namespaces) -> Result<Option<Self>> {
        let mappings = Mappings::of(linux.uid_mappings().as_ref(), linux.gid_mappings().as_ref(), "linux")?;
        if !namespaces.user {
            return match mappings {
                None => Ok(None),
                Some(_) => {
                    let problem = "needs an entry of type user in linux.namespaces";
                    Err(PlanError::new("linux.uidMappings", problem))
                }
            };
        }
        let new = namespaces.new.contains(nix::sched::CloneFlags::CLONE_NEWUSER);
        if new && mappings.is_none() {
            let problem = "is missing; a new user namespace needs it, or nobody in it would be anybody";
            return Err(PlanError::new("linux.uidMappings", problem));
        }
        let (mut uid, mut gid) = (0, 0);
        if let Some(mappings) = &mappings {
            let user = process.map(Process::user);
            if let Some(user) = user {
                let groups = user.additional_gids().iter().flatten().copied();
                check(&mappings.uids, [user.uid()], "process.user.uid", "linux.uidMappings")?;
                check(&mappings.gids, [user.gid()], "process.user.gid", "linux.gidMappings")?;
                check(&mappings.gids, groups, "process.user.additionalGids", "linux.gidMappings")?;
            }
            uid = mappings.uids.root_or(user.map(User::uid));
            gid = mappings.gids.root_or(user.map(User::gid));
        }
        Ok(Some(Self { mappings, new, oom_score_adj: process.and_then(Process::oom_score_adj), uid, gid }))
    }
}

fn check(map: &IdMap, ids: impl IntoIterator<Item = u32>, field: &str, mappings: &str) -> Result<()> {
    match ids.into_iter().find(|id| map.outside(*id).is_none()) {
        Some(id) => Err(PlanError::new(field, format!("{id} is not among the ids of {mappings}"))),
        None => Ok(()),
    }
}
