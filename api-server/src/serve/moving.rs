//! Connections that came in at an address which may go to another machine: before it does they are ended, so that
//! clients come again at once instead of waiting for answers that find no way to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// After connections were cut it is waited so long for their ends to be sent.
const CUT_MAX: Duration = Duration::from_millis(50);

/// The addresses, each with who is connected there. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MovingAddresses(Arc<Mutex<BTreeMap<IpAddr, Stay>>>);

/// The time in which an address is here.
#[derive(Debug, Default)]
struct Stay {
    connections: TaskTracker,
    /// What is under way may end.
    leave: CancellationToken,
    /// Nothing may.
    cut: CancellationToken,
}

/// What a connection at such an address follows.
pub(super) struct Guest {
    pub(super) leave: CancellationToken,
    pub(super) cut: CancellationToken,
    _counted: TaskTrackerToken,
}

impl Stay {
    /// Who comes in now has come too late.
    fn over() -> Self {
        let stay = Self::default();
        stay.leave.cancel();
        stay.cut.cancel();
        stay
    }
}

impl MovingAddresses {
    /// The address is here from now on: connections there are counted.
    pub fn arrive(&self, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, Stay::default());
    }

    /// A new connection; `None` where the address stays.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Guest> {
        let stays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Stay { connections, leave, cut } = stays.get(&address.to_canonical())?;
        let (leave, cut) = (leave.clone(), cut.clone());
        Some(Guest { leave, cut, _counted: connections.token() })
    }

    /// Ends all connections at the address: those that have not come to their end within `grace` are cut. Until it
    /// arrives again, those that still come in are cut at once: their answers would find no way.
    pub async fn leave(&self, address: IpAddr, grace: Duration) {
        let stay = {
            let mut stays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(stay) = stays.get_mut(&address) else { return };
            std::mem::replace(stay, Stay::over())
        };
        stay.connections.close();
        stay.leave.cancel();
        let gone = tokio::time::timeout(grace, stay.connections.wait()).await;
        if gone.is_err() {
            stay.cut.cancel();
            drop(tokio::time::timeout(CUT_MAX, stay.connections.wait()).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_leave_in_time_is_cut_and_who_comes_too_late_at_once() {
        let (moving, address) = (MovingAddresses::default(), IpAddr::from([10, 0, 0, 9]));
        assert!(moving.enter(address).is_none(), "it stays");
        moving.arrive(address);
        let grace = Duration::from_millis(80);
        let began = tokio::time::Instant::now();
        moving.leave(address, grace).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody was there");
        moving.arrive(address);
        let polite = moving.enter(address).unwrap();
        let slow = moving.enter("::ffff:10.0.0.9".parse().unwrap()).unwrap();
        let leaves = tokio::spawn(async move {
            polite.leave.cancelled().await;
            polite.cut.is_cancelled()
        });
        let cut = tokio::spawn(async move {
            slow.cut.cancelled().await;
            tokio::time::Instant::now()
        });
        moving.leave(address, grace).await;
        assert!(!leaves.await.unwrap(), "it went before anybody was cut");
        assert!(cut.await.unwrap() - began >= grace);
        assert!(moving.enter(address).unwrap().cut.is_cancelled(), "it is gone");
        moving.arrive(address);
        let later = moving.enter(address).unwrap();
        assert!(!later.leave.is_cancelled() && !later.cut.is_cancelled());
    }
}
