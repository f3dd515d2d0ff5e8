//! The command line: one file per command.

mod chaos;
mod dev;
mod images;
pub use images::ImagesCommand;
pub use server::default_data_dir;
mod kubeconfig;
mod server;
mod status;
mod token;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use quorate_node_agent::builtin::shim;

use crate::config::Options;
use crate::progress;

/// Kubernetes in one binary: masters that replicate the object store themselves, and node agents.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version = version::LONG,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Every option can also be given as QUORATE_<OPTION> in the environment, or in a YAML \
                  file named by --config (keys are the long option names). A flag wins over the \
                  environment, the environment over the file."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine: one master and one node agent
    #[command(after_help = "Starting again on the same --data keeps everything. Ctrl-C stops it.")]
    Dev(Box<Options>),
    /// Run a master: the first of a new cluster, or a further one with --join URL --token T
    Server(Box<Options>),
    /// Run a node agent: --server URL[,URL...] --token T; or manage the images of the built-in runtime
    Agent(Box<AgentArgs>),
    /// Create, list and delete join tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Print an admin kubeconfig of the master whose --data is given
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Show masters and nodes
    Status(status::StatusArgs),
    /// Inject faults into masters on this machine, and check what clients saw
    Chaos(quorate_chaos::cli::ChaosArgs),
    /// Print the version
    Version(version::VersionArgs),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct AgentArgs {
    #[command(subcommand)]
    command: Option<AgentCommand>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Import, list and remove images of the built-in runtime
    #[command(subcommand)]
    Images(images::ImagesCommand),
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    // The shim is this binary started again by the node agent: single-threaded, before anything
    // else exists in the process.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == shim::SUBCOMMAND) {
        return shim::shim_main(arguments);
    }
    let result = match Cli::parse().command {
        Command::Dev(options) => dev::run(*options),
        Command::Server(options) => server::run(*options),
        Command::Agent(args) => match args.command {
            Some(AgentCommand::Images(command)) => images::run(command),
            None => server::run_agent(args.options),
        },
        Command::Token(command) => token::run(command),
        Command::Kubeconfig(args) => kubeconfig::run(args),
        Command::Status(args) => status::run(args),
        Command::Chaos(args) => return chaos::run(args),
        Command::Version(args) => version::run(args),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quorate", &mut script);
            progress::say_raw(&String::from_utf8_lossy(&script));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs a command's future on a runtime of its own.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("quorate").build()?;
    let result = runtime.block_on(future);
    // What is still running was told to stop; nobody waits for a hung connection.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

/// What has not ended by then when the process stops is left behind.
const SHUTDOWN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Completes at Ctrl-C or SIGTERM.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_says_what_it_is_for() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let id = argument.get_id().as_str();
                assert!(argument.get_help().is_some(), "{} {id}", command.get_name());
            }
        }
    }
}
