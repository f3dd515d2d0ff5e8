//! `quorate status`: masters and nodes.

mod watch;

use std::time::Duration;

use clap::ValueEnum;
use http::Method;
use serde_json::{Value, json};

use super::token::Target;
use crate::client::ApiClient;
use crate::progress;
use crate::status::STATUS_PATH;

/// A master that has not answered by then is listed as one that does not.
const MASTER_TIMEOUT: Duration = Duration::from_secs(2);

/// How machines want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

impl Output {
    /// Prints a value.
    pub fn show(self, value: &Value) -> anyhow::Result<()> {
        match self {
            Self::Json => progress::say(&serde_json::to_string_pretty(value)?),
            Self::Yaml => progress::say_raw(&serde_saphyr::to_string(value)?),
        }
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    to: Target,
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Go on: on a terminal in place, else once more whenever something has changed
    #[arg(short, long)]
    watch: bool,
    /// With --watch, how many seconds there are between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, requires = "watch",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

pub fn run(args: StatusArgs) -> anyhow::Result<()> {
    let client = args.to.client()?;
    if args.watch {
        let interval = Duration::from_secs(args.interval);
        return super::block_on(watch::run(client, interval, args.output));
    }
    let status = super::block_on(async { whole(&client).await })?;
    match args.output {
        Some(output) => output.show(&status)?,
        None => progress::say_raw(&screen(&status)),
    }
    Ok(())
}

/// The whole cluster: masters, what their number is good for, who leads, alarms, nodes.
fn screen(status: &Value) -> String {
    let mut screen = table(&status["masters"], COLUMNS);
    screen.push_str(&format!("{}\n", text(&status["summary"])));
    let leads = match status["leader"].as_str() {
        Some(leader) => format!("{leader} leads"),
        None => "no leader".to_owned(),
    };
    let (term, revision) = (text(&status["term"]), text(&status["revision"]));
    screen.push_str(&format!("{leads}, term {term}, revision {revision}\n"));
    for address in status["virtualAddresses"].as_array().into_iter().flatten() {
        screen.push_str(&format!("{} {}\n", text(address), holder(status, address)));
    }
    let alarms = status["alarms"].as_array().map(Vec::as_slice).unwrap_or_default();
    if alarms.is_empty() {
        screen.push_str("no alarms\n");
    }
    for alarm in alarms {
        let [name, master, advice] = ["alarm", "master", "advice"].map(|field| text(&alarm[field]));
        screen.push_str(&format!("ALARM {name} on {master}: {advice}\n"));
    }
    screen.push('\n');
    let columns = [
        ("NODE", "name"),
        ("STATUS", "status"),
        ("PODS", "pods"),
        ("ADDRESS", "address"),
        ("RUNTIME", "runtime"),
        ("VERSION", "version"),
    ];
    screen.push_str(&table(&status["nodes"], &columns));
    screen
}

/// Who has a virtual address.
fn holder(status: &Value, address: &Value) -> String {
    let holds = |row: &&Value| {
        row["holds"].as_array().is_some_and(|held| held.iter().any(|held| held == address))
    };
    let names: Vec<String> = status["masters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(holds)
        .map(|row| text(&row["name"]))
        .collect();
    match names.as_slice() {
        [] => "is held by no master that answers".to_owned(),
        names => format!("is held by {}", names.join(" and ")),
    }
}

/// Columns of the masters' table, with the field that each shows.
pub const COLUMNS: &[(&str, &str)] = &[
    ("MASTER", "name"),
    ("ID", "nodeId"),
    ("ROLE", "role"),
    ("ANSWERS", "answers"),
    ("ADDRESS", "apiAddress"),
    ("TERM", "term"),
    ("APPLIED", "appliedIndex"),
    ("TRAILS BY", "trailsBy"),
    ("VERSION", "version"),
];

/// All that is known.
pub const ALL_COLUMNS: &[(&str, &str)] = &[
    ("MASTER", "name"),
    ("ID", "nodeId"),
    ("ROLE", "role"),
    ("ANSWERS", "answers"),
    ("ADDRESS", "apiAddress"),
    ("PEER ADDRESS", "peerAddress"),
    ("TERM", "term"),
    ("LAST LOG", "lastIndex"),
    ("APPLIED", "appliedIndex"),
    ("TRAILS BY", "trailsBy"),
    ("HEARD MS AGO", "lastContactMs"),
    ("FSYNC P99 MS", "fsyncP99Ms"),
    ("VERSION", "version"),
    ("STABLE SINCE", "stableSince"),
    ("HOLDS", "holds"),
    ("ALARMS", "alarms"),
];

pub fn table(items: &Value, columns: &[(&str, &str)]) -> String {
    let header: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let row = |item: &Value| columns.iter().map(|(_, field)| text(&item[*field])).collect();
    let rows: Vec<Vec<String>> = items.as_array().into_iter().flatten().map(row).collect();
    progress::table(&header, &rows)
}

/// The masters, and in one line what their number is good for.
pub fn print_masters(status: &Value, columns: &[(&str, &str)]) {
    progress::say_raw(&table(&status["masters"], columns));
    progress::say(&text(&status["summary"]));
}

/// What one master says, with what each of the others says of itself.
pub async fn whole(client: &ApiClient) -> anyhow::Result<Value> {
    all(client, client.call(Method::GET, STATUS_PATH, None).await?).await
}

/// As `whole`, of a master that answers soon.
async fn whole_soon(client: &ApiClient) -> anyhow::Result<Value> {
    all(client, client.call_within(MASTER_TIMEOUT, Method::GET, STATUS_PATH, None).await?).await
}

async fn all(client: &ApiClient, first: Value) -> anyhow::Result<Value> {
    let masters = first["masters"].as_array().cloned().unwrap_or_default();
    let mut asked = Vec::new();
    for master in &masters {
        let address = master["apiAddress"].as_str().unwrap_or_default();
        let of_first = master["name"] == first["answeredBy"];
        let other = client.at(&format!("https://{address}")).ok().filter(|_| !of_first);
        asked.push(tokio::spawn(async move {
            let other = other?;
            other.call_within(MASTER_TIMEOUT, Method::GET, STATUS_PATH, None).await.ok()
        }));
    }
    let mut answers = vec![first];
    for answer in asked {
        let answer = answer.await.ok().flatten();
        let of_another = |answer: &Value| answer["clusterId"] != answers[0]["clusterId"];
        answers.extend(answer.filter(|answer| !of_another(answer)));
    }
    Ok(merged(answers, masters))
}

/// Who is ahead is right about who leads; each is right about itself; the leader about who trails.
fn merged(answers: Vec<Value>, masters: Vec<Value>) -> Value {
    let newest = answers.iter().max_by_key(|answer| {
        (answer["term"].as_u64(), answer["leader"].is_string(), answer["appliedIndex"].as_u64())
    });
    let mut status = newest.cloned().unwrap_or_default();
    let row_of = |answer: &Value, name: &Value| {
        let rows = answer["masters"].as_array();
        rows.into_iter().flatten().find(|row| row["name"] == *name).cloned()
    };
    let leader = answers.iter().find(|answer| answer["answeredBy"] == status["leader"]);
    let known = status["masters"].as_array().cloned().unwrap_or(masters);
    let rows: Vec<Value> = known
        .into_iter()
        .map(|row| {
            let name = row["name"].clone();
            let own = answers.iter().find(|answer| answer["answeredBy"] == name);
            let mut shown = own.and_then(|own| row_of(own, &name)).unwrap_or_else(|| row.clone());
            let by_leader = leader.and_then(|leader| row_of(leader, &name)).unwrap_or_default();
            for field in ["trailsBy", "lastContactMs"] {
                shown[field] = by_leader.get(field).cloned().unwrap_or_default();
            }
            shown["role"] = row["role"].clone();
            shown["answers"] = if own.is_some() { "yes" } else { "no" }.into();
            if own.is_none() {
                // What others think it has seen is not what it has.
                shown["term"] = Value::Null;
            }
            shown
        })
        .collect();
    let alarms = answers.iter().flat_map(|answer| answer["alarms"].as_array()).flatten();
    status["alarms"] = alarms.cloned().collect();
    let silent = silence(&rows);
    if let (Some(summary), Some(silent)) = (status["summary"].as_str(), silent) {
        status["summary"] = format!("{summary}; {silent}").into();
    }
    status["masters"] = json!(rows);
    status
}

/// Which masters do not answer, and whether the others are enough.
fn silence(rows: &[Value]) -> Option<String> {
    let silent: Vec<String> =
        rows.iter().filter(|row| row["answers"] != "yes").map(|row| text(&row["name"])).collect();
    if silent.is_empty() {
        return None;
    }
    let voters = || rows.iter().filter(|row| row["voter"] != false);
    let answering = voters().filter(|row| row["answers"] == "yes").count();
    let quorum = voters().count() / 2 + 1;
    let writes = match answering.checked_sub(quorum) {
        None => ": NO QUORUM, writes wait".to_owned(),
        Some(left) if answering < voters().count() => {
            format!(": survives the loss of {left} more")
        }
        Some(_) => String::new(),
    };
    let verb = if silent.len() == 1 { "does" } else { "do" };
    Some(format!("{} {verb} not answer{writes}", silent.join(", ")))
}

/// As a cell of a table.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(by: &str, leader: &str, term: u64, rows: Value) -> Value {
        json!({
            "answeredBy": by, "leader": leader, "term": term, "appliedIndex": 7, "masters": rows,
        })
    }

    #[test]
    fn the_summary_names_the_silent_and_says_when_too_few_answer() {
        let row =
            |name: &str, answers: &str| json!({"name": name, "answers": answers, "voter": true});
        assert_eq!(silence(&[row("a", "yes"), row("b", "yes")]), None);
        let one = silence(&[row("a", "yes"), row("b", "no"), row("c", "yes")]);
        assert_eq!(one.unwrap(), "b does not answer: survives the loss of 0 more");
        let of_five: Vec<Value> = ["a", "b", "c", "d", "e"]
            .map(|name| row(name, if name == "e" { "no" } else { "yes" }))
            .into();
        let one = silence(&of_five);
        assert_eq!(one.unwrap(), "e does not answer: survives the loss of 1 more");
        let two = silence(&[row("a", "yes"), row("b", "no"), row("c", "no")]);
        assert_eq!(two.unwrap(), "b, c do not answer: NO QUORUM, writes wait");
    }

    #[test]
    fn who_holds_a_virtual_address_is_told() {
        let rows = json!([{"name": "a", "holds": ["10.0.0.9"]}, {"name": "b", "holds": []}]);
        let mut answer = answer("a", "a", 3, rows);
        answer["virtualAddresses"] = json!(["10.0.0.9", "fd00::9"]);
        let shown = screen(&merged(vec![answer.clone()], Vec::new()));
        assert!(shown.contains("\n10.0.0.9 is held by a\n"), "{shown}");
        assert!(shown.contains("\nfd00::9 is held by no master that answers\n"), "{shown}");
    }

    #[test]
    fn alarms_of_all_are_shown_with_what_to_do() {
        let mut answers = Vec::new();
        for name in ["a", "b"] {
            let rows = json!([{"name": "a", "voter": true}, {"name": "b", "voter": true}]);
            let mut answer = answer(name, "a", 3, rows);
            answer["alarms"] = json!([{"alarm": "NOSPACE", "master": name, "advice": "free some"}]);
            answers.push(answer);
        }
        let masters = answers[0]["masters"].as_array().cloned().unwrap();
        let shown = screen(&merged(answers.clone(), masters.clone()));
        for name in ["a", "b"] {
            let line = format!("\nALARM NOSPACE on {name}: free some\n");
            assert!(shown.contains(&line), "{shown}");
        }
        assert!(shown.contains("\na leads, term 3, "), "{shown}");
        answers.iter_mut().for_each(|answer| answer["alarms"] = json!([]));
        let shown = screen(&merged(answers, masters));
        assert!(shown.contains("\nno alarms\n"), "{shown}");
    }

    #[test]
    fn each_master_speaks_for_itself_and_the_silent_are_named() {
        let row = |name: &str, role: &str, applied: Value, trails: Value| {
            json!({
                "name": name, "role": role, "term": 3, "appliedIndex": applied, "trailsBy": trails,
            })
        };
        // The follower has not heard of the election yet.
        let follower = answer(
            "b",
            "c",
            2,
            json!([
                row("a", "follower", Value::Null, Value::Null),
                row("b", "follower", json!(6), Value::Null),
                row("c", "leader", Value::Null, Value::Null),
            ]),
        );
        let leader = answer(
            "a",
            "a",
            3,
            json!([
                row("a", "leader", json!(7), json!(0)),
                row("b", "follower", json!(5), json!(1)),
                row("c", "follower", json!(2), json!(5)),
            ]),
        );
        let masters = follower["masters"].as_array().cloned().unwrap();
        let status = merged(vec![follower, leader], masters);
        assert_eq!(status["leader"], "a");
        let shown: Vec<String> = status["masters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                ["name", "role", "answers", "appliedIndex", "trailsBy", "term"]
                    .map(|field| text(&row[field]))
                    .join(" ")
            })
            .collect();
        assert_eq!(shown, ["a leader yes 7 0 3", "b follower yes 6 1 3", "c follower no 2 5 -"]);
    }
}
