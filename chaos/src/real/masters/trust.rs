//! Authorities that are changed while everybody goes on, and certificates that end: what is begun, and what has to
//! follow.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;

use super::outlived::Outlived;
use super::{Masters, token};
use crate::limits::FOLLOWED_MAX;
use crate::real::certificates::served;
use crate::real::client::Connection;
use crate::real::kubeconfig::{Credentials, Distrust, Identity};
use crate::real::rotation::{Place, Rotation};
use crate::scenario::fault::Effect;

/// Between two looks at whether all masters have followed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What belongs to it.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// A change of the authorities.
    rotation: Option<Rotation>,
    /// Masters that have a reason of their own not to be believed, or to believe nobody, meanwhile.
    pub(super) strange: BTreeSet<usize>,
    /// Who is away until its certificate has ended.
    pub(super) outlived: Outlived,
}

impl Trust {
    /// These are back.
    pub(super) fn forget(&mut self, back: &BTreeSet<usize>) {
        self.outlived.forget(back);
    }
}

impl Masters {
    /// Begins a change of the authorities, and notes which certificates are to end. A change that is not over when its
    /// fault is, is left as it is.
    pub(super) async fn change_trust(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        self.note_certificates(from, to).await?;
        if to.rotated && !from.rotated {
            let place = self.rotation_place();
            self.nuisances.trust.rotation = Some(Rotation::start(place));
        }
        let Trust { rotation, strange, outlived } = &mut self.nuisances.trust;
        if from.rotated && !to.rotated && rotation.as_ref().is_some_and(|one| one.over().is_err()) {
            *rotation = None;
        }
        if rotation.is_some() || !outlived.is_over() {
            let own = to.clocks.keys().chain(to.certificates.keys());
            strange.extend(own.chain(&to.outlived));
        } else {
            strange.clear();
        }
        Ok(())
    }

    fn rotation_place(&self) -> Place {
        let joined = (0..self.count).filter(|master| !self.unjoined.contains(master));
        Place {
            binary: self.binary.clone(),
            data: joined.map(|master| self.masters[master].data.clone()).collect(),
            directory: self.directory.clone(),
            credentials: self.tls.clone(),
        }
    }

    /// How far a change of the authorities is.
    pub(super) fn rotation_shown(&self) -> Option<String> {
        self.nuisances.trust.rotation.as_ref().map(Rotation::shown)
    }

    /// Whether it is over. Who has not joined yet gets a token of now: those of before are of no use.
    pub(super) async fn rotation_is_over(&mut self) -> Result<String, String> {
        let rotation = self.nuisances.trust.rotation.as_ref();
        let over = rotation.ok_or_else(|| "it was not begun".to_owned())?.over()?;
        for master in self.unjoined.iter().copied().collect::<Vec<usize>>() {
            let door = (0..self.count).find(|other| self.state(*other).is_some());
            let door = door.ok_or_else(|| "nobody runs who gives tokens".to_owned())?;
            let token = token(&self.binary, &self.masters[door].data, "server").await;
            let token = token.map_err(|error| format!("{error:#}"))?;
            let arguments = &mut self.masters[master].arguments;
            arguments.retain(|word| !word.starts_with("--token"));
            arguments.push(format!("--token={token}"));
        }
        Ok(over)
    }

    /// What had to follow from a change of the authorities: all masters have the new ones alone, show what those have
    /// signed, refuse what the old ones have, and nobody was refused meanwhile.
    pub(super) async fn authorities_are_new(&mut self, now: &Effect) -> Result<String, String> {
        let Some(rotation) = self.nuisances.trust.rotation.take() else {
            return Ok("the authorities were not changed".to_owned());
        };
        self.nobody_was_refused(rotation.distrust())?;
        let place = self.rotation_place();
        let joined: Vec<usize> = (0..self.count).filter(|m| !self.unjoined.contains(m)).collect();
        if joined.iter().any(|master| self.state(*master).is_none() || now.disturbs(*master)) {
            return Ok("others met something else: what followed was not seen".to_owned());
        }
        let (begin, data) = (Instant::now(), self.masters[joined[0]].data.clone());
        let said = loop {
            match place.is_finished(&data).await {
                Ok(said) => break said,
                Err(error) if begin.elapsed() > FOLLOWED_MAX => return Err(format!("{error:#}")),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let old = rotation.old().ok_or_else(|| "nobody had an old kubeconfig".to_owned())?;
        for master in joined {
            let (name, api) = (self.name(master), self.api(master));
            let shown = served(api, &self.tls).await;
            shown.map_err(|error| format!("{name} is not believed after the end: {error:#}"))?;
            if is_believed(api, &old).await {
                return Err(format!("{name} still serves who has a kubeconfig of before"));
            }
        }
        Ok(format!("{said}, and a kubeconfig of before is refused by each"))
    }

    /// Whether clients and masters believed each other, since there was so much distrust.
    pub(super) fn nobody_was_refused(&self, since: usize) -> Result<(), String> {
        let all = self.tls.distrust();
        let but = self.nuisances.trust.strange.iter().filter(|one| **one < self.count);
        let but: Vec<SocketAddr> = but.map(|master| self.api(*master)).collect();
        match all.iter().skip(since).find(|one| !but.contains(&one.api)) {
            Some(Distrust { api, why }) => {
                let count = all.len() - since;
                Err(format!("{count} times somebody was not believed, first at {api}: {why}"))
            }
            None => Ok(()),
        }
    }
}

/// Whether a master serves somebody who comes with that.
async fn is_believed(api: SocketAddr, identity: &Arc<Identity>) -> bool {
    let user = Arc::new(Credentials::of_identity(identity.clone()));
    let Ok(mut connection) = Connection::open(api, &user).await else { return false };
    let answer = connection.call(Method::GET, "/quorate/v1/status", None).await;
    answer.is_ok_and(|answer| answer.code == 200)
}
