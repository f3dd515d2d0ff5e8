//! Connections to the other masters' API ports, for channels to nodes that are connected there.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use quorate_api_server::agents::MasterDialer;
use quorate_pki::ring::Circle;
use quorate_store::Masters;
use tokio::sync::Mutex;
use tonic::transport::Channel;

use crate::certs::{Certs, Now};
use crate::{client, tls};

/// See the module. One connection per master, shared by all channels.
pub struct Dialer {
    masters: Masters,
    certs: Arc<Certs>,
    /// By address, with the version of the certificates that each was made with.
    connections: Mutex<BTreeMap<String, (u64, Channel)>>,
}

impl Dialer {
    pub fn new(masters: Masters, certs: Arc<Certs>) -> Self {
        Self { masters, certs, connections: Mutex::default() }
    }

    async fn connect(&self, address: &str, now: &Now) -> anyhow::Result<Channel> {
        let ca_pem = now.ring.bundle_pem(Circle::Cluster);
        let config = tls::client_config(&ca_pem, Some(&now.leaves.client))?;
        client::grpc_channel(&format!("https://{address}"), config).await
    }
}

#[async_trait]
impl MasterDialer for Dialer {
    async fn dial(&self, master: &str) -> Result<Channel, String> {
        let members = self.masters.status().members;
        let member = members.into_iter().find(|member| member.member.name == master);
        let Some(member) = member else {
            return Err(format!("there is no master {master:?}"));
        };
        let address = member.member.api_address;
        let mut connections = self.connections.lock().await;
        // By address: a master that comes back elsewhere gets another connection. A broken one is opened again by
        // itself, with the certificate that it began with: those of before the last change are used for nothing new.
        let now = self.certs.now();
        connections.retain(|_, (version, _)| *version == now.version);
        if let Some((_, connection)) = connections.get(&address) {
            return Ok(connection.clone());
        }
        let connection =
            self.connect(&address, &now).await.map_err(|error| format!("{error:#}"))?;
        connections.insert(address, (now.version, connection.clone()));
        Ok(connection)
    }
}
