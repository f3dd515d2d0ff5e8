//! How many requests run at a time: upstream's max-in-flight filter.

use std::sync::Arc;

use quorate_api::status::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::identity::{Identity, MASTERS};
use crate::limits::{READS_IN_FLIGHT_MAX, WRITES_IN_FLIGHT_MAX};
use crate::request_info::RequestInfo;
use crate::status_error::Answer;

/// Slots for reads and writes.
#[derive(Debug)]
pub(crate) struct InFlight {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(READS_IN_FLIGHT_MAX)),
            writes: Arc::new(Semaphore::new(WRITES_IN_FLIGHT_MAX)),
        }
    }
}

impl InFlight {
    /// A slot for the request, held until it is answered. `None`: it needs none (watches, streams,
    /// health).
    pub(crate) fn enter(
        &self,
        info: &RequestInfo,
        identity: &Identity,
    ) -> Answer<Option<OwnedSemaphorePermit>> {
        let health = matches!(info.path(), "/healthz" | "/livez" | "/readyz" | "/metrics");
        if info.long_running() || health {
            return Ok(None);
        }
        let slots = if info.mutating() { &self.writes } else { &self.reads };
        match slots.clone().try_acquire_owned() {
            Ok(slot) => Ok(Some(slot)),
            // The cluster's administrators get in when nobody else does.
            Err(_) if identity.is_in(MASTERS) => Ok(None),
            Err(_) => Err(Box::new(Status::too_many_requests(
                "Too many requests, please try again later.",
                1,
            ))),
        }
    }

    /// Requests in progress: (reading, writing).
    pub(crate) fn current(&self) -> (usize, usize) {
        (
            READS_IN_FLIGHT_MAX - self.reads.available_permits(),
            WRITES_IN_FLIGHT_MAX - self.writes.available_permits(),
        )
    }
}
