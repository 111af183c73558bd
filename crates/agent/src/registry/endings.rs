//! What has come to its end: kept for a while, or as long as it says that the name stays away, then forgotten.

use std::sync::Arc;

use podwright_core::ledger::Asker;
use podwright_core::manifest::Resource;
use podwright_core::objects::{FileOrigin, Identity, Kind, Origin};
use podwright_core::pod::spec::PodSpec;
use podwright_sys::durable::Durability;

use super::place::Act;
use super::{Ending, Place, Registry};
use crate::context::Context;
use crate::controllers::pod::{self, publish};
use crate::node::leftovers;
use crate::paths::PodPaths;
use crate::sources::wanted::Wanted;
use crate::state::identity::Claimant;
use crate::state::load::forget;
use crate::state::object::{Kept, Part};
use crate::status::{PodKey, Retention};
use crate::storage::Listener;

/// Pods of one job that are over and still listed; older ones are shown with `--all`, until retention forgets them.
pub(super) const LISTED_PER_JOB: usize = 100;

impl Registry {
    /// A controller has come to its end.
    pub(super) fn ended(&mut self, identity: &Identity, uid: &str, ending: Ending) {
        match ending {
            Ending::Pod(finished) => self.pod_finished(identity, *finished),
            Ending::Removed => self.removed(identity, uid),
            Ending::Left => {}
        }
    }

    fn pod_finished(&mut self, identity: &Identity, finished: pod::Finished) {
        let pod::Finished { mut kept, saved } = finished;
        let uid = kept.spec().uid.clone();
        let claim = self.claims.get(identity).filter(|claim| claim.object.uid() == uid);
        if let Some(wanted) = claim.and_then(|claim| claim.clone().wanted().unwrap::<PodSpec>()) {
            kept.wanted = wanted;
        }
        self.pod_over(&kept, saved);
        if kept.wanted.origin.is_suppressed() {
            self.tombstones.insert(identity.clone(), uid.clone());
        }
        let Some(place) = self.places.get_mut(identity).filter(|place| place.uid() == Some(&uid)) else {
            return self.archive(kept);
        };
        let restart = place.running_mut().and_then(|running| running.restart.take());
        let acts = place.finished(Some(kept));
        self.carry_out(identity, acts, &Asker::ManifestChanged.into());
        if let Some(reply) = restart {
            self.restart(identity.clone(), reply);
        }
    }

    /// An object is removed, and with it all that it has made. What waited for its name comes next.
    pub(super) fn removed(&mut self, identity: &Identity, uid: &str) {
        let suppressed =
            self.claims.get(identity).is_some_and(|claim| claim.from.suppressed && claim.object.uid() == uid);
        if let Some(place) = self.places.get_mut(identity).filter(|place| place.uid() == Some(uid)) {
            let acts = place.finished(None);
            let next = acts.iter().find_map(|act| match act {
                Act::Begin(wanted) => Some(wanted.object.uid()),
                _ => None,
            });
            match next {
                None if suppressed => drop(self.tombstones.insert(identity.clone(), uid.to_owned())),
                // The next run writes over it.
                Some(next) if next == uid => {}
                None | Some(_) => self.forget_state(identity.kind, uid),
            }
            self.carry_out(identity, acts, &Asker::ManifestChanged.into());
        }
        self.remove_owned(uid);
    }

    /// Objects whose owner is gone go after it.
    pub(super) fn remove_owned(&mut self, owner: &str) {
        self.over.remove(owner);
        for identity in self.owned_by(owner) {
            self.remove_for_owner(&identity, "it is removed", None);
        }
    }

    /// What an object of this uid has made.
    pub(super) fn owned_by(&self, uid: &str) -> Vec<Identity> {
        let is_its = |place: &Place| owner_of(place).is_some_and(|owner| owner.uid == uid);
        self.places.iter().filter(|(_, place)| is_its(place)).map(|(identity, _)| identity.clone()).collect()
    }

    /// Nothing of what is kept of an object is needed any more.
    pub(super) fn forget_state(&self, kind: Kind, uid: &str) {
        let (ctx, directory) = (Arc::clone(&self.ctx), self.ctx.paths.state().join(kind.plural()).join(uid));
        self.removals.add(async move {
            ctx.storage.forget(&directory).await;
            if let Err(error) = tokio::task::spawn_blocking(move || forget(kind, &directory)).await {
                tracing::error!(%error, "what is kept of a removed object cannot be removed");
            }
        });
    }

    /// What is written about an ended pod is another's.
    pub(super) fn refresh(&mut self, identity: &Identity, wanted: Wanted<Resource>) {
        let Some(wanted) = wanted.unwrap::<PodSpec>() else { return };
        let Some(kept) = self.places.get_mut(identity).and_then(Place::ended_mut) else { return };
        kept.wanted = wanted;
        publish::show_ended(&self.ctx, kept);
        save(&self.ctx, kept, None);
    }

    /// An ended pod is no longer listed, but kept readable.
    pub(super) fn archive(&mut self, mut kept: Kept<PodSpec>) {
        let spec = kept.spec();
        let key = PodKey { namespace: spec.namespace.clone(), name: spec.name.clone(), uid: spec.uid.clone() };
        if let Some(ended) = &mut kept.state.ended {
            ended.archived = true;
            self.ctx.store.archive_pod(&key, ended.at);
        }
        save(&self.ctx, &kept, None);
        self.prune();
    }

    /// A name that stayed away is wanted again, as an object of the uid `again`, or its file is gone.
    pub(super) fn lift_tombstone(&mut self, identity: &Identity, again: Option<&str>) {
        let Some(uid) = self.tombstones.remove(identity) else { return };
        if again == Some(&uid) {
            // The new run of the same object writes its own.
            return;
        }
        if identity.kind != Kind::Pod {
            return self.forget_state(identity.kind, &uid);
        }
        // What is kept of a pod is kept on, but says so no more.
        if let Some(kept) = self.places.get_mut(identity).and_then(Place::ended_mut) {
            put_back(&mut kept.wanted.origin);
        }
        let directory = self.ctx.paths.state_pods().join(&uid);
        match Kept::<PodSpec>::read(&directory, &self.ctx.storage, &self.ctx.clock) {
            Ok(mut kept) => {
                put_back(&mut kept.wanted.origin);
                save(&self.ctx, &kept, None);
            }
            Err(error) => {
                let error = podwright_sys::error::chain(&error);
                tracing::warn!(directory = %directory.display(), error, "what is kept of a pod could not be put right");
            }
        }
    }

    /// Forgets ended pods that are too old or too many, with all they left.
    pub(super) fn prune(&mut self) {
        let (age, pods) = {
            let live = self.ctx.live.borrow();
            (live.retention_age, live.retention_pods)
        };
        let pruned = self.ctx.store.prune(Retention { age, pods }, self.ctx.clock.now());
        self.prune_at = pruned.next;
        for key in pruned.removed {
            let identity = Identity::new(Kind::Pod, &key.namespace, &key.name);
            let begun = self.places.get(&identity).and_then(Place::uid) == Some(&key.uid);
            let is_held = self.holds.knows(Kind::Pod, &key.uid);
            if begun || is_held || self.uncounted.contains(&key.uid) || self.tombstones.get(&identity) == Some(&key.uid)
            {
                continue;
            }
            let paths = self.ctx.paths.ended(&key.namespace, &key.name, &key.uid);
            let ctx = Arc::clone(&self.ctx);
            self.removals.add(async move { forget_pod(&ctx, paths).await });
        }
    }
}

fn put_back(origin: &mut Origin) {
    if let Origin::Directory(FileOrigin { suppressed, .. }) = origin {
        *suppressed = false;
    }
}

/// What has made the object of a place.
pub(super) fn owner_of(place: &Place) -> Option<&podwright_core::objects::OwnerReference> {
    match place {
        Place::Vacant => None,
        Place::Live { running, .. } | Place::Stopping { running, .. } => running.owner.as_ref(),
        Place::Ended { ended, .. } => ended.owner(),
    }
}

/// Writes what is kept of a pod without a controller, as soon as the disk takes it.
pub(super) fn save(ctx: &Context, kept: &Kept<PodSpec>, listener: Option<Listener>) {
    let all = (ctx.paths.state(), Part::All);
    kept.keep(all, &ctx.storage, &ctx.clock, Durability::Synced, listener);
}

async fn forget_pod(ctx: &Arc<Context>, paths: PodPaths) {
    ctx.storage.forget(&paths.state).await;
    let (clock, place) = (Arc::clone(&ctx.clock), paths.state.clone());
    let removed = ctx.asides.removals.change(&place, move || {
        if let Err(error) = Claimant::forget(&paths.state) {
            tracing::debug!(%error, "an ended pod is not given up yet");
        }
        [&paths.state, &paths.log].into_iter().filter_map(|path| leftovers::remove(&clock, path)).collect::<Vec<_>>()
    });
    match removed.await {
        Ok(left) => leftovers::follow_up(ctx, left),
        Err(error) => tracing::warn!(%error, "what an ended pod left could not be removed"),
    }
}
