//! Nobody writes a role with rules that they do not have, or binds a role whose rules they do not
//! have, unless they may `escalate` or `bind` (upstream's RBAC registry, `policybased`).

use serde_json::Value;

use super::{Context, Draft, Operation, Plugin};
use crate::authz::{Attributes, Rule};
use crate::identity::{Identity, MASTERS};
use crate::model::text;
use crate::status_error::Answer;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) struct RbacEscalation;

impl Plugin for RbacEscalation {
    fn validate(&self, ctx: &Context<'_>, identity: &Identity, draft: &Draft) -> Answer<()> {
        if draft.operation == Operation::Delete
            || draft.def.group() != GROUP
            || identity.is_in(MASTERS)
        {
            return Ok(());
        }
        if matches!(draft.def.plural, "roles" | "clusterroles") {
            role(ctx, identity, draft)
        } else {
            binding(ctx, identity, draft)
        }
    }
}

fn rules_of(object: &Value) -> Vec<Rule> {
    serde_json::from_value(object["rules"].clone()).unwrap_or_default()
}

fn may(
    ctx: &Context<'_>,
    identity: &Identity,
    draft: &Draft,
    verb: &str,
    role: (&str, &str),
) -> bool {
    let wanted = Attributes {
        verb: verb.to_owned(),
        group: GROUP.to_owned(),
        resource: role.0.to_owned(),
        subresource: String::new(),
        namespace: draft.namespace.clone(),
        name: role.1.to_owned(),
        path: None,
    };
    ctx.authorizer.decide(identity, &wanted).allowed
}

fn role(ctx: &Context<'_>, identity: &Identity, draft: &Draft) -> Answer<()> {
    let aggregated = |object: &Value| object["aggregationRule"].clone();
    let unchanged = draft.operation == Operation::Update
        && rules_of(&draft.object) == rules_of(&draft.old)
        && aggregated(&draft.object) == aggregated(&draft.old);
    if unchanged || may(ctx, identity, draft, "escalate", (draft.def.plural, &draft.name)) {
        return Ok(());
    }
    let mut rules = rules_of(&draft.object);
    if !aggregated(&draft.object).is_null() {
        // Whoever aggregates may come to hold anything.
        rules.push(Rule {
            verbs: vec!["*".to_owned()],
            api_groups: vec!["*".to_owned()],
            resources: vec!["*".to_owned()],
            ..Rule::default()
        });
        rules.push(Rule {
            verbs: vec!["*".to_owned()],
            non_resource_urls: vec!["*".to_owned()],
            ..Rule::default()
        });
    }
    ctx.authorizer.covers(identity, &draft.namespace, &rules).map_err(|why| draft.forbidden(&why))
}

fn binding(ctx: &Context<'_>, identity: &Identity, draft: &Draft) -> Answer<()> {
    let unchanged = draft.operation == Operation::Update
        && draft.object["roleRef"] == draft.old["roleRef"]
        && draft.object["subjects"] == draft.old["subjects"];
    let kind = text(&draft.object["roleRef"]["kind"]);
    let name = text(&draft.object["roleRef"]["name"]);
    let resource = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
    if unchanged || may(ctx, identity, draft, "bind", (resource, name)) {
        return Ok(());
    }
    let Some(rules) = ctx.authorizer.role_rules(kind, &draft.namespace, name) else {
        return Err(Box::new(quorate_api::status::Status::not_found(
            quorate_api::status::GroupResource::new(GROUP, resource),
            name,
        )));
    };
    ctx.authorizer.covers(identity, &draft.namespace, &rules).map_err(|why| draft.forbidden(&why))
}
