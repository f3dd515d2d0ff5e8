//! One pod, from the moment it is bound to this node until nothing of it is left.
//!
//! * `plan`: what to do next, a pure function.
//! * `status`: what to report, a pure function.
//! * `worker`: the loop `wake, observe, plan, execute, report` of one pod.
//! * `admission`: what this node does not run. Pure.
//! * `env`, `resources`, `config`: what a pod's text means to a runtime. Pure.

pub(crate) mod admission;
pub(crate) mod backoff;
pub(crate) mod conditions;
pub(crate) mod config;
pub(crate) mod env;
pub(crate) mod hooks;
pub(crate) mod observed;
pub(crate) mod plan;
pub(crate) mod resources;
pub(crate) mod spec;
pub(crate) mod status;
pub(crate) mod worker;
