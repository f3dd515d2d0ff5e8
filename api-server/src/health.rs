//! `/livez`, `/readyz`, `/healthz`, with `?verbose`, `?exclude=` and one path per check, as
//! apiserver's healthz package answers them.

use http::Response;
use quorate_store::Consistency;

use crate::limits::READYZ_DEADLINE;
use crate::parameters::{Query, quoted};
use crate::reply::{self, Body};
use crate::server::Shared;

/// What every cluster begins with is written: named as upstream names its hook.
const BEGINNINGS: &str = "poststarthook/rbac/bootstrap-roles";

/// The checks of an endpoint, in the order they are listed. `livez` is about this process alone: a
/// master without a quorum must not be restarted for it.
fn checks(endpoint: &str) -> &'static [&'static str] {
    match endpoint {
        "livez" => &["ping", "log"],
        "readyz" => &["ping", "log", "store", "leader", "informer-sync", BEGINNINGS, "shutdown"],
        _ => &["ping", "log", "store", "leader", BEGINNINGS],
    }
}

/// Tools ask for upstream's storage checks by name; here the store is that.
fn own_name(name: &str) -> &str {
    match name {
        "etcd" | "etcd-readiness" => "store",
        other => other,
    }
}

/// The answer to a health path, or `None` when the path is none.
pub(crate) async fn answer(shared: &Shared, path: &str, query: &Query) -> Option<Response<Body>> {
    let mut words = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = words.next().filter(|word| matches!(*word, "livez" | "readyz" | "healthz"))?;
    if let Some(one) = words.next().filter(|one| !one.is_empty()) {
        let one = own_name(one);
        if !checks(endpoint).contains(&one) {
            return None;
        }
        return Some(match check(shared, one).await {
            Ok(()) => reply::text(200, "ok"),
            Err(why) => reply::text(500, format!("internal server error: {why}\n")),
        });
    }
    Some(all(shared, endpoint, query).await)
}

async fn all(shared: &Shared, endpoint: &str, query: &Query) -> Response<Body> {
    let mut report = String::new();
    let mut failed = Vec::new();
    for name in checks(endpoint) {
        if query.all("exclude").any(|excluded| own_name(excluded) == *name) {
            report.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check(shared, name).await {
            Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
            Err(_) => {
                failed.push(*name);
                report.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    let unknown: Vec<String> = query
        .all("exclude")
        .filter(|excluded| !checks(endpoint).contains(&own_name(excluded)))
        .map(quoted)
        .collect();
    if !unknown.is_empty() {
        report.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
        ));
    }
    if !failed.is_empty() {
        tracing::warn!(endpoint, failed = failed.join(","), "health check failed");
        return reply::text(500, format!("{report}{endpoint} check failed\n"));
    }
    if query.get("verbose").is_some() {
        return reply::text(200, format!("{report}{endpoint} check passed\n"));
    }
    reply::text(200, "ok")
}

async fn check(shared: &Shared, name: &str) -> Result<(), String> {
    match name {
        "store" => shared
            .store
            .read_within(Consistency::Linearizable, READYZ_DEADLINE)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string()),
        "leader" => match &*shared.store.leadership().borrow() {
            quorate_store::Leadership::Leader { .. }
            | quorate_store::Leadership::Follower { leader: Some(_) } => Ok(()),
            quorate_store::Leadership::Follower { leader: None } => {
                Err("no leader is known".to_owned())
            }
        },
        BEGINNINGS if !shared.has_begun() => {
            Err("the default roles are not written yet".to_owned())
        }
        "shutdown" if shared.stop.is_cancelled() => Err("process is shutting down".to_owned()),
        _ => Ok(()),
    }
}
