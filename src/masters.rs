//! Changes of the group of masters, as the masters serve them: `POST` to the paths below, for whoever may `post` to
//! these non-resource URLs.

use std::sync::Arc;

use quorate_api::status::Status;
use quorate_api_server::config::{Action, Actions, Answered};
use quorate_store::{Change, GroupError, Masters};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::status;

/// Takes a master out: `{"name": NAME}`. As all below, it takes `"dryRun": true` too, and then does nothing; and
/// `"force": true`, see [`Change::Force`].
pub const REMOVE_PATH: &str = "/quorate/v1/masters/remove";

/// Hands leadership over: `{"to": NAME}`, or `{}` for whoever is most up to date.
pub const TRANSFER_PATH: &str = "/quorate/v1/masters/transfer-leader";

/// Makes a learner a voter: `{"name": NAME}`.
pub const PROMOTE_PATH: &str = "/quorate/v1/masters/promote";

/// Makes a voter a standby: `{"name": NAME}`.
pub const DEMOTE_PATH: &str = "/quorate/v1/masters/demote";

/// Takes one out, and another votes in its place: `{"old": NAME, "new": NAME}`.
pub const REPLACE_PATH: &str = "/quorate/v1/masters/replace";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Named {
    name: String,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Transfer {
    to: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Replace {
    old: String,
    new: String,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

/// A change as it is asked for.
type Asked = Result<Change, serde_json::Error>;

fn named(body: &[u8], change: fn(String) -> Change) -> Asked {
    let Named { name, dry_run, force } = serde_json::from_slice(body)?;
    Ok(meant(change(name), dry_run, force))
}

fn meant(change: Change, dry_run: bool, force: bool) -> Change {
    let change = if force { Change::Force(Box::new(change)) } else { change };
    if dry_run { Change::Try(Box::new(change)) } else { change }
}

fn asked(path: &str) -> Option<fn(&[u8]) -> Asked> {
    Some(match path {
        REMOVE_PATH => |body| named(body, |name| Change::Remove { name }),
        PROMOTE_PATH => |body| named(body, |name| Change::Promote { name }),
        DEMOTE_PATH => |body| named(body, |name| Change::Demote { name }),
        TRANSFER_PATH => |body| {
            let Transfer { to, dry_run, force } = serde_json::from_slice(body)?;
            Ok(meant(Change::Lead { to }, dry_run, force))
        },
        REPLACE_PATH => |body| {
            let Replace { old, new, dry_run, force } = serde_json::from_slice(body)?;
            Ok(meant(Change::Replace { old, new }, dry_run, force))
        },
        _ => return None,
    })
}

/// What can be done at which path.
pub fn actions(masters: Masters) -> Actions {
    Arc::new(move |path| {
        let asked = asked(path)?;
        let masters = masters.clone();
        let action: Action = Box::new(move |body| {
            Box::pin(async move {
                let change = asked(&body).map_err(|error| {
                    Status::bad_request(format!("the body cannot be understood: {error}"))
                })?;
                changed(&masters, &change).await.map(Answered::Document)
            })
        });
        Some(action)
    })
}

async fn changed(masters: &Masters, change: &Change) -> Result<Value, Box<Status>> {
    let changed = masters.change(change).await.map_err(|error| refusal(&error))?;
    tracing::info!(?change, leader = changed.leader, "the masters were changed, or looked at");
    // An older leader does not say.
    let summary = changed.voters.map(status::voters_line);
    Ok(json!({ "leader": changed.leader, "summary": summary }))
}

fn refusal(error: &GroupError) -> Box<Status> {
    Box::new(match error {
        GroupError::Unavailable(_) => Status::service_unavailable(error.to_string()),
        GroupError::Refused(why) => Status::refused(why.clone()),
        GroupError::UnknownMaster(_) => Status::missing(error.to_string()),
        GroupError::Unknown(_) => {
            Status::timeout(&format!("{error}. `quorate masters list` tells what came of it"), 0)
        }
    })
}
