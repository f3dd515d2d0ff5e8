//! `quorate masters list|preflight|promote|demote|replace|remove|transfer-leader|rolling-restart|recover`.

use anyhow::bail;
use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::confirm::confirm;
use super::help;
use super::recover::{self, RecoverArgs};
use super::rolling::{self, RollingArgs};
use super::server::default_data_dir;
use super::status::{self, Output};
use super::token::Target;
use crate::config::Options;
use crate::master;
use crate::masters::{DEMOTE_PATH, PROMOTE_PATH, REMOVE_PATH, REPLACE_PATH, TRANSFER_PATH};
use crate::preflight::{Check, Outcome};
use crate::progress;
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub enum MastersCommand {
    /// List the masters, and how many of them may be lost; without a leader too
    List {
        #[command(flatten)]
        to: Target,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<ListOutput>,
    },
    /// See whether this machine could join, with the options of `quorate server`; nothing is changed
    #[command(after_help = help::PREFLIGHT)]
    Preflight {
        #[command(flatten)]
        options: Box<Options>,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
    /// Make a learner or a standby a voter
    Promote {
        /// Which
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Make a voter a standby: it gets the log and does not vote
    Demote {
        /// Which
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Take a master out, dead or alive, and let another vote in its place, in one step
    Replace {
        /// Who goes
        old: String,
        /// Who votes then: it must have joined
        new: String,
        #[command(flatten)]
        how: How,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Take a master out of the cluster, dead or alive; a living one is told and ends
    Remove {
        /// Which
        name: String,
        #[command(flatten)]
        how: How,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Make another master the leader
    TransferLeader {
        /// Which [default: the one that is most up to date]
        name: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Restart all masters, one after the other, each with the program that is in its place now: for upgrades
    RollingRestart(RollingArgs),
    /// When the quorum is lost for good: make a new cluster from what one survivor's data directory has
    #[command(after_help = super::help::RECOVER)]
    Recover(RecoverArgs),
}

/// Where something is to be changed, and whether it is meant.
#[derive(Debug, clap::Args)]
pub struct How {
    #[command(flatten)]
    to: Target,
    /// Only say what would come of it, or why it would be refused
    #[arg(long)]
    dry_run: bool,
    /// Also when masters on which it depends are behind, or have a full or slow disk: nothing is lost by that, but
    /// writes may wait
    #[arg(long)]
    force: bool,
}

impl How {
    /// Asks any master for a change. What came of it.
    async fn ask(&self, path: &str, mut body: Value) -> anyhow::Result<Value> {
        if self.dry_run {
            body["dryRun"] = true.into();
        }
        // What an older master does not know is not sent unless it is meant.
        if self.force {
            body["force"] = true.into();
        }
        self.to.client()?.call(Method::POST, path, Some(&body)).await
    }

    /// Says what was done, and what there is now.
    fn tell(&self, done: &str, answer: &Value) {
        let marked = if self.dry_run { " (dry run)" } else { "" };
        let summary = answer["summary"].as_str().map(|summary| format!(": {summary}"));
        progress::say(&format!("{done}{marked}{}", summary.unwrap_or_default()));
    }
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ListOutput {
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// The table, with all columns
    Wide,
}

pub fn run(command: MastersCommand) -> anyhow::Result<()> {
    match command {
        MastersCommand::List { to, output } => list(&to, output),
        MastersCommand::Preflight { options, output } => preflight(*options, output),
        MastersCommand::Promote { name, how } => {
            let answer = super::block_on(how.ask(PROMOTE_PATH, json!({ "name": name })))?;
            how.tell(&format!("master {name:?} votes"), &answer);
            Ok(())
        }
        MastersCommand::Demote { name, how } => {
            let answer = super::block_on(how.ask(DEMOTE_PATH, json!({ "name": name })))?;
            how.tell(&format!("master {name:?} is a standby"), &answer);
            Ok(())
        }
        MastersCommand::Replace { old, new, how, yes } => replace(&old, &new, &how, yes),
        MastersCommand::Remove { name, how, yes } => remove(&name, &how, yes),
        MastersCommand::TransferLeader { name, how } => transfer(name.as_deref(), &how),
        MastersCommand::RollingRestart(args) => rolling::run(&args),
        MastersCommand::Recover(args) => recover::run(&args),
    }
}

fn list(to: &Target, output: Option<ListOutput>) -> anyhow::Result<()> {
    let status = super::block_on(async { status::whole(&to.client()?).await })?;
    let of_masters = || {
        json!({
            "leader": status["leader"],
            "term": status["term"],
            "summary": status["summary"],
            "masters": status["masters"],
        })
    };
    match output {
        Some(ListOutput::Json) => return Output::Json.show(&of_masters()),
        Some(ListOutput::Yaml) => return Output::Yaml.show(&of_masters()),
        Some(ListOutput::Wide) => status::print_masters(&status, status::ALL_COLUMNS),
        None => status::print_masters(&status, status::COLUMNS),
    }
    Ok(())
}

fn remove(name: &str, how: &How, yes: bool) -> anyhow::Result<()> {
    let answer = super::block_on(async {
        if !yes && !how.dry_run {
            let status = status::whole(&how.to.client()?).await?;
            let after = after_removal(&status, name)?;
            confirm(&format!("Remove master {name:?} for good? What remains: {after}."))?;
        }
        how.ask(REMOVE_PATH, json!({ "name": name })).await
    })?;
    how.tell(&format!("master {name:?} removed"), &answer);
    Ok(())
}

fn replace(old: &str, new: &str, how: &How, yes: bool) -> anyhow::Result<()> {
    let body = json!({ "old": old, "new": new });
    let answer = super::block_on(async {
        if !yes && !how.dry_run {
            confirm(&format!("Remove master {old:?} for good, and let {new:?} vote instead?"))?;
        }
        how.ask(REPLACE_PATH, body).await
    })?;
    how.tell(&format!("master {old:?} removed, {new:?} votes"), &answer);
    Ok(())
}

fn preflight(options: Options, output: Option<Output>) -> anyhow::Result<()> {
    let options = options.with_file()?;
    let settings = Settings::new(&options, "0.0.0.0:6443")?;
    let data = options.data.unwrap_or_else(|| default_data_dir("server"));
    let report = super::block_on(master::look_before_joining(&data, &settings))?;
    match output {
        Some(output) => output.show(&report.json())?,
        None => {
            let row = |check: &Check| {
                let outcome = match check.outcome {
                    Outcome::Ok => "ok",
                    Outcome::Warning => "WARNING",
                    Outcome::Failed => "FAILED",
                };
                vec![check.name.clone(), outcome.to_owned(), check.message.clone()]
            };
            let rows: Vec<Vec<String>> = report.checks.iter().map(row).collect();
            progress::say_raw(&progress::table(&["CHECK", "OUTCOME", "WHAT WAS FOUND"], &rows));
        }
    }
    report.into_result()
}

/// What the number of voters is good for once it is gone.
fn after_removal(status: &Value, name: &str) -> anyhow::Result<String> {
    let masters = || status["masters"].as_array().into_iter().flatten();
    if !masters().any(|master| master["name"] == name) {
        let known: Vec<String> = masters().map(|master| status::text(&master["name"])).collect();
        bail!("no master is named {name:?}: there are {}", known.join(", "));
    }
    let stay = masters().filter(|master| master["voter"] == true && master["name"] != name);
    Ok(crate::status::voters_line(stay.count()))
}

fn transfer(name: Option<&str>, how: &How) -> anyhow::Result<()> {
    let body = name.map_or_else(|| json!({}), |name| json!({ "to": name }));
    let answer = super::block_on(how.ask(TRANSFER_PATH, body))?;
    let marked = if how.dry_run { "would lead (dry run)" } else { "leads" };
    progress::say(&format!("{} {marked}", status::text(&answer["leader"])));
    Ok(())
}
