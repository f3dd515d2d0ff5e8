//! The command line: one file per command.

mod backup;
mod certs;
mod chaos;
mod confirm;
mod dev;
mod help;
mod images;
pub use images::ImagesCommand;
pub use server::default_data_dir;
mod kubeconfig;
mod masters;
mod recover;
mod rolling;
mod server;
mod status;
mod token;
mod version;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use quorate_node_agent::builtin::shim;

use crate::config::Options;
use crate::progress;
use crate::stop::StoppedEarly;

/// Kubernetes in one binary: masters that replicate the object store themselves, and node agents.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version = version::LONG,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = help::QUORATE
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine: one master and one node agent
    #[command(after_help = help::DEV)]
    Dev(Box<Options>),
    /// Run a master: the first of a new cluster, or a further one with --join URL --token T
    #[command(after_help = help::SERVER)]
    Server(Box<Options>),
    /// Run a node agent: --server URL[,URL...] --token T; or manage the images of the built-in runtime
    #[command(after_help = help::AGENT)]
    Agent(Box<AgentArgs>),
    /// Create, list and delete join tokens
    #[command(subcommand, after_help = help::TOKEN)]
    Token(token::TokenCommand),
    /// Print a kubeconfig for the cluster of a master on this machine
    #[command(after_help = help::KUBECONFIG)]
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Make, check and restore backups
    #[command(subcommand, after_help = help::BACKUP)]
    Backup(backup::BackupCommand),
    /// List certificates, issue them anew, change the authorities behind them
    #[command(subcommand, after_help = help::CERTS)]
    Certs(certs::CertsCommand),
    /// List, remove and choose among the masters
    #[command(subcommand, after_help = help::MASTERS)]
    Masters(masters::MastersCommand),
    /// Show masters and nodes
    #[command(after_help = help::STATUS)]
    Status(status::StatusArgs),
    /// Inject faults into masters on this machine, and check what clients saw
    Chaos(quorate_chaos::cli::ChaosArgs),
    /// Print the version
    Version(version::VersionArgs),
    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETION)]
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
    crate::status::begins();
    let result = match parse().command {
        Command::Dev(options) => dev::run(*options),
        Command::Server(options) => server::run(*options),
        Command::Agent(args) => match args.command {
            Some(AgentCommand::Images(command)) => images::run(command),
            None => server::run_agent(args.options),
        },
        Command::Token(command) => token::run(command),
        Command::Kubeconfig(args) => kubeconfig::run(args),
        Command::Backup(command) => backup::run(command),
        Command::Certs(command) => certs::run(command),
        Command::Masters(command) => masters::run(command),
        Command::Status(args) => status::run(args),
        Command::Chaos(args) => return chaos::run(args),
        Command::Version(args) => version::run(args),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut commands(), "quorate", &mut script);
            progress::say_raw(&String::from_utf8_lossy(&script));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<StoppedEarly>() => {
            progress::tell(&error.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            progress::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Options of [`Options`] that a command has no use for: not shown in its help, refused as flags.
/// In the environment and in the file they are left alone, since those may be shared by several.
const OF_OTHERS: &[(&str, &[&str])] = &[
    (
        "dev",
        &[
            "join",
            "standby",
            "skip_preflight",
            "join_timeout",
            "remove_dead_masters_after",
            "server",
            "token",
            "token_file",
            "vip",
            "vip_interface",
        ],
    ),
    (
        "server",
        &["server", "runtime", "containerd_socket", "cni_conf_dir", "node_labels", "eviction_hard"],
    ),
    (
        "agent",
        &[
            "kubeconfig",
            "context",
            "listen",
            "peer_listen",
            "advertise",
            "tls_san",
            "vip",
            "vip_interface",
            "service_cidr",
            "cluster_cidr",
            "cluster_domain",
            "join",
            "standby",
            "skip_preflight",
            "join_timeout",
            "remove_dead_masters_after",
            "backup_schedule",
            "backup_keep",
            "backup_dir",
            "backup_passphrase_file",
            "no_backups",
            "quota_backend_bytes",
            "scrub_interval",
            "certificate_lifetime",
            "raft_heartbeat_ms",
            "raft_election_min_ms",
            "raft_election_max_ms",
        ],
    ),
];

/// The commands, each with the options that are its own.
fn commands() -> clap::Command {
    OF_OTHERS.iter().fold(Cli::command(), |all, (name, others)| {
        all.mut_subcommand(name, |command| {
            others.iter().fold(command, |command, id| command.mut_arg(id, |arg| arg.hide(true)))
        })
    })
}

fn parse() -> Cli {
    let mut commands = commands();
    let matches = commands.get_matches_mut();
    match refuse_of_others(&matches) {
        Some(why) => commands.error(ErrorKind::UnknownArgument, why).exit(),
        None => Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()),
    }
}

/// Which option was given to a command that has no use for it, and what to do instead.
fn refuse_of_others(matches: &ArgMatches) -> Option<String> {
    let (name, given) = matches.subcommand()?;
    let (_, others) = OF_OTHERS.iter().find(|(command, _)| *command == name)?;
    let wrong =
        others.iter().find(|id| given.value_source(id) == Some(ValueSource::CommandLine))?;
    let users: Vec<String> = OF_OTHERS
        .iter()
        .filter(|(_, others)| !others.contains(wrong))
        .map(|(command, _)| format!("`quorate {command}`"))
        .collect();
    let hint = match (name, *wrong) {
        ("server", "server") => ". To join a cluster give --join URL",
        ("agent", "join") => ". To name the masters give --server URL[,URL...]",
        _ => "",
    };
    let flag = wrong.replace('_', "-");
    Some(format!("--{flag} is an option of {}, not of `quorate {name}`{hint}", users.join(" and ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        commands().debug_assert();
    }

    #[test]
    fn an_option_of_another_command_is_refused_with_a_hint() {
        let refused = |line: &str| {
            let matches = commands().try_get_matches_from(line.split(' ')).unwrap();
            refuse_of_others(&matches)
        };
        assert_eq!(
            refused("quorate agent --join https://a:1").unwrap(),
            "--join is an option of `quorate server`, not of `quorate agent`. To name the masters \
             give --server URL[,URL...]"
        );
        assert_eq!(
            refused("quorate server --node-labels a=b").unwrap(),
            "--node-labels is an option of `quorate dev` and `quorate agent`, not of `quorate server`"
        );
        assert_eq!(refused("quorate server --join https://a:1 --token t"), None);
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
