//! Changes of the members, asked of whichever master does them, as `quorate masters` asks: until one has, or it is
//! certain that nobody will.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use super::client::{Connection, NoAnswer};
use super::cluster::Cluster;
use crate::limits::{REMOVAL_MAX, REMOVED_MAX};
use crate::scenario::fault::Effect;

/// As `quorate masters demote` and `promote` do it.
pub(crate) const DEMOTE: &str = "/quorate/v1/masters/demote";
pub(crate) const PROMOTE: &str = "/quorate/v1/masters/promote";

/// Between two tries of what was refused.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// What came of a request to change the masters.
pub(crate) enum Asked {
    Done,
    /// Certainly not done, and why.
    Denied(String),
    /// Perhaps done.
    Unknown(String),
}

/// Asks masters that run, that one last, until one does it.
pub(crate) async fn ask_any<C: Cluster>(
    cluster: &C,
    now: &Effect,
    (path, body): (&str, Value),
    last: usize,
) -> Asked {
    let mut said = Asked::Denied("nobody runs who could be asked".to_owned());
    let mut order: Vec<usize> =
        (0..cluster.count()).filter(|master| cluster.may_answer(*master, now)).collect();
    order.sort_by_key(|master| (*master == last, now.disturbs(*master)));
    for master in order {
        let name = cluster.name(master);
        let opened = Connection::open(cluster.api(master), cluster.credentials()).await;
        let Ok(mut connection) = opened else { continue };
        match connection.call(Method::POST, path, Some(&body)).await {
            Ok(answer) if answer.code == 200 => return Asked::Done,
            Ok(answer) if [404, 409, 503].contains(&answer.code) => {
                said = Asked::Denied(format!("{name} answered {}", answer.body));
            }
            Ok(answer) => return Asked::Unknown(format!("{name} answered {}", answer.body)),
            Err(NoAnswer::NotSent(_)) => {}
            Err(NoAnswer::Unknown(error)) => {
                return Asked::Unknown(format!("{name}: {error:#}"));
            }
        }
    }
    said
}

/// Asks until it is done, or a master is seen to be this; if not, why.
pub(crate) async fn insist<C: Cluster>(
    cluster: &C,
    path: &str,
    (master, now): (usize, &Effect),
    role: &str,
) -> Result<(), String> {
    let (begin, mut patience) = (Instant::now(), REMOVED_MAX);
    let name = cluster.name(master);
    loop {
        let why = match ask_any(cluster, now, (path, json!({ "name": name })), master).await {
            Asked::Done => return Ok(()),
            Asked::Denied(why) => why,
            Asked::Unknown(why) => {
                patience = REMOVAL_MAX;
                why
            }
        };
        if cluster.role_of(name).await.as_deref() == Some(role) {
            return Ok(());
        }
        if begin.elapsed() > patience {
            return Err(why);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
