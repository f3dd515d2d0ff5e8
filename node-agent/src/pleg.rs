//! The pod lifecycle event generator: looks at the runtime every second and wakes the pods where something changed.
//! Workers that have just done something ask for a fresh look; one look serves all who asked before it began.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::labels;
use crate::runtime::{Container, Result, Runtime, Sandbox};

/// What the runtime lists for one pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Listing {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
}

/// All pods of this agent, by uid.
pub(crate) type Listings = Arc<BTreeMap<String, Listing>>;

/// The cached view of the runtime.
pub(crate) struct Pleg {
    runtime: Arc<dyn Runtime>,
    node_name: String,
    latest: Mutex<Option<(Instant, Listings)>>,
    relist: tokio::sync::Mutex<()>,
    /// What was told of last. Not the latest view: a worker may have looked since, at its own pod only.
    told: Mutex<Listings>,
}

impl Pleg {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, node_name: String) -> Self {
        let (latest, relist, told) = Default::default();
        Pleg { runtime, node_name, latest, relist, told }
    }

    fn cached(&self) -> Option<(Instant, Listings)> {
        self.latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The last view, however old.
    pub(crate) fn last(&self) -> Listings {
        self.cached().map(|(_, listings)| listings).unwrap_or_default()
    }

    /// A view that began after this call.
    pub(crate) async fn fresh(&self) -> Result<Listings> {
        let asked = Instant::now();
        let _one_at_a_time = self.relist.lock().await;
        if let Some((began, listings)) = self.cached()
            && began > asked
        {
            return Ok(listings);
        }
        let began = Instant::now();
        let listings = Arc::new(self.list().await?);
        let mut latest = self.latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *latest = Some((began, listings.clone()));
        Ok(listings)
    }

    /// Looks again; says which pods changed since this was asked last.
    pub(crate) async fn changes(&self) -> Result<Vec<String>> {
        let new = self.fresh().await?;
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let old = std::mem::replace(&mut *told, new.clone());
        drop(told);
        let changed = new.iter().filter(|(uid, listing)| old.get(*uid) != Some(listing));
        let gone = old.keys().filter(|uid| !new.contains_key(*uid));
        Ok(changed.map(|(uid, _)| uid.clone()).chain(gone.cloned()).collect())
    }

    async fn list(&self) -> Result<BTreeMap<String, Listing>> {
        let (sandboxes, containers) =
            tokio::try_join!(self.runtime.list_pod_sandboxes(), self.runtime.list_containers())?;
        let mut listings: BTreeMap<String, Listing> = BTreeMap::new();
        for sandbox in sandboxes {
            if sandbox.labels.get(labels::NODE) == Some(&self.node_name) {
                let uid = sandbox.metadata.uid.clone();
                listings.entry(uid).or_default().sandboxes.push(sandbox);
            }
        }
        for container in containers {
            if container.labels.get(labels::NODE) == Some(&self.node_name)
                && let Some(uid) = container.labels.get(labels::POD_UID)
            {
                listings.entry(uid.clone()).or_default().containers.push(container);
            }
        }
        for listing in listings.values_mut() {
            listing.sandboxes.sort_by(|a, b| a.id.cmp(&b.id));
            listing.containers.sort_by(|a, b| a.id.cmp(&b.id));
        }
        Ok(listings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretend::Pretend;
    use crate::runtime::PodSandboxConfig;

    #[tokio::test]
    async fn what_others_saw_in_between_is_told_all_the_same() {
        let runtime = Arc::new(Pretend::default());
        let pleg = Pleg::new(runtime.clone(), "n1".to_owned());
        assert!(pleg.changes().await.unwrap().is_empty());
        let mut config = PodSandboxConfig::default();
        config.metadata.uid = "u1".to_owned();
        config.labels.insert(labels::NODE.to_owned(), "n1".to_owned());
        let id = runtime.run_pod_sandbox(&config).await.unwrap();
        // The worker of another pod looks.
        pleg.fresh().await.unwrap();
        assert_eq!(pleg.changes().await.unwrap(), ["u1"]);
        assert!(pleg.changes().await.unwrap().is_empty(), "once");
        runtime.remove_pod_sandbox(&id).await.unwrap();
        pleg.fresh().await.unwrap();
        assert_eq!(pleg.changes().await.unwrap(), ["u1"], "also that it is gone");
    }
}
