//! What `cargo xtask bench` may be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use local_ecr::Link;

use super::tool::Tool;

/// What is to be measured.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Images
    #[arg(long, value_enum, value_delimiter = ',', default_value = "small,typical")]
    pub(crate) layout: Vec<Shape>,
    /// What the registry has already
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cold")]
    pub(crate) scenario: Vec<Scenario>,
    /// How far away the registry is
    #[arg(long, value_enum, value_delimiter = ',', default_value = "loopback,wan")]
    pub(crate) line: Vec<Line>,
    /// Registries
    #[arg(long, value_enum, value_delimiter = ',', default_value = "local-ecr")]
    pub(crate) server: Vec<ServerKind>,
    /// Speak TLS; the floor never does
    #[arg(long)]
    pub(crate) tls: bool,
    /// Who pushes: ecr-push, crane, skopeo, regctl, oras, podman, docker, floorN (N lanes), or NAME=PATH for another
    /// build of ecr-push [default: all that are there]. ecr-push and skopeo have -oci-archive, -docker-archive and -engine
    /// behind their names for what else they push from
    #[arg(long, value_delimiter = ',', value_parser = Tool::parse)]
    pub(crate) tool: Vec<Tool>,
    /// Runs that count, for each; one more is made before them and doesn't
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Append each run's figures to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// An image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// 5 layers of 1 MiB
    Small,
    /// 8 layers, 400 MB in all
    Typical,
    /// 100 layers of 200 KiB
    Many,
    /// 2 platforms with 5 layers of 20 MiB each, of which they share 2
    Multi,
    /// 16 layers of 25 MB, then one of 150 MB
    Late,
    /// 2 layers of 2 GiB
    Large,
}

/// What the registry has when the push begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Nothing
    Cold,
    /// The same image under the same tag
    Warm,
    /// The image as it was before its last layer changed
    #[value(name = "onelayer")]
    OneLayer,
}

/// What lies between client and registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Line {
    /// Nothing
    Loopback,
    /// 20 ms and 1 Gbit/s
    Wan,
    /// 20 ms, 35 MB/s for each connection, 5 Gbit/s in all
    Ecr,
}

impl Line {
    /// As local-ecr imitates it.
    pub(crate) fn link(self) -> Option<Link> {
        let link = |connection_rate, total_rate| {
            Some(Link { rtt: Duration::from_millis(20), connection_rate, total_rate: Some(total_rate) })
        };
        match self {
            Self::Loopback => None,
            Self::Wan => link(None, 125_000_000),
            Self::Ecr => link(Some(35_000_000), 625_000_000),
        }
    }
}

/// A registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    /// The imitation of ECR in this workspace
    LocalEcr,
    /// Debian's docker-registry
    DockerRegistry,
}

/// As it is typed.
pub(crate) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn parse(typed: &str) -> Result<Args, clap::Error> {
        Typed::try_parse_from(["bench"].into_iter().chain(typed.split_whitespace())).map(|typed| typed.args)
    }

    #[test]
    fn has_defaults_that_end_soon() {
        let args = parse("").unwrap();
        assert_eq!(args.layout, [Shape::Small, Shape::Typical]);
        assert_eq!(args.scenario, [Scenario::Cold]);
        assert_eq!(args.line, [Line::Loopback, Line::Wan]);
        assert_eq!(args.server, [ServerKind::LocalEcr]);
        assert!(args.tool.is_empty() && !args.tls);
        assert_eq!(args.runs, 3);
    }

    #[test]
    fn takes_lists() {
        let args = parse("--layout late,large --scenario warm,onelayer --line ecr --server docker-registry,local-ecr");
        let args = args.unwrap();
        assert_eq!(args.layout, [Shape::Late, Shape::Large]);
        assert_eq!(args.scenario, [Scenario::Warm, Scenario::OneLayer]);
        assert_eq!(args.line, [Line::Ecr]);
        assert_eq!(args.server, [ServerKind::DockerRegistry, ServerKind::LocalEcr]);
        let names = |typed| parse(typed).unwrap().tool.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
        assert_eq!(names("--tool ecr-push,floor16 --tool before=/tmp/ecr-push"), ["ecr-push", "floor16", "before"]);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for typed in ["--layout huge", "--line moon", "--runs 0", "--tool kaniko", "--tool floor0", "--tool =x"] {
            assert!(parse(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn lines_are_as_they_are_said_to_be() {
        let check = |line: Line, expected: Option<(Option<u64>, u64)>| {
            let found = line.link().map(|link| (link.connection_rate, link.total_rate.unwrap_or_default()));
            assert_eq!(found, expected, "{line:?}");
        };
        check(Line::Loopback, None);
        check(Line::Wan, Some((None, 1_000_000_000 / 8)));
        check(Line::Ecr, Some((Some(35_000_000), 5_000_000_000 / 8)));
    }
}
