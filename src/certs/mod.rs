//! Certificates and authorities of a running master: made, kept on disk, made anew before their time is over, and
//! changed while connections are open.
//!
//! * [`leaves`]: what the authorities issue for this master, and where the serving certificate is kept.
//! * [`keeper`]: what this master does about them by itself.
//! * [`record`]: how far a change of the authorities is, the same for all masters.
//! * [`peers`]: what masters ask each other about them.
//! * [`rotation`]: changes of the authorities, one step after the other.
//! * `signer`: what is asked of the cluster's authority through the API.
//! * [`serve`]: what people see of it and may ask for.

pub mod keeper;
pub mod leaves;
pub mod peers;
pub mod record;
pub mod rotation;
pub mod serve;
mod signer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Context;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use quorate_api_server::agents::AgentHub;
use quorate_api_server::{ServingTls, TlsMaterial};
use quorate_pki::ring::Circle;
use quorate_pki::{KeyRing, authority, files};
use quorate_raft::PeerTls;
use quorate_store::Masters;
use tokio::sync::watch;

pub use leaves::{Leaves, Whose};

/// See the module.
pub struct Certs {
    /// Where keys and certificates are.
    directory: PathBuf,
    pub whose: Whose,
    /// How long what is issued here lives, seconds.
    pub lifetime: i64,
    /// Held while something is changed: one change at a time.
    change: Mutex<()>,
    now: ArcSwap<Now>,
    root_ca: watch::Sender<String>,
    users: OnceLock<Users>,
}

/// What is used at a moment.
pub struct Now {
    pub ring: Arc<KeyRing>,
    pub leaves: Leaves,
    /// Grows with each change: connections that were made with an earlier one are not used for anything new.
    pub version: u64,
}

/// Who is told of changes.
pub struct Users {
    pub api: Option<ServingTls>,
    pub masters: Masters,
    pub hub: AgentHub,
}

impl Now {
    /// Under which mark nodes' certificates are made; 0 before the authorities were ever changed.
    pub fn mark(&self) -> u64 {
        if self.ring.generation() == 1 { 0 } else { self.ring.mark() }
    }

    /// The API's part.
    fn tls_material(&self) -> anyhow::Result<TlsMaterial> {
        let serving = &self.leaves.serving;
        Ok(TlsMaterial {
            certificate_chain_pem: self
                .ring
                .chain_pem(Circle::Cluster, &serving.certificate_pem)?,
            private_key_pem: serving.key_pem.clone(),
            client_ca_pem: self.ring.bundle_pem(Circle::Cluster),
        })
    }

    /// The part of connections between masters.
    fn peer_tls(&self) -> anyhow::Result<PeerTls> {
        let peer = &self.leaves.peer;
        Ok(PeerTls {
            ca_pem: self.ring.bundle_pem(Circle::Peer),
            certificate_pem: self.ring.chain_pem(Circle::Peer, &peer.certificate_pem)?,
            key_pem: peer.key_pem.clone(),
        })
    }
}

impl Users {
    /// Connections that begin from now on have these.
    fn are_told(&self, now: &Now) -> anyhow::Result<()> {
        self.masters.renew_tls(&now.peer_tls()?)?;
        if let Some(api) = &self.api {
            api.renew(&now.tls_material()?)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Certs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certs").field("ring", &self.now().ring).finish_non_exhaustive()
    }
}

impl Certs {
    /// Takes over the keys of this master's directory, and issues what is missing or too old.
    pub fn open(
        directory: PathBuf,
        whose: Whose,
        lifetime: i64,
        ring: KeyRing,
    ) -> anyhow::Result<Self> {
        let leaves = Leaves::open(&directory, &whose, lifetime, &ring)?;
        // Nobody else writes here: the data directory is held.
        files::remove_leftovers(&directory)?;
        let root_ca = watch::Sender::new(ring.bundle_pem(Circle::Cluster));
        let now = ArcSwap::from_pointee(Now { ring: Arc::new(ring), leaves, version: 1 });
        let (change, users) = (Mutex::new(()), OnceLock::new());
        Ok(Self { directory, whose, lifetime, change, now, root_ca, users })
    }

    /// What is used at this moment.
    pub fn now(&self) -> Arc<Now> {
        self.now.load_full()
    }

    /// What pods trust, as it changes.
    pub fn root_ca(&self) -> watch::Receiver<String> {
        self.root_ca.subscribe()
    }

    /// The API's part.
    pub fn tls_material(&self) -> anyhow::Result<TlsMaterial> {
        self.now().tls_material()
    }

    /// The part of connections between masters.
    pub fn peer_tls(&self) -> anyhow::Result<PeerTls> {
        self.now().peer_tls()
    }

    /// From now on these are told of changes.
    pub fn used_by(&self, users: Users) -> anyhow::Result<()> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        // What has changed since they began, too.
        users.are_told(&self.now())?;
        users.hub.credentials_are(self.now().mark());
        drop(self.users.set(users));
        Ok(())
    }

    /// The agents that are connected here, once anybody can be.
    fn hub(&self) -> Option<&AgentHub> {
        self.users.get().map(|users| &users.hub)
    }

    /// Issues everything for this master anew.
    pub fn rotate(&self) -> anyhow::Result<()> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let leaves = Leaves::issue(&self.whose, self.lifetime, &now.ring)?;
        self.put(now.ring.clone(), leaves)
    }

    /// The same, of what is near its end.
    pub fn renew_if_due(&self, at: Timestamp) -> anyhow::Result<()> {
        let leaves = &self.now().leaves;
        let due = [&leaves.serving, &leaves.client]
            .iter()
            .any(|leaf| authority::wants_renewal(&leaf.certificate_pem, at));
        if due {
            tracing::info!("this master's certificates are near their end: making others");
            self.rotate()?;
        }
        Ok(())
    }

    /// Other authorities, made of those that there are now. `step` is given the ring of the moment.
    pub fn change_ring(
        &self,
        step: impl FnOnce(&KeyRing) -> anyhow::Result<KeyRing>,
    ) -> anyhow::Result<()> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let ring = step(&now.ring)?;
        ring.save(&self.directory).context("the cluster's keys cannot be kept")?;
        let same = ring.keys().fingerprints() == now.ring.keys().fingerprints();
        let leaves = if same {
            now.leaves.clone()
        } else {
            Leaves::issue(&self.whose, self.lifetime, &ring)?
        };
        let (generation, phase) = (ring.generation(), ring.phase().name());
        tracing::info!(generation, phase, "the cluster's authorities have changed here");
        self.put(Arc::new(ring), leaves)
    }

    /// Keeps them, then uses them.
    fn put(&self, ring: Arc<KeyRing>, leaves: Leaves) -> anyhow::Result<()> {
        leaves.save(&self.directory, &self.whose)?;
        let version = self.now().version + 1;
        let now = Now { ring, leaves, version };
        let bundle = now.ring.bundle_pem(Circle::Cluster);
        // Used first, told afterwards: others go on as soon as this master says how far it is.
        if let Some(users) = self.users.get() {
            users.are_told(&now)?;
        }
        self.now.store(Arc::new(now));
        self.root_ca.send_if_modified(|known| {
            let changed = *known != bundle;
            *known = bundle;
            changed
        });
        if let Some(users) = self.users.get() {
            users.hub.credentials_are(self.now().mark());
        }
        Ok(())
    }
}
