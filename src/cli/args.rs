//! What was typed: the command line as clap reads it, with the environment's `ECR_PUSH_…` behind it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, Command, CommandFactory, FromArgMatches, Parser, ValueEnum};

/// The prefix of the environment variables that stand for options.
const PREFIX: &str = "ECR_PUSH_";

const EXAMPLES: &str = "\
Examples:
  ecr-push ./out 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1
      push the image in the OCI image layout ./out

  ecr-push --cleanup ./out:v1 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1 --tag latest
      push the one called v1 under two tags, verify it, then remove it from ./out

  IMAGE=$(ecr-push ./out 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1)
      standard output is the digest reference, and nothing else";

const AFTER: &str = "\
Every option can be given as ECR_PUSH_<OPTION> in the environment (ECR_PUSH_TAG, ECR_PUSH_REGISTRY_ENDPOINT, …); the
command line wins. Empty means unset, switches are true/1/yes or false/0/no, lists are split on white space.

Exit status: 0 done; 1 a bug; 2 the command line is wrong; 3 SOURCE is missing, malformed or corrupt; 4 no credentials or
no permission; 5 the destination refused; 6 network or registry unavailable; 7 pushed, but clean-up could not finish;
130, 143 interrupted.";

/// What standard output gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A line HOST/REPOSITORY@DIGEST for each destination
    Text,
    /// One JSON document
    Json,
}

/// What standard error gets while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Bars on a terminal, plain lines elsewhere
    Auto,
    /// Bars
    Bar,
    /// Lines
    Plain,
    /// Nothing but warnings and errors
    None,
}

/// Puts a container image that is on this machine into Amazon ECR, verifies it, and frees the disk afterwards.
#[derive(Debug, Parser)]
#[command(
    name = "ecr-push",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ECR_PUSH_COMMIT"), ", ", env!("ECR_PUSH_TARGET"), ")"),
    before_long_help = EXAMPLES,
    after_long_help = AFTER,
    max_term_width = 110
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Args {
    /// The image: an OCI image layout folder DIR, or one image in it as DIR:NAME or DIR@sha256:DIGEST
    #[arg(value_name = "SOURCE")]
    pub(crate) source: OsString,

    /// Where it goes: HOST/REPOSITORY[:TAG][@DIGEST]; without TAG, --tag and DIGEST the tag is `latest`
    #[arg(value_name = "DESTINATION", required = true)]
    pub(crate) destinations: Vec<String>,

    /// One more tag in every destination; repeatable
    #[arg(short, long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Remove the image from SOURCE once every destination is verified
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) cleanup: bool,

    /// Leave out signatures, SBOMs and attestations in SOURCE that refer to the image
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) no_referrers: bool,

    /// Allow blobs that are symbolic links out of the layout; clean-up removes the links only
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) follow_symlinks: bool,

    /// Blobs in flight at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,

    /// Write the lines of `--output text` to this file, too, when the push succeeded
    #[arg(long, value_name = "FILE")]
    pub(crate) digest_file: Option<PathBuf>,

    /// What standard output gets
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = false)]
    pub(crate) output: Output,

    /// What standard error gets while it works
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) progress: Progress,

    /// More on standard error: each request
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Less on standard error: errors only
    #[arg(short, long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Profile of the AWS config files, for all ECR hosts or for one
    #[arg(long = "profile", value_name = "[HOST=]NAME", help_heading = "Amazon ECR")]
    pub(crate) profiles: Vec<String>,

    /// Where ECR's API is reached, when that is not AWS's own endpoint
    #[arg(long = "endpoint-url", value_name = "[HOST=]URL", help_heading = "Amazon ECR")]
    pub(crate) endpoint_urls: Vec<String>,

    /// Where the registry is reached, when that is not `https://HOST` (a VPC endpoint's own name); repeatable
    #[arg(long = "registry-endpoint", value_name = "[HOST=]URL", help_heading = "Connection")]
    pub(crate) registry_endpoints: Vec<String>,

    /// Trust the certificate authorities in this PEM file, too; repeatable
    #[arg(long = "ca-file", value_name = "FILE", help_heading = "Connection")]
    pub(crate) ca_files: Vec<PathBuf>,

    /// Plain http to registries other than ECR; without it a loopback host is tried with https, then http
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true, help_heading = "Connection")]
    pub(crate) plain_http: bool,

    /// Seconds to wait for a connection
    #[arg(long, value_name = "SECONDS", default_value_t = 10, help_heading = "Connection",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) connect_timeout: u64,

    /// Seconds to wait for an answer, or for a byte of an upload to move
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Connection",
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) timeout: u64,

    /// How often something transient is tried again
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Connection",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) retries: u32,
}

/// The command line as clap knows it, for man pages.
#[must_use]
pub(crate) fn command() -> Command {
    Args::command()
}

/// Reads the command line, and the environment for options that aren't on it.
///
/// # Errors
/// With what clap says, which includes help and version.
pub(crate) fn parse(
    argv: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Args, clap::Error> {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let matches = command().try_get_matches_from(&argv)?;
    let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let mut from_environment = Vec::new();
    for arg in command().get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        let name = format!("{PREFIX}{}", long.to_uppercase().replace('-', "_"));
        let Some(value) = environment(&name).filter(|value| !value.is_empty()) else { continue };
        // `-q` on the command line has to win over ECR_PUSH_VERBOSE, too, and not to quarrel with it.
        let rival = match arg.get_id().as_str() {
            "quiet" => "verbose",
            "verbose" => "quiet",
            id => id,
        };
        if typed(arg.get_id().as_str()) || typed(rival) {
            continue;
        }
        from_environment.extend(tokens(arg, long, &name, &value)?);
    }
    let with_environment = argv.iter().take(1).cloned().chain(from_environment).chain(argv.iter().skip(1).cloned());
    let matches = command().try_get_matches_from(with_environment)?;
    Args::from_arg_matches(&matches)
}

/// An environment variable's value as it would be typed, tried on its own so that the error can name the variable.
fn tokens(arg: &clap::Arg, long: &str, name: &str, value: &OsString) -> Result<Vec<OsString>, clap::Error> {
    let wrong =
        |text: &str| command().error(ErrorKind::InvalidValue, format!("the environment variable {name}: {text}"));
    let option = |value: &str| OsString::from(format!("--{long}={value}"));
    let text = value.to_str().ok_or_else(|| wrong("it is not UTF-8"))?;
    let tokens: Vec<OsString> = match arg.get_action() {
        ArgAction::Count => {
            let count = match (switch(text), text.parse()) {
                (_, Ok(count)) => count,
                (Ok(on), _) => u8::from(on),
                (Err(error), Err(_)) => return Err(wrong(&error)),
            };
            vec![format!("--{long}").into(); usize::from(count)]
        }
        ArgAction::Append => text.split_whitespace().map(option).collect(),
        _ => vec![option(text)],
    };
    let whole =
        ["ecr-push".into()].into_iter().chain(tokens.iter().cloned()).chain(["./x".into(), "h.example/x".into()]);
    command().try_get_matches_from(whole).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        wrong(first.strip_prefix("error: ").unwrap_or(first))
    })?;
    Ok(tokens)
}

/// Reads a switch's value.
fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(format!("{text:?} is neither true/1/yes nor false/0/no")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(line: &str, environment: &[(&str, &str)]) -> Result<Args, clap::Error> {
        let argv = std::iter::once("ecr-push").chain(line.split_whitespace()).map(OsString::from);
        parse(argv, |name| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn environment_stands_behind_the_command_line() {
        let environment = [
            ("ECR_PUSH_TAG", "a b\tc"),
            ("ECR_PUSH_CLEANUP", "Yes"),
            ("ECR_PUSH_PLAIN_HTTP", "0"),
            ("ECR_PUSH_JOBS", "3"),
            ("ECR_PUSH_RETRIES", ""),
            ("ECR_PUSH_VERBOSE", "2"),
        ];
        let args = parse_with("src h.example/a", &environment).unwrap();
        assert_eq!(args.tags, ["a", "b", "c"]);
        assert!(args.cleanup && !args.plain_http);
        assert_eq!((args.jobs, args.retries, args.verbose), (3, 5, 2));

        let args = parse_with("-q --tag x --jobs 9 src h.example/a", &environment).unwrap();
        assert_eq!(args.tags, ["x"]);
        assert_eq!((args.jobs, args.verbose, args.quiet), (9, 0, true));

        let args = parse_with("--cleanup=no --plain-http src h.example/a", &environment).unwrap();
        assert!(!args.cleanup && args.plain_http);
    }

    #[test]
    fn wrong_environment() {
        let check = |name: &str, value: &str| {
            let error = parse_with("src h.example/a", &[(name, value)]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(name), "{error}");
        };
        check("ECR_PUSH_CLEANUP", "maybe");
        check("ECR_PUSH_JOBS", "many");
        check("ECR_PUSH_JOBS", "0");
        check("ECR_PUSH_OUTPUT", "xml");
    }
}
