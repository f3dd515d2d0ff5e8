//! One file per controller.

mod account_token;
mod certificates;
mod claim;
mod cron_job;
mod daemon_set;
pub(crate) mod definition;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod event_ttl;
pub(crate) mod garbage;
mod history;
pub(crate) mod job;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod node_zones;
mod pod_gc;
mod pod_template;
mod policy_types;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod root_ca;
mod service_account;
mod stateful_set;
mod taint_eviction;
pub(crate) mod token_cleaner;
mod volume_protection;

use quorate_state_machine::Key;
use quorate_store::Write;

use crate::plan::{Controller, Ctx, Plan};
use crate::resources::NAMESPACES;

/// What is to be done for one key.
pub(crate) fn plan(controller: Controller, ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = plan_any(controller, ctx, key);
    // Nothing comes into being in a namespace that goes: the store would refuse it each time.
    plan.steps.retain(|step| !creates_in_vain(ctx, &step.write));
    plan
}

fn creates_in_vain(ctx: &Ctx<'_>, write: &Write) -> bool {
    let Write::Create { object, .. } = write else {
        return false;
    };
    object["metadata"]["namespace"].as_str().is_some_and(|namespace| {
        let found = ctx.world.get(&NAMESPACES.key("", namespace));
        found.is_none_or(|found| found.image.header.deletion.is_some())
    })
}

fn plan_any(controller: Controller, ctx: &Ctx<'_>, key: &Key) -> Plan {
    match controller {
        Controller::Deployment => deployment::plan(ctx, key),
        Controller::ReplicaSet => replica_set::plan(ctx, key),
        Controller::ReplicationController => replication_controller::plan(ctx, key),
        Controller::DaemonSet => daemon_set::plan(ctx, key),
        Controller::StatefulSet => stateful_set::plan(ctx, key),
        Controller::CronJob => cron_job::plan(ctx, key),
        Controller::Job => job::plan(ctx, key),
        Controller::Namespace => namespace::plan(ctx, key),
        Controller::Garbage => garbage::plan(ctx, key),
        Controller::NodeLifecycle => node_lifecycle::plan(ctx, key),
        Controller::NodeZones => node_zones::plan(ctx),
        Controller::TaintEviction => taint_eviction::plan(ctx, key),
        Controller::NodeIpam => node_ipam::plan(ctx),
        Controller::ServiceAccount => service_account::plan(ctx, key),
        Controller::RootCa => root_ca::plan(ctx, key),
        Controller::EndpointSlice => endpoint_slice::plan(ctx, key),
        Controller::EndpointSliceMirroring => endpoint_slice_mirroring::plan(ctx, key),
        Controller::Endpoints => endpoints::plan(ctx, key),
        Controller::PodGc => pod_gc::plan(ctx, key),
        Controller::EventTtl => event_ttl::plan(ctx, key),
        Controller::AccountToken => account_token::plan(ctx, key),
        Controller::TokenCleaner => token_cleaner::plan(ctx, key),
        Controller::ResourceQuota => resource_quota::plan(ctx, key),
        Controller::Disruption => disruption::plan(ctx, key),
        Controller::ClaimProtection => volume_protection::plan_claim(ctx, key),
        Controller::Certificates => certificates::plan(ctx, key),
        Controller::VolumeProtection => volume_protection::plan_volume(ctx, key),
        Controller::Definition => definition::plan(ctx, key),
        Controller::PolicyTypes => policy_types::plan(ctx, key),
    }
}

/// Kubernetes' times have whole seconds.
pub(crate) fn stamp(now: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests;
