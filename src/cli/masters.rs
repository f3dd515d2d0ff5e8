//! `quorate masters list|remove|transfer-leader|recover`.

use anyhow::bail;
use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::confirm::confirm;
use super::recover::{self, RecoverArgs};
use super::status::{self, Output};
use super::token::Target;
use crate::masters::{REMOVE_PATH, TRANSFER_PATH};
use crate::progress;

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
    /// Take a master out of the cluster, dead or alive; a living one is told and ends
    Remove {
        /// Which
        name: String,
        #[command(flatten)]
        to: Target,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Make another master the leader
    TransferLeader {
        /// Which [default: the one that is most up to date]
        name: Option<String>,
        #[command(flatten)]
        to: Target,
    },
    /// When the quorum is lost for good: make a new cluster from what one survivor's data directory has
    #[command(after_help = super::help::RECOVER)]
    Recover(RecoverArgs),
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
        MastersCommand::Remove { name, to, yes } => remove(&name, &to, yes),
        MastersCommand::TransferLeader { name, to } => transfer(name.as_deref(), &to),
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

fn remove(name: &str, to: &Target, yes: bool) -> anyhow::Result<()> {
    let client = to.client()?;
    let answer = super::block_on(async {
        if !yes {
            let status = status::whole(&client).await?;
            let after = after_removal(&status, name)?;
            confirm(&format!("Remove master {name:?} for good? What remains: {after}."))?;
        }
        client.call(Method::POST, REMOVE_PATH, Some(&json!({ "name": name }))).await
    })?;
    progress::say(&format!("master {name:?} removed: {}", status::text(&answer["summary"])));
    Ok(())
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

fn transfer(name: Option<&str>, to: &Target) -> anyhow::Result<()> {
    let body = name.map_or_else(|| json!({}), |name| json!({ "to": name }));
    let answer = super::block_on(async {
        to.client()?.call(Method::POST, TRANSFER_PATH, Some(&body)).await
    })?;
    progress::say(&format!("{} leads", status::text(&answer["leader"])));
    Ok(())
}
