//! Virtual addresses (`--vip`): the leader's machine has them, so that clients which know one address find a master
//! that leads.
//!
//! Nothing is safe because of them: who leads is decided by Raft alone, and a request that comes in at a master which
//! does not lead is answered as any other. They say where to go, not who is right, so two holders for a moment do no
//! harm.
//!
//! * [`setting`]: what the options ask for.
//! * [`place`]: on which interface of this machine, and whether it may be set there.
//! * [`netlink`]: setting it, with a lifetime, and taking it away.
//! * [`frames`]: the packets that tell other hosts, and ask them.
//! * [`wire`]: sending and hearing those.
//! * [`others`]: what the other masters say of theirs.
//! * [`keeper`]: holds an address while this master leads, and only then.

mod frames;
mod keeper;
mod netlink;
mod others;
pub mod place;
pub mod setting;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use quorate_api_server::MovingAddresses;
use quorate_store::{Masters, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use keeper::Keeper;
use netlink::Netlink;
use others::Others;
pub use place::Place;
pub use setting::Setting;

/// A master that stops waits so long for another to lead.
const HANDOVER_MAX: Duration = Duration::from_secs(3);

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
    let netlink = Arc::new(Netlink::open()?);
    netlink.refuse_permanent(&places).await?;
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
            vips.links = self.places.iter().map(|place| place.mac).collect();
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
    match tokio::time::timeout(HANDOVER_MAX, masters.transfer_leader(None)).await {
        Ok(Ok(node)) => tracing::info!(%node, "handed leadership over, and the virtual addresses"),
        Ok(Err(error)) => tracing::info!(%error, "nobody takes the virtual addresses over now"),
        Err(_) => tracing::warn!("leadership was not taken over in time"),
    }
}
