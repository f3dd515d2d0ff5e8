//! `quorate status`: masters and nodes.

use clap::ValueEnum;
use http::Method;
use serde_json::Value;

use super::token::Target;
use crate::progress;
use crate::status::STATUS_PATH;

/// How machines want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// JSON
    Json,
}

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    to: Target,
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

pub fn run(args: StatusArgs) -> anyhow::Result<()> {
    let status = super::block_on(async {
        let mut to = args.to;
        if to.data.is_none() && to.kubeconfig.is_none() {
            to.data = super::server::found_data_dir().ok();
        }
        to.client()?.call(Method::GET, STATUS_PATH, None).await
    })?;
    if args.output.is_some() {
        progress::say(&serde_json::to_string_pretty(&status)?);
        return Ok(());
    }
    let rows = |list: &str, columns: &[&str]| -> Vec<Vec<String>> {
        let items = status[list].as_array().into_iter().flatten();
        items.map(|item| columns.iter().map(|column| text(&item[*column])).collect()).collect()
    };
    let header = ["MASTER", "ID", "ROLE", "ADDRESS", "TERM", "APPLIED", "TRAILS BY", "VERSION"];
    let columns =
        ["name", "nodeId", "role", "apiAddress", "term", "appliedIndex", "trailsBy", "version"];
    progress::say_raw(&progress::table(&header, &rows("masters", &columns)));
    progress::say(&text(&status["summary"]));
    progress::say("");
    let header = ["NODE", "STATUS", "PODS", "ADDRESS", "RUNTIME", "VERSION"];
    let columns = ["name", "status", "pods", "address", "runtime", "version"];
    progress::say_raw(&progress::table(&header, &rows("nodes", &columns)));
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
