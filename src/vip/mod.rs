//! Virtual addresses (`--vip`): the leader's machine has them, so that clients which know one address find a master
//! that leads.
//!
//! Nothing is safe because of them: who leads is decided by Raft alone, and a request that comes in at a master which
//! does not lead is answered as any other. They say where to go, not who is right, so two holders for a moment do no
//! harm.
//!
//! * [`setting`]: what the options ask for.
//! * [`place`]: on which interface of this machine, and whether it may be set there.
//! * [`kernel`]: a connection to the kernel that comes back.
//! * [`netlink`]: setting it, with a lifetime, and taking it away.
//! * [`frames`]: the packets that tell other hosts, and ask them.
//! * [`wire`]: sending and hearing those.
//! * [`others`]: what the other masters say of theirs.
//! * [`schedule`]: when it is announced.
//! * [`keeper`]: holds an address while this master leads, and only then.

mod frames;
mod keeper;
mod kernel;
mod netlink;
mod others;
pub mod place;
mod schedule;
pub mod setting;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use quorate_api_server::MovingAddresses;
use quorate_store::{Change, Masters, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use keeper::Keeper;
use netlink::Netlink;
use others::Others;
pub use place::Place;
pub use setting::Setting;

/// A master that stops waits so long for another to lead.
const HANDOVER_MAX: Duration = Duration::from_secs(3);

/// Of that it waits so long for who is fit to lead: one that is silent is not waited for.
const FIT_MAX: Duration = Duration::from_secs(1);

/// What a start has found out.
pub struct Prepared {
    places: Vec<Place>,
    netlink: Arc<Netlink>,
    /// For people; nothing that keeps a master from starting.
    pub warnings: Vec<String>,
}

/// Who uses the addresses.
pub struct Users {
    pub masters: Masters,
    pub store: Store,
    /// Of the API.
    pub connections: MovingAddresses,
}

/// Finds out where the addresses go, and whether this process may set them there. Changes nothing.
pub async fn look(setting: &Setting, advertise: &str) -> anyhow::Result<Prepared> {
    place::refuse_powerless()?;
    let (places, warnings) = place::find(setting, advertise)?;
    let netlink = Arc::new(Netlink::default());
    netlink.refuse_foreign(&places).await?;
    Ok(Prepared { places, netlink, warnings })
}

impl Prepared {
    /// Takes away what a killed process may have left a moment ago.
    pub async fn clear(&self) -> anyhow::Result<()> {
        Ok(self.netlink.remove_leftovers(&self.places).await?)
    }

    /// Holds the addresses whenever this master leads, until `stop`.
    pub fn keep(self, users: &Users, tasks: &TaskTracker, stop: &CancellationToken) {
        let Users { masters, store, .. } = users;
        masters.note_vips(|vips| {
            vips.set = self.places.iter().map(|place| place.net.addr()).collect();
            vips.links = wire::own_macs().unwrap_or_default();
            // These are never left out.
            vips.links.extend(self.places.iter().map(|place| place.mac));
        });
        let others = Others::default();
        tasks.spawn(others.clone().follow(masters.clone(), stop.clone()));
        for place in self.places {
            let keeper = Keeper::new(place, self.netlink.clone(), others.clone(), users);
            tasks.spawn(keeper.run(store.leadership(), stop.clone()));
        }
    }
}

/// Before a master stops: another leads, and has the addresses, while this one still answers what it was asked.
pub async fn hand_over(masters: &Masters) {
    if masters.vips().held.is_empty() {
        return;
    }
    match tokio::time::timeout(HANDOVER_MAX, to_the_fittest(masters)).await {
        Ok(Ok(to)) => tracing::info!(to, "handed leadership over, and the virtual addresses"),
        Ok(Err(why)) => tracing::info!(why, "nobody takes the virtual addresses over now"),
        Err(_) => tracing::warn!("leadership was not taken over in time"),
    }
}

/// To one without a full or slow disk, when there is one: the others can still lead better than nobody.
async fn to_the_fittest(masters: &Masters) -> Result<String, String> {
    if let Ok(Some(to)) = tokio::time::timeout(FIT_MAX, masters.fit_to_lead()).await {
        match masters.change(&Change::Lead { to: Some(to.clone()) }).await {
            Ok(_) => return Ok(to),
            Err(error) => tracing::info!(to, %error, "it does not take leadership over"),
        }
    }
    let taken = masters.transfer_leader(None).await;
    taken.map(|node| node.to_string()).map_err(|error| error.to_string())
}
