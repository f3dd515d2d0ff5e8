//! `quorate certs list|rotate|rotate-ca`.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::confirm::confirm;
use super::help;
use super::masters::ListOutput;
use super::status::{self, Output};
use super::token::{self, Target};
use crate::certs::serve::{CERTS_PATH, ROTATE_CA_PATH, ROTATE_PATH};
use crate::client::{ApiClient, Refused};
use crate::progress;
use crate::status::STATUS_PATH;

/// A master that has not answered by then is listed as one that does not.
const MASTER_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two looks at how far a change of the authorities is.
const STEP_PAUSE: Duration = Duration::from_millis(300);

/// What is waited for and does not come in this time ends the command; run again, it goes on.
const STEP_PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// List the certificates of all masters, and of the nodes, with the time that is left to them
    List {
        #[command(flatten)]
        to: Target,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<ListOutput>,
    },
    /// Issue the masters' certificates anew now; no connection breaks, nothing restarts
    Rotate {
        #[command(flatten)]
        to: Target,
        /// Of this master only
        #[arg(long, value_name = "NAME")]
        master: Option<String>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Change the authorities that sign all certificates: with an overlap, without downtime
    #[command(after_help = help::ROTATE_CA)]
    RotateCa {
        #[command(flatten)]
        to: Target,
        /// Stop believing the old authorities: what they have signed is of no use any more
        #[arg(long)]
        finish: bool,
        /// With --finish: also when there are nodes that have not followed; they must join again
        #[arg(long, requires = "finish")]
        force: bool,
        /// Only say how far it is, and what would be done next
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

pub fn run(command: CertsCommand) -> anyhow::Result<()> {
    super::block_on(async {
        match command {
            CertsCommand::List { to, output } => list(&to, output).await,
            CertsCommand::Rotate { to, master, dry_run } => {
                rotate(&to, master.as_deref(), dry_run).await
            }
            CertsCommand::RotateCa { to, finish, force, dry_run, yes } => {
                let client = to.client()?;
                let change = Change { finish, force, dry_run, yes };
                change.run(&Masters::of(client).await?).await
            }
        }
    })
}

/// The masters of the cluster, each with a way to it.
struct Masters {
    first: ApiClient,
    all: Vec<(String, ApiClient)>,
}

impl Masters {
    async fn of(first: ApiClient) -> anyhow::Result<Self> {
        let status = first.call(Method::GET, STATUS_PATH, None).await?;
        let mut all = Vec::new();
        for master in status["masters"].as_array().into_iter().flatten() {
            let name = status::text(&master["name"]);
            let client = if master["name"] == status["answeredBy"] {
                first.clone()
            } else {
                first.at(&format!("https://{}", status::text(&master["apiAddress"])))?
            };
            all.push((name, client));
        }
        Ok(Self { first, all })
    }

    /// Asks each of them.
    async fn each(
        &self,
        method: Method,
        path: &'static str,
        body: Option<Value>,
    ) -> Vec<(String, anyhow::Result<Value>)> {
        let asked = self.all.iter().map(|(name, client)| {
            let (method, body) = (method.clone(), body.clone());
            async move {
                let answer = client.call_within(MASTER_TIMEOUT, method, path, body.as_ref()).await;
                (name.clone(), answer)
            }
        });
        futures::future::join_all(asked).await
    }

    /// Asks the first that answers anything.
    async fn any(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut last: Option<anyhow::Error> = None;
        let others = self.all.iter().map(|(_, client)| client);
        for client in std::iter::once(&self.first).chain(others) {
            match client.call(Method::POST, path, Some(body)).await {
                // That somebody does not know us says more than that somebody else is away.
                Err(error) if may_pass(&error) => {
                    last = Some(last.filter(is_strangers).unwrap_or(error));
                }
                answered => return answered,
            }
        }
        Err(last.context("there is no master")?)
    }
}

/// Whether another master, or the same in a moment, may say something else.
fn may_pass(error: &anyhow::Error) -> bool {
    !error.is::<Refused>() || is_of_the_moment(error)
}

fn is_of_the_moment(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(Refused::is_of_the_moment)
}

/// Whether the other side does not believe our certificate, or we not its: after the end, that of old authorities.
fn is_strangers(error: &anyhow::Error) -> bool {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return refused.to_string().starts_with(http::StatusCode::UNAUTHORIZED.as_str());
    }
    let in_io = |error: &std::io::Error| {
        error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(is_tls)
    };
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(in_io)
            || cause.downcast_ref::<rustls::Error>().is_some_and(is_tls)
    })
}

/// Whether TLS failed for an authority that is not believed.
fn is_tls(error: &rustls::Error) -> bool {
    use rustls::{AlertDescription as Alert, CertificateError, Error};
    match error {
        Error::InvalidCertificate(why) => {
            matches!(why, CertificateError::UnknownIssuer | CertificateError::BadSignature)
        }
        Error::AlertReceived(alert) => matches!(
            alert,
            Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::DecryptError
                | Alert::AccessDenied
        ),
        _ => false,
    }
}

async fn list(to: &Target, output: Option<ListOutput>) -> anyhow::Result<()> {
    let masters = Masters::of(to.client()?).await?;
    let now = Timestamp::now();
    let (mut certificates, mut nodes, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    let mut changes = Vec::new();
    for (name, answer) in masters.each(Method::GET, CERTS_PATH, None).await {
        let Ok(answer) = answer else {
            silent.push(name);
            continue;
        };
        changes.push(json!({
            "master": name, "generation": answer["generation"], "phase": answer["phase"],
        }));
        let rows = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
        certificates.extend(rows("certificates").into_iter().map(|row| with_rest(row, now)));
        nodes.extend(rows("nodes").into_iter().map(|row| with_rest(row, now)));
    }
    nodes.sort_by_key(|node| status::text(&node["name"]));
    let all = json!({
        "certificates": certificates,
        "nodes": nodes,
        "authorities": changes,
        "silent": silent,
    });
    match output {
        Some(ListOutput::Json) => return Output::Json.show(&all),
        Some(ListOutput::Yaml) => return Output::Yaml.show(&all),
        Some(ListOutput::Wide) => print(&all, true),
        None => print(&all, false),
    }
    Ok(())
}

/// A row with what people look at instead of a list.
fn with_names(mut row: Value) -> Value {
    let names = row["names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    row["names"] = names.collect::<Vec<_>>().join(",").into();
    row
}

/// A row with the time that is left to it.
fn with_rest(mut row: Value, now: Timestamp) -> Value {
    let expires = row["expires"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let left = expires.map(|at| at.duration_since(now));
    row["secondsLeft"] = json!(left.map(|left| left.as_secs()));
    row["residual"] = left.map_or_else(|| "<unknown>".to_owned(), residual).into();
    row
}

fn residual(left: SignedDuration) -> String {
    if left.is_negative() { "<expired>".to_owned() } else { token::duration(left) }
}

fn print(all: &Value, wide: bool) {
    let mut columns = vec![
        ("MASTER", "master"),
        ("CERTIFICATE", "name"),
        ("EXPIRES", "expires"),
        ("RESIDUAL", "residual"),
        ("SIGNED BY", "signedBy"),
    ];
    if wide {
        columns.extend([("ISSUED", "issued"), ("SUBJECT", "subject"), ("NAMES", "names")]);
    }
    let rows = all["certificates"].as_array().cloned().unwrap_or_default();
    let rows: Vec<Value> = rows.into_iter().map(with_names).collect();
    progress::say_raw(&status::table(&json!(rows), &columns));
    if all["nodes"].as_array().is_some_and(|nodes| !nodes.is_empty()) {
        let mut columns = vec![
            ("NODE", "name"),
            ("EXPIRES", "expires"),
            ("RESIDUAL", "residual"),
            ("SIGNED BY", "signedBy"),
        ];
        if wide {
            columns.extend([("ISSUED", "issued"), ("CONNECTED TO", "master")]);
        }
        progress::say("");
        progress::say_raw(&status::table(&all["nodes"], &columns));
    }
    let rows = |field: &str| all[field].as_array().cloned().unwrap_or_default();
    if rows("authorities").iter().any(|one| one["phase"] != "done") {
        progress::say("");
        progress::say(
            "The authorities are being changed: `quorate certs rotate-ca --dry-run` says how far that is.",
        );
    }
    let silent: Vec<String> = rows("silent").iter().map(status::text).collect();
    if !silent.is_empty() {
        progress::tell(&format!("no answer from {}", silent.join(", ")));
    }
}

async fn rotate(to: &Target, master: Option<&str>, dry_run: bool) -> anyhow::Result<()> {
    let mut masters = Masters::of(to.client()?).await?;
    if let Some(wanted) = master {
        let known: Vec<String> = masters.all.iter().map(|(name, _)| name.clone()).collect();
        masters.all.retain(|(name, _)| name == wanted);
        if masters.all.is_empty() {
            bail!("no master is named {wanted:?}: there are {}", known.join(", "));
        }
    }
    let body = json!({ "dryRun": dry_run });
    let mut failed = Vec::new();
    for (name, answer) in masters.each(Method::POST, ROTATE_PATH, Some(body)).await {
        match answer {
            Ok(answer) => {
                let rows = answer["certificates"].as_array().cloned().unwrap_or_default();
                let leaves = rows.iter().filter(|row| row["authority"] != true);
                let names: Vec<String> = leaves.map(|row| status::text(&row["name"])).collect();
                let names = names.join(", ");
                if dry_run {
                    progress::say(&format!("{name}: {names} would be issued anew (dry run)"));
                } else {
                    progress::say(&format!("{name}: {names} issued anew"));
                }
            }
            Err(error) => {
                progress::tell(&format!("{name}: {error:#}"));
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        let failed = failed.join(", ");
        bail!(
            "{failed} did not issue anything: the others have; run the command again for {failed} with --master"
        );
    }
    Ok(())
}

/// A change of the authorities as it was asked for.
struct Change {
    finish: bool,
    force: bool,
    dry_run: bool,
    yes: bool,
}

impl Change {
    async fn run(&self, masters: &Masters) -> anyhow::Result<()> {
        let look = masters.any(ROTATE_CA_PATH, &json!({})).await?;
        let generation = if look["underWay"] == true || self.finish {
            &look["generation"]
        } else {
            &look["nextGeneration"]
        };
        if self.dry_run {
            show(&look);
        } else if !self.yes {
            self.ask(&look)?;
        }
        let wish = json!({
            "to": if self.finish { "done" } else { "sign" },
            "generation": generation,
            "force": self.force,
            "dryRun": self.dry_run,
        });
        let mut told = String::new();
        let mut since = Instant::now();
        // Whether a master has said that it wrote the end into the record that all follow.
        let mut ended = false;
        loop {
            let standing = match masters.any(ROTATE_CA_PATH, &wish).await {
                Ok(standing) => standing,
                // Who came with what the old authorities signed is a stranger now, and was none a moment ago.
                Err(error) if self.finish && !self.dry_run && is_strangers(&error) => {
                    progress::say(
                        "The masters no longer believe this kubeconfig: make another with `quorate kubeconfig`.",
                    );
                    tracing::debug!(error = format!("{error:#}"), "after the end");
                    return Ok(());
                }
                Err(error) if may_pass(&error) && since.elapsed() < STEP_PATIENCE => {
                    tokio::time::sleep(STEP_PAUSE).await;
                    continue;
                }
                Err(error) if ended => {
                    return Err(error.context(
                        "the end is decided, and each master follows by itself, but not all have said so yet: run the \
                         command again",
                    ));
                }
                Err(error) => return Err(error),
            };
            ended |= standing["written"] == "done";
            let did = standing["did"].as_str();
            if let Some(did) = did {
                progress::say(&format!("{did}{}", if self.dry_run { " (dry run)" } else { "" }));
                since = Instant::now();
            }
            if self.dry_run || standing["reached"] == true {
                if !self.dry_run {
                    self.done(&standing);
                }
                return Ok(());
            }
            let waiting: Vec<String> =
                standing["waiting"].as_array().into_iter().flatten().map(status::text).collect();
            let waiting = waiting.join(", ");
            if !waiting.is_empty() && waiting != told {
                progress::say(&format!("  waiting: {waiting}"));
                told.clone_from(&waiting);
            }
            if since.elapsed() > STEP_PATIENCE {
                return self.given_up(&standing, &waiting);
            }
            tokio::time::sleep(STEP_PAUSE).await;
        }
    }

    fn ask(&self, look: &Value) -> anyhow::Result<()> {
        let generation = &look["generation"];
        if self.finish {
            return confirm(
                "Stop believing the old authorities? Kubeconfigs and join tokens that were made before the change \
                 are of no use then, nor are certificates of nodes that have not followed.",
            );
        }
        if look["underWay"] == true {
            return confirm(&format!(
                "Go on with the change to authorities of generation {generation}?"
            ));
        }
        confirm(
            "Make new authorities for the whole cluster, and let them sign everything from now on?",
        )
    }

    fn done(&self, standing: &Value) {
        let generation = &standing["generation"];
        if self.finish {
            progress::say(&format!(
                "done: only the authorities of generation {generation} are believed"
            ));
            return;
        }
        progress::say(&format!(
            "all masters and nodes have certificates of generation {generation}; the old authorities are still believed.\n\
             Next:\n\
             \x20 1. make new kubeconfigs for everybody who has one: quorate kubeconfig\n\
             \x20 2. make new join tokens, where old ones are still to be used: quorate token create\n\
             \x20 3. quorate certs rotate-ca --finish"
        ));
    }

    /// Masters that do not follow are an error; nodes that do not are told of, and stop only the end.
    fn given_up(&self, standing: &Value, waiting: &str) -> anyhow::Result<()> {
        let masters = standing["masters"].as_array().into_iter().flatten();
        let all_sign = masters.clone().all(|one| one["holds"] == true && one["phase"] == "sign");
        if all_sign && !self.finish {
            progress::say(&format!("still old: {waiting}"));
            self.done(standing);
            return Ok(());
        }
        bail!(
            "nothing happens for {} s: {waiting}. Look into their logs; run the command again, and it goes on from here",
            STEP_PATIENCE.as_secs()
        )
    }
}

/// How far it is.
fn show(look: &Value) {
    let generation = &look["generation"];
    match (look["underWay"] == true, look["phase"].as_str()) {
        (true, Some("trust")) => progress::say(&format!(
            "a change to authorities of generation {generation} is under way: they are believed, the old ones sign"
        )),
        (true, _) => progress::say(&format!(
            "a change to authorities of generation {generation} is under way: they sign, the old ones are still believed"
        )),
        (false, _) => progress::say(&format!(
            "the authorities are of generation {generation}; no change is under way"
        )),
    }
    progress::say_raw(&status::table(
        &look["masters"],
        &[
            ("MASTER", "name"),
            ("GENERATION", "generation"),
            ("PHASE", "phase"),
            ("PROBLEM", "problem"),
        ],
    ));
    if look["nodes"].as_array().is_some_and(|nodes| !nodes.is_empty()) {
        let columns = [("NODE", "name"), ("MOVED", "moved"), ("PROBLEM", "problem")];
        progress::say_raw(&status::table(&look["nodes"], &columns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_not_believed_takes_an_error_for_the_end() {
        use rustls::{AlertDescription, CertificateError, Error as Tls};
        let over_tls = |error: Tls| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
            anyhow::Error::from(error).context("cannot connect")
        };
        assert!(is_strangers(&over_tls(Tls::AlertReceived(AlertDescription::UnknownCA))));
        assert!(is_strangers(&over_tls(Tls::InvalidCertificate(CertificateError::UnknownIssuer))));
        assert!(!is_strangers(&over_tls(Tls::InvalidCertificate(CertificateError::Expired))));
        assert!(!is_strangers(&over_tls(Tls::AlertReceived(AlertDescription::InternalError))));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(!is_strangers(&anyhow::Error::from(refused)));
        assert!(!is_strangers(&anyhow::anyhow!("401 in a text")));
    }

    #[test]
    fn what_is_left_is_told_as_people_say_it() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let row = |expires: &str| with_rest(json!({ "expires": expires }), now);
        assert_eq!(row("2027-03-01T12:00:00Z")["residual"], "365d0h");
        assert_eq!(row("2026-03-01T12:00:00Z")["residual"], "0s");
        assert_eq!(row("2026-02-01T12:00:00Z")["residual"], "<expired>");
        assert_eq!(row("never")["residual"], "<unknown>");
        assert_eq!(row("2026-03-01T13:00:00Z")["secondsLeft"], 3600);
    }
}
