//! Connections to the other masters' API ports, for channels to nodes that are connected there.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use quorate_api_server::agents::MasterDialer;
use quorate_pki::{ClusterKeys, Subject};
use quorate_store::Masters;
use tokio::sync::Mutex;
use tonic::transport::Channel;

use crate::{client, tls};

/// See the module. One connection per master, shared by all channels.
pub struct Dialer {
    name: String,
    masters: Masters,
    keys: Arc<ClusterKeys>,
    connections: Mutex<BTreeMap<String, Channel>>,
}

impl Dialer {
    pub fn new(name: &str, masters: Masters, keys: Arc<ClusterKeys>) -> Self {
        Self { name: name.to_owned(), masters, keys, connections: Mutex::default() }
    }

    async fn connect(&self, address: &str) -> anyhow::Result<Channel> {
        let subject = Subject::Client {
            name: format!("quorate:master:{}", self.name),
            group: "system:masters".to_owned(),
        };
        let own = self.keys.cluster.issue(&subject, Timestamp::now())?;
        let config = tls::client_config(self.keys.cluster.certificate_pem(), Some(&own))?;
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
        // By address: a master that comes back elsewhere gets another connection. A broken one is
        // opened again by itself.
        if let Some(connection) = connections.get(&address) {
            return Ok(connection.clone());
        }
        let connection = self.connect(&address).await.map_err(|error| format!("{error:#}"))?;
        connections.insert(address, connection.clone());
        Ok(connection)
    }
}
