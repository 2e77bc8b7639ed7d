//! The command line as clap sees it: commands and the options that all of them share.

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use weir_protocol::limits::NAME_BYTES_MAX;

use crate::bench::BenchArguments;
use crate::code::Code;
use crate::completions::CompletionsArguments;
use crate::config::ConfigArguments;
use crate::ctx::CtxArguments;
use crate::dedup::DedupArguments;
use crate::dlq::DlqArguments;
use crate::dump::DumpArguments;
use crate::explain::ExplainArguments;
use crate::failure::Exit;
use crate::group::GroupArguments;
use crate::man::ManArguments;
use crate::plan::PlanArguments;
use crate::repair::RepairArguments;
use crate::send::SendArguments;
use crate::serve::ServeArguments;
use crate::snapshot::SnapshotArguments;
use crate::tail::TailArguments;
use crate::topic::TopicArguments;
use crate::verify::VerifyArguments;

/// Weir, a persistent message broker: server, client and tools in one.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 refused, 5 unreachable or timeout, \
    6 conflict, 7 partial, 130 interrupted."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Broker to talk to, such as weir://127.0.0.1:7400?pin=sha256:… [default: the current context]
    #[arg(short = 's', long, global = true, env = "WEIR_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// Name to give the broker: it stands in its log, and quotas are kept by it [default: weir/VERSION]
    #[arg(long, global = true, env = "WEIR_CLIENT_NAME", value_name = "NAME", hide_env_values = true, value_parser = client_name)]
    pub(crate) client_name: Option<String>,
    /// Print JSON: one document for lists, one object per line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

fn client_name(text: &str) -> Result<String, String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("a name has at most {NAME_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker
    Serve(Box<ServeArguments>),
    /// Send records to a topic
    Send(Box<SendArguments>),
    /// Print the records of a topic
    Tail(Box<TailArguments>),
    /// List, make, show, change, trim and remove topics
    Topic(TopicArguments),
    /// List, show, set, move and remove consumer groups
    Group(GroupArguments),
    /// List, show, send again and remove records that consumer groups have given up
    Dlq(DlqArguments),
    /// Copy everything a running broker holds
    Snapshot(SnapshotArguments),
    /// Measure a broker, and check that it loses, duplicates and reorders nothing
    Bench(Box<BenchArguments>),
    /// Check a data directory that no broker is using
    Verify(VerifyArguments),
    /// Give up what is damaged, so that the rest can be served
    Repair(RepairArguments),
    /// Show what stands in the files of a data directory
    Dump(DumpArguments),
    /// Show what each producer and reader of a topic waits for, and since when
    Explain(ExplainArguments),
    /// Show what a broker remembers of idempotency keys
    Dedup(DedupArguments),
    /// Show how a broker would divide its memory, and whether what you need fits
    Plan(PlanArguments),
    /// Name the brokers you work with
    Ctx(CtxArguments),
    /// Show or check what 'weir serve' would run with
    Config(ConfigArguments),
    /// Print a completion script for a shell
    Completions(CompletionsArguments),
    /// Print the version of this program and of what it speaks
    Version,
    /// Write the manual pages
    #[command(hide = true)]
    Man(ManArguments),
}

/// Prints what clap has to say (help goes to stdout) and returns how to end.
pub(crate) fn explain(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.print().ok();
        return Exit::Usage;
    }
    if error.use_stderr() {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        crate::chatter(&format!("weir: {} {text}", Code::Usage.text()));
        return Exit::Usage;
    }
    // A reader that goes away while help is printed has seen enough.
    error.print().ok();
    Exit::Done
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }

    #[test]
    fn shared_options_may_stand_behind_the_command() {
        let arguments =
            Arguments::try_parse_from(["weir", "topic", "ls", "--json", "-s", "weir://h"]).unwrap();
        assert!(arguments.global.json);
        assert_eq!(arguments.global.url.as_deref(), Some("weir://h"));
    }

    #[test]
    fn every_command_of_the_manual_parses() {
        for line in [
            "serve --data-dir d --listen 127.0.0.1:0 -c weir.toml --log-level info --log-format json",
            "send orders hello -k user-42 -H a=1 -H b=2 --id pay-7",
            "send orders --file f --in json --rate 1k/s --timeout 30s --receipts --create",
            "send orders - --in raw --partition 3 --durability written --compression zstd",
            "tail orders --from -10 -n 5 -f %v\\n -p 0 -p 1,2",
            "tail orders --from 2026-11-20T10:00Z --to-end --json",
            "topic create orders --partitions 16 --retention 7d --retention-bytes 10GiB --batch-max 1MiB",
            "topic edit orders --retention none",
            "topic show orders",
            "topic trim orders --before 1000 --partition 3 --dry-run",
            "topic trim orders --before-time 2h --yes --json",
            "topic rm orders --yes",
            "tail orders -g billing --from earliest --member worker-1 --grace 30s --lease 5s",
            "group ls --json",
            "group show billing --topic orders",
            "group reset billing --to 2h --dry-run",
            "group reset billing --to @17 --partition 3",
            "group rm billing --yes",
            "snapshot create before-upgrade --json",
            "bench send --records 1000 --size 100 --producers 2 --partitions 4 --in-flight 4MiB --rate 1k/s",
            "bench tail --records 1000 --size 100",
            "bench e2e --records 1000 --size 100 --transport network --durability written --batch 64KiB",
            "verify dir --json",
            "verify dir --repair-plan",
            "repair dir --accept-loss journal:0..4096 orders/0:1..2",
            "dump dir/journal/0000.wal --records --json",
            "explain orders --json",
            "dedup show orders pay-7 -k user-42 --json",
            "dedup stats orders",
            "plan --memory 2GiB --connections 500 --subscriptions 10000 --partitions 1000 --json",
            "ctx add prod weir://h:7400",
            "config show --origin",
            "config check -c weir.toml",
            "completions zsh",
            "version --json",
        ] {
            let words = std::iter::once("weir").chain(line.split(' '));
            Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
