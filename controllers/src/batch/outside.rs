//! Keys whose writes wait for somebody outside: admission asks webhooks, which may take seconds or never answer.
//!
//! Such a key leaves its batch, so that the other keys are decided without it, and goes on by itself. Its steps are
//! admitted several at a time and proposed in their order; the first that fails stops the rest, as in a batch.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use quorate_state_machine::View;

use super::{Carried, CarriedKey, Executor, Pending};
use crate::limits::OUTSIDE_STEPS_MAX;
use crate::plan::{Step, WorkKey};
use crate::queue::Finish;

/// A key that goes on by itself.
pub(crate) struct Outside {
    pub(crate) key: WorkKey,
    pub(crate) rest: BoxFuture<'static, Carried>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What admission comes to.
pub(super) type Admitted = Result<Option<Pending>, Finish>;

impl Executor {
    /// Goes on with a key: first with the step that is being admitted.
    pub(super) fn outside(
        self,
        carried: CarriedKey,
        admitting: BoxFuture<'static, Admitted>,
        rest: std::vec::IntoIter<Step>,
    ) -> Outside {
        let key = carried.key.clone();
        Outside { key, rest: self.go_on(carried, admitting, rest).boxed() }
    }

    async fn go_on(
        self,
        carried: CarriedKey,
        admitting: BoxFuture<'static, Admitted>,
        rest: std::vec::IntoIter<Step>,
    ) -> Carried {
        let user = carried.key.controller.user();
        let mut keys = vec![carried];
        let first = admitting.await;
        // What is charged to a quota has to be seen by what is charged next.
        let charged = matches!(&first, Ok(Some(operation)) if !operation.also.is_empty());
        let at_once = if charged { 1 } else { OUTSIDE_STEPS_MAX };
        let mut fatal = self.take(&mut keys, first).await;
        let executor = self.clone();
        let admitting = move |step| {
            let view: Arc<View> = executor.store.view();
            executor.clone().admit_step(view, user, 0, step)
        };
        let mut admitted =
            std::pin::pin!(futures::stream::iter(rest).map(admitting).buffered(at_once));
        while fatal.is_none() && matches!(keys[0].finish, Finish::Done { .. }) {
            let Some(next) = admitted.next().await else { break };
            fatal = self.take(&mut keys, next).await;
        }
        Carried { keys, fatal, outside: Vec::new() }
    }

    async fn take(
        &self,
        keys: &mut [CarriedKey],
        admitted: Admitted,
    ) -> Option<quorate_store::Error> {
        match admitted {
            Ok(None) => None,
            Ok(Some(operation)) => self.transact(keys, operation).await,
            Err(refused) => {
                keys[0].finish = refused;
                None
            }
        }
    }
}
