//! Starting and stopping all controllers of one leadership.

use std::sync::Arc;

use quorate_store::{Admit, Clock, LeaderStore, Recorder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::batch::Executor;
use crate::config::ControllersConfig;
use crate::liveness::NodeLiveness;
use crate::metrics::ControllersMetrics;
use crate::runner::Runner;

/// All controllers, running under one leadership.
#[derive(Debug)]
pub struct Controllers {
    stop: watch::Sender<bool>,
    /// `None` when its end was seen already.
    runner: Option<JoinHandle<()>>,
}

impl Controllers {
    /// Starts all controllers on the current runtime. They end by themselves when the leadership of
    /// `store` ends; [`Controllers::stop`] ends them earlier and waits for the end.
    #[must_use]
    pub fn start(
        store: LeaderStore,
        admit: Arc<dyn Admit>,
        config: ControllersConfig,
        clock: Clock,
        liveness: Arc<dyn NodeLiveness>,
        metrics: ControllersMetrics,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let recorder = Recorder::new(clock.clone());
        let executor = Executor { store: store.clone(), admit: admit.clone(), recorder };
        let recorder = executor.recorder.clone();
        let runner = Runner::new(executor, config, clock, liveness, metrics);
        let runner = tokio::spawn(async move {
            let write_events = recorder.run(&store, &*admit, "system:kube-controller-manager");
            let ended = tokio::select! {
                ended = Box::pin(runner.run(stopped)) => ended,
                error = Box::pin(write_events) => Some(error),
            };
            match ended {
                Some(error) => tracing::info!(%error, "controllers ended"),
                None => tracing::info!("controllers stopped"),
            }
        });
        Self { stop, runner: Some(runner) }
    }

    /// Ends all controllers and waits until nothing of them runs any more.
    pub async fn stop(self) {
        // The receiver is gone when they have ended already.
        let _ = self.stop.send(true);
        if let Some(runner) = self.runner
            && let Err(error) = runner.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    /// Waits until they have ended by themselves: the leadership has ended, or the store has
    /// stopped.
    pub async fn ended(&mut self) {
        if let Some(runner) = &mut self.runner {
            let ended = runner.await;
            self.runner = None;
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}
