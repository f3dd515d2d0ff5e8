//! Changes of the group of masters, as the masters serve them: `POST` to the paths below, for whoever may `post` to
//! these non-resource URLs.

use std::sync::Arc;

use quorate_api::status::Status;
use quorate_api_server::config::{Action, Actions, Answered};
use quorate_store::{Change, GroupError, Masters};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::status;

/// Takes a master out: `{"name": NAME}`.
pub const REMOVE_PATH: &str = "/quorate/v1/masters/remove";

/// Hands leadership over: `{"to": NAME}`, or `{}` for whoever is most up to date.
pub const TRANSFER_PATH: &str = "/quorate/v1/masters/transfer-leader";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    to: Option<String>,
}

/// What can be done at which path.
pub fn actions(masters: Masters) -> Actions {
    Arc::new(move |path| {
        let change = match path {
            REMOVE_PATH => |body: &[u8]| {
                serde_json::from_slice(body).map(|Remove { name }| Change::Remove { name })
            },
            TRANSFER_PATH => |body: &[u8]| {
                serde_json::from_slice(body).map(|Transfer { to }| Change::Lead { to })
            },
            _ => return None,
        };
        let masters = masters.clone();
        let action: Action = Box::new(move |body| {
            Box::pin(async move {
                let change = change(&body).map_err(|error| {
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
    tracing::info!(?change, leader = changed.leader, "the masters have changed");
    // Without what this master may not have applied yet.
    let members = masters.status().members.into_iter();
    let voters = members.filter(|known| {
        known.voter && !matches!(change, Change::Remove { name } if *name == known.member.name)
    });
    let summary = status::voters_line(voters.count());
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
