//! What a backup is made of: the state that this master confirms at this moment, and what belongs to it.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use quorate_backup::{Header, Maker, Network, Passphrase, SealedKeys};
use quorate_state_machine::Machine;
use quorate_store::{Consistency, Masters, Store};

use crate::certs::Certs;
use crate::data_dir::ClusterFile;

/// Where backups come from: a running master.
#[derive(Clone)]
pub struct Source {
    /// Its store.
    pub store: Store,
    /// The group.
    pub masters: Masters,
    /// Who it is.
    pub cluster: Arc<ClusterFile>,
    /// What its cluster shares.
    pub certs: Arc<Certs>,
}

/// A backup that is not written yet.
pub struct Taken {
    header: Header,
    machine: Machine,
}

impl Source {
    /// Takes the state with everything that was acknowledged before the call, and seals the keys, if they are to be in
    /// it. Blocks a thread of the pool while it does that.
    pub async fn take(&self, passphrase: Option<Passphrase>) -> anyhow::Result<Taken> {
        let view = self.store.read(Consistency::Linearizable).await?;
        let cluster_id = self.cluster.cluster_id.clone();
        // After the view: what its record of a change of the authorities names is there, as a rule.
        let ring = self.certs.now().ring.clone();
        let keys = match passphrase {
            None => None,
            Some(passphrase) => {
                let files = ring.to_files();
                let sealing = tokio::task::spawn_blocking(move || {
                    SealedKeys::seal(&files, &passphrase, &cluster_id)
                });
                Some(sealing.await.context("sealing the keys")??)
            }
        };
        let status = self.masters.status();
        let network = &self.cluster.network;
        let header = Header {
            format: quorate_backup::FORMAT,
            cluster_id: self.cluster.cluster_id.clone(),
            // Not rounded up: what is made in the future does not count.
            made_at: Timestamp::from_second(Timestamp::now().as_second())?,
            made_by: Maker {
                name: self.cluster.name.clone(),
                node_id: self.cluster.node_id,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            revision: view.revision().0,
            index: view.index().0,
            term: status.term.0,
            level: view.level().0,
            state_hash: format!("{:032x}", view.hash()),
            objects: view.resources().map(|(_, resource)| resource.len() as u64).sum(),
            network: Network {
                service_cidr: network.service_cidr.to_string(),
                cluster_cidr: network.cluster_cidr.to_string(),
                cluster_domain: network.cluster_domain.clone(),
            },
            authority: ring.keys().pin()?,
            keys,
        };
        Ok(Taken { header, machine: Machine::without_past(&view) })
    }
}

impl Taken {
    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Writes it. Blocks for as long as that takes.
    pub fn write(&self, out: impl Write) -> Result<u64, quorate_backup::Error> {
        quorate_backup::write(out, &self.header, |out| self.machine.write_snapshot(out))
    }
}
