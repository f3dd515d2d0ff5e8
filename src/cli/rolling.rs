//! `quorate masters rolling-restart`: one master after the other begins anew, the leader last, and none before all
//! others are well.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::Method;
use quorate_raft::limits::PROMOTE_LAG_MAX;
use serde_json::{Value, json};

use super::confirm::confirm;
use super::status::{self, text};
use super::token::Target;
use crate::client::ApiClient;
use crate::progress;
use crate::restart::RESTART_PATH;

/// Between two looks.
const POLL: Duration = Duration::from_millis(250);

/// Before anything is done, all have so long to be well.
const WELL_WAIT: Duration = Duration::from_secs(5);

/// The others have to be well for so long, without a break, before the next one goes.
const STABLE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct RollingArgs {
    #[command(flatten)]
    to: Target,
    /// How long one master may take until it is back and level, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
        value_parser = clap::value_parser!(u64).range(5..=86_400))]
    timeout: u64,
    /// Only say which would be restarted, in which order
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub fn run(args: &RollingArgs) -> anyhow::Result<()> {
    super::block_on(roll(args))
}

async fn roll(args: &RollingArgs) -> anyhow::Result<()> {
    let client = args.to.client()?;
    let until = Instant::now() + WELL_WAIT;
    let status = loop {
        let status = status::whole(&client).await?;
        // A leader that leads since a moment does not know yet how far the others are.
        if ill(&status).is_empty() || Instant::now() >= until {
            break status;
        }
        tokio::time::sleep(POLL).await;
    };
    if let Some(ill) = ill(&status).into_iter().next() {
        bail!(
            "{ill}: nothing was restarted. Bring it back, or take it out (`quorate masters remove`), and try again"
        );
    }
    let order = order(&status);
    let names: Vec<String> = order.iter().map(|master| text(&master["name"])).collect();
    if args.dry_run {
        progress::say(&format!("would restart {} (dry run)", names.join(", then ")));
        return Ok(());
    }
    let voters = order.iter().filter(|master| master["voter"] == true).count();
    if !args.yes && voters < 3 {
        confirm(&format!(
            "With {voters} voters nothing can be written while one of them restarts. Restart {} all the same?",
            names.join(", ")
        ))?;
    }
    for (number, master) in order.iter().enumerate() {
        let began = Instant::now();
        let rest = names[number..].join(", ");
        restart(&client, &order, master, Duration::from_secs(args.timeout)).await.with_context(
            || format!("not restarted: {rest}. When it is repaired, run the same again"),
        )?;
        let (name, took) = (&names[number], began.elapsed().as_secs_f64());
        progress::say(&format!("{name} is back after {took:.1} s"));
    }
    Ok(())
}

/// Those who do not vote first, the leader last.
fn order(status: &Value) -> Vec<Value> {
    let mut all = status["masters"].as_array().cloned().unwrap_or_default();
    all.sort_by_key(|master| (master["role"] == "leader", master["voter"] == true));
    all
}

/// What stands against taking a master away for a moment.
fn ill(status: &Value) -> Vec<String> {
    let masters = status["masters"].as_array().into_iter().flatten();
    let mut all: Vec<String> = masters
        .filter_map(|master| {
            let name = text(&master["name"]);
            let lag = master["trailsBy"].as_u64();
            if master["answers"] != "yes" {
                return Some(format!("{name} does not answer"));
            }
            let corrupt =
                master["alarms"].as_array().is_some_and(|all| all.contains(&json!("CORRUPT")));
            if corrupt {
                return Some(format!("{name} has a damaged state (alarm CORRUPT)"));
            }
            // What the leader says; of itself it says nothing.
            let behind = master["role"] != "leader" && lag.is_none_or(|lag| lag > PROMOTE_LAG_MAX);
            behind.then(|| format!("{name} is not level with the leader"))
        })
        .collect();
    if !status["leader"].is_string() {
        all.push("there is no leader".to_owned());
    }
    all
}

async fn restart(
    client: &ApiClient,
    all: &[Value],
    master: &Value,
    limit: Duration,
) -> anyhow::Result<()> {
    let name = text(&master["name"]);
    let url = |master: &Value| format!("https://{}", text(&master["apiAddress"]));
    let own = client.at(&url(master))?;
    // Somebody else is asked how things are while this one is away.
    let other = all.iter().find(|other| other["name"] != master["name"]).unwrap_or(master);
    let other = client.at(&url(other))?;
    let asked = own.call(Method::POST, RESTART_PATH, Some(&json!({}))).await;
    let before = asked.with_context(|| format!("master {name:?} cannot be restarted"))?;
    let before = before["startedAt"].clone();
    let until = Instant::now() + limit;
    let (mut well_since, mut last) = (None, "it does not answer yet".to_owned());
    loop {
        match status::whole(&other).await {
            Err(error) => (well_since, last) = (None, format!("{error:#}")),
            Ok(status) => {
                let own = status["masters"].as_array().into_iter().flatten();
                let own = own.clone().find(|known| known["name"] == master["name"]);
                let started = own.map_or(&Value::Null, |own| &own["startedAt"]);
                let ill = ill(&status);
                if started.is_null() || *started == before {
                    (well_since, last) = (None, format!("{name} has not begun anew"));
                } else if let Some(ill) = ill.into_iter().next() {
                    (well_since, last) = (None, ill);
                } else if well_since.get_or_insert_with(Instant::now).elapsed() >= STABLE {
                    return Ok(());
                }
            }
        }
        if Instant::now() >= until {
            bail!("master {name:?} was not back within {} s: {last}. See its log", limit.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(masters: Value) -> Value {
        json!({"leader": "a", "masters": masters})
    }

    #[test]
    fn the_leader_goes_last_and_who_does_not_vote_first() {
        let status = status(json!([
            {"name": "a", "role": "leader", "voter": true},
            {"name": "b", "role": "follower", "voter": true},
            {"name": "s", "role": "standby", "voter": false},
        ]));
        let names: Vec<String> = order(&status).iter().map(|one| text(&one["name"])).collect();
        assert_eq!(names, ["s", "b", "a"]);
    }

    #[test]
    fn nobody_is_taken_away_while_another_is_ill() {
        let with = |other: Value| {
            ill(&status(json!([{"name": "a", "role": "leader", "answers": "yes"}, other])))
        };
        let other = json!({"name": "b", "role": "follower", "answers": "yes", "trailsBy": 3});
        assert!(with(other.clone()).is_empty());
        let changed = |field: &str, value: Value| {
            let mut changed = other.clone();
            changed[field] = value;
            with(changed)
        };
        assert_eq!(changed("answers", json!("no")), ["b does not answer"]);
        assert_eq!(changed("trailsBy", json!(257)), ["b is not level with the leader"]);
        assert_eq!(changed("trailsBy", Value::Null), ["b is not level with the leader"]);
        assert_eq!(
            changed("alarms", json!(["CORRUPT"])),
            ["b has a damaged state (alarm CORRUPT)"]
        );
        let leaderless = json!({"masters": []});
        assert_eq!(ill(&leaderless), ["there is no leader"]);
    }
}
