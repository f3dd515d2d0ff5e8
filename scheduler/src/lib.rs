//! Which node for which pod.
//!
//! Runs on the leader as a subscriber of the store: no HTTP, no JSON in decisions, no informer lag.
//! [`decide::Profile::decide`] is a pure function of the [`view::ClusterView`], the pod and a seed; the
//! plugins behind it are one file each in [`plugins`], over the extension points of [`framework`].
//! Around it: [`queue`] (who is next, who waits for what), [`follow`] (from the store to the view),
//! [`bind`] (decisions as fenced operations), and [`scheduler`], the loop that joins them and proposes
//! binds in batches.
//!
//! What must always hold: a pod is bound at most once (each bind expects the exact revision that was
//! decided on); nothing is bound under a leadership that has ended; a pod that could be placed is
//! tried again when something that could help it changes; nothing spins.

pub mod bind;
pub mod company;
pub mod decide;
pub mod follow;
pub mod framework;
pub mod limits;
pub mod metrics;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod resources;
pub mod scheduler;
pub mod selector;
pub mod view;

pub use decide::{Decision, Profile, Seed, decide};
pub use metrics::Metrics;
pub use scheduler::{Config, Ended, Parts, Scheduler};
pub use view::ClusterView;
