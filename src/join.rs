//! Joining: the masters' service, and the joiner's side of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use quorate_api_server::agents::AgentHub;
use quorate_api_server::identity::Identity;
use quorate_pki::ring::{Circle, ROTATION_FILE};
use quorate_pki::{JoinToken, KeyRing, Subject, authority};
use quorate_proto::join::join_client::JoinClient;
use quorate_proto::join::join_server::{Join, JoinServer};
use quorate_proto::join::master_progress_reply::Phase;
use quorate_proto::join::{
    JoinMasterReply, JoinMasterRequest, JoinNodeReply, JoinNodeRequest, MasterAddress,
    MasterProgressReply, MasterProgressRequest, PkiFile, PreflightReply, PreflightRequest,
    RenewNodeRequest,
};
use quorate_raft::{Member, NodeId};
use quorate_state_machine::Key;
use quorate_store::{Admit, Consistency, GroupError, Masters, Store};
use tokio::sync::{OnceCell, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::certs::Certs;
use crate::client;
use crate::preflight;
use crate::settings::{Network, NetworkWish};
use crate::tls;
use crate::tokens::{self, Refusal, Role};

/// A joiner tries again for so long when no leader answers.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A node that was heard from so recently is running: agents report every few seconds.
const NODE_ALIVE: Duration = Duration::from_secs(5);

/// Pause between two tries.
const JOIN_RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often a joiner is told where it stands.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Why a member that joins is none any more.
const TAKEN_BACK: &str = "the other masters have taken it out again: they heard nothing from it for too long, got \
                          no further with it, or somebody removed it";

/// Progress lines that wait for a joiner; it gets no more until it reads.
const PROGRESS_WAITING_MAX: usize = 4;

/// What the service needs beside the request.
pub struct JoinService {
    pub store: Store,
    pub masters: Masters,
    pub certs: Arc<Certs>,
    pub cluster_id: String,
    pub network: Network,
    pub hub: AgentHub,
    /// Set once the API server runs.
    pub admit: Arc<OnceCell<Arc<dyn Admit>>>,
}

impl JoinService {
    /// The service, for the API port.
    pub fn service(self) -> JoinServer<Self> {
        JoinServer::new(self)
    }

    /// Checks and spends a token for `who`; a refusal is told to the caller and to our own log.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    async fn check(&self, token: &str, role: Role, who: &str) -> Result<(), Status> {
        self.spend(token, role).await.inspect_err(|status| {
            tracing::warn!(name = who, role = role.name(), why = status.message(), "join refused");
        })
    }

    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    async fn spend(&self, token: &str, role: Role) -> Result<(), Status> {
        let token: JoinToken = token.parse().map_err(|error: quorate_pki::Error| refuse(&error))?;
        let pins = self.certs.now().ring.pins();
        let pins = pins.map_err(|error| Status::internal(error.to_string()))?;
        // While the authorities are changed: either of them.
        if !pins.iter().any(|pin| pin == token.pin()) {
            return Err(Status::unauthenticated("the token is for another cluster"));
        }
        let admit =
            self.admit.get().ok_or_else(|| Status::unavailable("this master is starting"))?;
        let now = Timestamp::now();
        let spent = tokens::spend(&self.store, admit, &token, role, now).await;
        spent.map_err(|refusal| of_refusal(&refusal))
    }

    /// Nobody was admitted: the use of the token is there again.
    async fn give_back(&self, token: &str) {
        let (Ok(token), Some(admit)) = (token.parse::<JoinToken>(), self.admit.get()) else {
            return;
        };
        if let Err(error) = tokens::give_back(&self.store, admit, &token).await {
            tracing::warn!(%error, "a use of a token was counted for a join that came to nothing");
        }
    }
}

fn of_refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Unavailable(_) => Status::unavailable(refusal.to_string()),
        Refusal::Unknown(_)
        | Refusal::Expired { .. }
        | Refusal::UsedUp(_)
        | Refusal::OtherRole { .. } => refuse(refusal),
    }
}

/// Why a master cannot join beside those that are known (with whether they vote); `None` when it can. One that joined
/// and never came to vote may ask again.
fn taken_by<'a>(
    new: &Member,
    known: impl IntoIterator<Item = (&'a Member, bool)>,
) -> Option<String> {
    for (member, votes) in known {
        if member.is_same_place(new) && !votes {
            return None;
        }
        let (what, flag) = if member.name == new.name {
            (format!("a master named {:?}", member.name), "--name")
        } else if member.peer_address == new.peer_address {
            (
                format!("master {:?} with the peer address {}", member.name, member.peer_address),
                "--peer-listen",
            )
        } else if member.api_address == new.api_address {
            (
                format!("master {:?} with the API address {}", member.name, member.api_address),
                "--listen",
            )
        } else {
            continue;
        };
        return Some(format!("the cluster has {what} already: give this one another {flag}"));
    }
    None
}

impl JoinService {
    /// A certificate for a node, and what else it needs to know.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn certify(&self, node: &str, csr_pem: &str) -> Result<JoinNodeReply, Status> {
        let used = self.certs.now();
        let (ring, mark) = (&used.ring, used.mark());
        let (subject, now) = (node_subject(node), Timestamp::now());
        let signed =
            ring.keys().cluster.sign_request_for(csr_pem, &subject, now, self.certs.lifetime);
        Ok(JoinNodeReply {
            certificate_pem: signed.map_err(|error| Status::invalid_argument(error.to_string()))?,
            cluster_ca_pem: ring.bundle_pem(Circle::Cluster),
            masters: quorate_master::api_urls(&self.masters),
            cluster_id: self.cluster_id.clone(),
            credentials_mark: mark,
        })
    }

    /// Whether the bearer holds a token at all: before anything else is said.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    async fn recognise(&self, token: &str) -> Result<(), Status> {
        let token: JoinToken = token.parse().map_err(|error: quorate_pki::Error| refuse(&error))?;
        // It may have been made on another master a moment ago.
        let newest = Consistency::Linearizable;
        tokens::recognise(&self.store, newest, &token).await.map_err(|refusal| {
            tracing::warn!(why = %refusal, "join refused");
            of_refusal(&refusal)
        })
    }

    /// A name or an address of another master is refused before a use of the token is spent. The leader decides;
    /// this is what is known here.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn refuse_taken(&self, member: &Member) -> Result<(), Status> {
        let members = self.masters.status().members;
        let Some(taken) =
            taken_by(member, members.iter().map(|known| (&known.member, known.voter)))
        else {
            return Ok(());
        };
        tracing::warn!(name = member.name, why = taken, "join refused");
        Err(Status::already_exists(taken))
    }

    /// Two agents under one name would fight over their pods: while the one is heard from, no other
    /// gets a certificate for its name.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn refuse_living(&self, node: &str) -> Result<(), Status> {
        let liveness = self.hub.liveness();
        let elsewhere = liveness.master_of(node).is_some_and(|master| master != self.hub.master())
            && liveness.age(node).is_some_and(|age| age < NODE_ALIVE);
        if !self.hub.holds(node) && !elsewhere {
            return Ok(());
        }
        let why = format!(
            "a node named {node:?} is running already: give this one another --name, or stop that one"
        );
        tracing::warn!(name = node, why, "join refused");
        Err(Status::already_exists(why))
    }
}

fn refuse(error: &dyn std::fmt::Display) -> Status {
    Status::unauthenticated(error.to_string())
}

#[tonic::async_trait]
impl Join for JoinService {
    async fn node(
        &self,
        request: Request<JoinNodeRequest>,
    ) -> Result<Response<JoinNodeReply>, Status> {
        let request = request.into_inner();
        check_name(&request.node_name)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        // Strangers are told nothing, and what is refused anyway costs no use.
        self.recognise(&request.token).await?;
        self.refuse_living(&request.node_name)?;
        let reply = self.certify(&request.node_name, &request.csr_pem)?;
        self.check(&request.token, Role::Agent, &request.node_name).await?;
        tracing::info!(node = request.node_name, "node joins");
        Ok(Response::new(reply))
    }

    async fn renew_node(
        &self,
        request: Request<RenewNodeRequest>,
    ) -> Result<Response<JoinNodeReply>, Status> {
        let identity = request.extensions().get::<Identity>();
        let node = identity.and_then(Identity::node).map(str::to_owned).ok_or_else(|| {
            Status::permission_denied(
                "this call needs the client certificate of a node (system:node:<name>)",
            )
        })?;
        // A node that was taken out gets no more of them.
        let view = self.store.read(Consistency::Linearizable).await;
        let view = view.map_err(|error| Status::unavailable(error.to_string()))?;
        if view.get(&Key::new("", "nodes", "", &node)).is_none() {
            return Err(Status::permission_denied(format!(
                "there is no node {node:?}: join again with a token"
            )));
        }
        let reply = self.certify(&node, &request.into_inner().csr_pem)?;
        tracing::info!(node, "the node's certificate is renewed");
        Ok(Response::new(reply))
    }

    async fn master(
        &self,
        request: Request<JoinMasterRequest>,
    ) -> Result<Response<JoinMasterReply>, Status> {
        let request = request.into_inner();
        check_name(&request.name).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let wish = [&request.service_cidr, &request.cluster_cidr, &request.cluster_domain];
        NetworkWish::parse(wish.map(Clone::clone))
            .and_then(|wish| wish.check(&self.network))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let member = member_of(&request);
        self.recognise(&request.token).await?;
        self.refuse_taken(&member)?;
        self.check(&request.token, Role::Server, &member.name).await?;
        let id = match self.masters.admit(&member).await {
            Ok(id) => id,
            Err(error) => {
                self.give_back(&request.token).await;
                return Err(match error {
                    GroupError::Unavailable(_) | GroupError::Unknown(_) => {
                        Status::unavailable(error.to_string())
                    }
                    GroupError::Refused(_) | GroupError::UnknownMaster(_) => {
                        Status::failed_precondition(error.to_string())
                    }
                });
            }
        };
        tracing::info!(master = %member, id = id.0, "master joins as learner");
        let pki = self
            .certs
            .now()
            .ring
            .to_files()
            .into_iter()
            .map(|(name, content)| PkiFile { name, content: content.into_bytes().into() })
            .collect();
        let masters = self.masters.status().members;
        let masters = masters.into_iter().map(|status| MasterAddress {
            node_id: status.id.0,
            name: status.member.name,
            peer_address: status.member.peer_address,
            api_address: status.member.api_address,
        });
        Ok(Response::new(JoinMasterReply {
            cluster_id: self.cluster_id.clone(),
            node_id: id.0,
            pki,
            masters: masters.collect(),
            service_cidr: self.network.service_cidr.to_string(),
            cluster_cidr: self.network.cluster_cidr.to_string(),
            cluster_domain: self.network.cluster_domain.clone(),
        }))
    }

    async fn preflight(
        &self,
        request: Request<PreflightRequest>,
    ) -> Result<Response<PreflightReply>, Status> {
        let PreflightRequest { join, pin } = request.into_inner();
        let join = join.ok_or_else(|| Status::invalid_argument("nothing is asked about"))?;
        let token: JoinToken =
            join.token.parse().map_err(|error: quorate_pki::Error| refuse(&error))?;
        let usable = tokens::usable(&self.store, &token, Role::Server, Timestamp::now()).await;
        usable.map_err(|refusal| of_refusal(&refusal))?;
        let wish = [&join.service_cidr, &join.cluster_cidr, &join.cluster_domain].map(Clone::clone);
        let member = member_of(&join);
        let refusals = [
            check_name(&join.name).err().map(|error| error.to_string()),
            NetworkWish::parse(wish)
                .and_then(|wish| wish.check(&self.network))
                .err()
                .map(|error| error.to_string()),
            self.refuse_taken(&member).err().map(|status| status.message().to_owned()),
        ];
        let masters = preflight::masters_reach(&self.masters, &join, &pin).await;
        Ok(Response::new(PreflightReply {
            cluster_id: self.cluster_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock_ms: Timestamp::now().as_millisecond(),
            state_bytes: self.masters.status().state_bytes,
            refusals: refusals.into_iter().flatten().collect(),
            masters,
        }))
    }

    type MasterProgressStream = ReceiverStream<Result<MasterProgressReply, Status>>;

    async fn master_progress(
        &self,
        request: Request<MasterProgressRequest>,
    ) -> Result<Response<Self::MasterProgressStream>, Status> {
        let request = request.into_inner();
        let node = NodeId(request.node_id);
        let token: JoinToken =
            request.token.parse().map_err(|error: quorate_pki::Error| refuse(&error))?;
        let known = tokens::recognise(&self.store, Consistency::Any, &token).await;
        known.map_err(|refusal| refuse(&refusal))?;
        let (told, progress) = mpsc::channel(PROGRESS_WAITING_MAX);
        let masters = self.masters.clone();
        tokio::spawn(async move {
            loop {
                let reply = progress_of(&masters, node);
                let last = [Phase::Voter as i32, Phase::Failed as i32].contains(&reply.phase);
                if told.send(Ok(reply)).await.is_err() || last {
                    return;
                }
                tokio::time::sleep(PROGRESS_INTERVAL).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(progress)))
    }
}

fn member_of(request: &JoinMasterRequest) -> Member {
    Member {
        name: request.name.clone(),
        peer_address: request.peer_address.clone(),
        api_address: request.api_address.clone(),
        standby: request.standby,
    }
}

fn progress_of(masters: &Masters, node: NodeId) -> MasterProgressReply {
    let status = masters.status();
    let member = status.members.iter().find(|member| member.id == node);
    let (phase, message) = match member {
        None if masters.has_removed(node) => (Phase::Failed, TAKEN_BACK.to_owned()),
        // Admitted by another master a moment ago.
        None => (Phase::Queued, "waiting for its turn".to_owned()),
        Some(member) if member.member.standby => {
            (Phase::Learner, "catching up, as a standby".to_owned())
        }
        Some(member) if member.voter && !status.joint => (Phase::Voter, "voter".to_owned()),
        Some(member) if member.voter => (Phase::Promoting, "becoming a voter".to_owned()),
        Some(_) => (Phase::Learner, "catching up".to_owned()),
    };
    MasterProgressReply {
        phase: phase as i32,
        matched_index: member.and_then(|member| member.matched).map_or(0, |index| index.0),
        leader_index: status.last_log.map_or(0, |index| index.0),
        message,
    }
}

/// Whom a node's certificate is for.
pub fn node_subject(node: &str) -> Subject {
    Subject::Client { name: format!("system:node:{node}"), group: "system:nodes".to_owned() }
}

/// Names of masters and nodes are Kubernetes object names (RFC 1123 subdomains).
pub fn check_name(name: &str) -> anyhow::Result<()> {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(part) {
        return Ok(());
    }
    bail!(
        "{name:?} cannot be a name: lower-case letters, digits, '-' and '.', beginning and ending with \
         a letter or digit, at most 253 characters. Give another with --name"
    )
}

/// A client of the join service of a master whose CA the token pins, and the CA it showed.
pub async fn dial(
    server: &str,
    token: &JoinToken,
) -> anyhow::Result<(JoinClient<Channel>, String)> {
    let (config, verifier) = tls::pinned_config(token.pin())?;
    let channel = client::grpc_channel(server, config)
        .await
        .map_err(|error| if verifier.refused() { error.context(OtherCluster) } else { error })?;
    let ca_pem = verifier.authority_pem().context("the server showed no CA")?;
    Ok((JoinClient::new(channel), ca_pem))
}

/// The server is not of the cluster that the token is for. Final.
#[derive(Debug, thiserror::Error)]
#[error("the token is for another cluster than the server's")]
struct OtherCluster;

/// Calls until it succeeds, is refused, or time is up. `told` gets one line whenever the reason for
/// another try is a new one.
async fn patiently<T, F: Future<Output = anyhow::Result<Result<T, Status>>>>(
    told: &mut (dyn FnMut(&str) + Send),
    mut call: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let began = tokio::time::Instant::now();
    let mut last = String::new();
    loop {
        let why = match call().await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(status)) => match status.code() {
                tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => {
                    anyhow::anyhow!("{}", status.message())
                }
                _ => bail!("the join was refused: {}", status.message()),
            },
            Err(error) if error.is::<OtherCluster>() => return Err(error),
            Err(error) => error,
        };
        let seconds = JOIN_TIMEOUT.as_secs();
        if began.elapsed() > JOIN_TIMEOUT {
            return Err(why.context(format!("no master could be joined within {seconds} s")));
        }
        let text = format!("{why:#}");
        if text != last {
            told(&format!("{text}; trying again for up to {seconds} s"));
            last = text;
        }
        tokio::time::sleep(JOIN_RETRY_PAUSE).await;
    }
}

/// What a master asks for that wants to join.
pub fn master_request(token: &JoinToken, member: &Member, wish: &NetworkWish) -> JoinMasterRequest {
    let [service_cidr, cluster_cidr, cluster_domain] = wish.texts();
    JoinMasterRequest {
        token: token.to_string(),
        name: member.name.clone(),
        peer_address: member.peer_address.clone(),
        api_address: member.api_address.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        service_cidr,
        cluster_cidr,
        cluster_domain,
        standby: member.standby,
    }
}

/// A master's admission, as the joiner got it.
pub struct Admission {
    pub cluster_id: String,
    pub node_id: u64,
    pub keys: KeyRing,
    pub network: Network,
}

/// Joins as a master.
pub async fn join_master(
    server: &str,
    token: &JoinToken,
    member: &Member,
    wish: &NetworkWish,
    told: &mut (dyn FnMut(&str) + Send),
) -> anyhow::Result<Admission> {
    let reply = patiently(told, || async {
        let (mut client, _) = dial(server, token).await?;
        let request = master_request(token, member, wish);
        Ok(client.master(request).await.map(Response::into_inner))
    })
    .await?;
    let files: BTreeMap<String, String> = reply
        .pki
        .into_iter()
        .map(|file| Ok((file.name, String::from_utf8(file.content.to_vec())?)))
        .collect::<anyhow::Result<_>>()?;
    let read = |name: &str| {
        files
            .get(name)
            .cloned()
            .ok_or_else(|| quorate_pki::Error::Refused(format!("the master did not send {name}")))
    };
    let keys = KeyRing::from_files(read, files.get(ROTATION_FILE).map(String::as_str))?;
    if !keys.pins()?.iter().any(|pin| pin == token.pin()) {
        bail!("the master sent the keys of another cluster than the token is for");
    }
    let network = Network {
        service_cidr: reply.service_cidr.parse()?,
        cluster_cidr: reply.cluster_cidr.parse()?,
        cluster_domain: reply.cluster_domain,
    };
    Ok(Admission { cluster_id: reply.cluster_id, node_id: reply.node_id, keys, network })
}

/// Follows a join until this master votes. `told` gets one line per change.
pub async fn follow_master(
    server: &str,
    token: &JoinToken,
    node_id: u64,
    mut told: impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut last = String::new();
    loop {
        let dialled = dial(server, token).await;
        let Ok((mut client, _)) = dialled else {
            // Admitted already: the leader promotes this master whoever watches.
            tokio::time::sleep(JOIN_RETRY_PAUSE).await;
            continue;
        };
        let request = MasterProgressRequest { token: token.to_string(), node_id };
        let Ok(stream) = client.master_progress(request).await else {
            tokio::time::sleep(JOIN_RETRY_PAUSE).await;
            continue;
        };
        let mut stream = stream.into_inner();
        while let Ok(Some(progress)) = stream.message().await {
            if progress.phase == Phase::Failed as i32 {
                bail!("{}", progress.message);
            }
            if progress.message != last {
                told(&progress.message);
                last.clone_from(&progress.message);
            }
            if progress.phase == Phase::Voter as i32 {
                return Ok(());
            }
        }
    }
}

/// A node's certificate and whom it trusts, as it got them.
pub struct NodeCredentials {
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
    pub masters: Vec<String>,
    /// Under which mark they were made; see [`crate::certs::Now::mark`].
    pub mark: u64,
}

/// Joins as a node: any of the servers will do.
pub async fn join_node(
    servers: &[String],
    token: &JoinToken,
    name: &str,
    told: &mut (dyn FnMut(&str) + Send),
) -> anyhow::Result<NodeCredentials> {
    check_name(name)?;
    let (key_pem, csr_pem) = authority::request(&format!("system:node:{name}"))?;
    let mut tries = servers.iter().cycle();
    let mut server = || tries.next().cloned().unwrap_or_default();
    let (reply, ca_pem) = patiently(told, || {
        let server = server();
        let request = JoinNodeRequest {
            token: token.to_string(),
            node_name: name.to_owned(),
            csr_pem: csr_pem.clone(),
        };
        async move {
            let (mut client, ca_pem) = dial(&server, token).await?;
            Ok(client.node(request).await.map(|reply| (reply.into_inner(), ca_pem)))
        }
    })
    .await?;
    Ok(NodeCredentials {
        // All that are believed: more than the one that the token pins, while they are changed.
        ca_pem: Some(reply.cluster_ca_pem).filter(|pem| !pem.is_empty()).unwrap_or(ca_pem),
        certificate_pem: reply.certificate_pem,
        key_pem,
        masters: reply.masters,
        mark: reply.credentials_mark,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_taken_once() {
        let member = |name: &str, peer: &str, api: &str| Member {
            name: name.to_owned(),
            peer_address: peer.to_owned(),
            api_address: api.to_owned(),
            standby: false,
        };
        let (a, b) = (member("a", "h:1", "h:2"), member("b", "i:1", "i:2"));
        let known = [(&a, true), (&b, false)];
        let refused = |new: &Member| taken_by(new, known).unwrap_or_default();
        assert!(refused(&a).contains("a master named \"a\" already: give this one another --name"));
        assert_eq!(refused(&b), "", "it asks again");
        assert!(refused(&member("b", "j:1", "i:2")).contains("--name"));
        assert!(refused(&member("c", "h:1", "j:2")).contains("another --peer-listen"));
        assert!(refused(&member("c", "j:1", "h:2")).contains("another --listen"));
        assert_eq!(refused(&member("c", "j:1", "j:2")), "");
    }

    #[test]
    fn names_are_object_names() {
        for good in ["a", "node-1", "n1.example.com"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "Node", "-a", "a-", "a..b", "a_b", &"a".repeat(254)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
