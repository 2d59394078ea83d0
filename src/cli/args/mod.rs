//! What was typed: the command line as clap reads it, with the environment's `ECR_PUSH_…` behind it.

mod clean;
mod doctor;
mod environment;
mod inspect;
mod push;
mod shared;

use std::ffi::OsString;

use clap::{Command, CommandFactory, FromArgMatches};

pub(crate) use self::clean::CleanArgs;
pub(crate) use self::doctor::DoctorArgs;
pub(crate) use self::inspect::InspectArgs;
pub(crate) use self::push::{CompressionArgs, CompressionKind, Progress, PushArgs, RepositoryArgs, Scan, Severity};
pub(crate) use self::shared::{AwsArgs, ConnectionArgs, Output};

/// A command, with its arguments.
#[derive(Debug)]
pub(crate) enum Typed {
    Push(Box<PushArgs>),
    Clean(Box<CleanArgs>),
    Doctor(Box<DoctorArgs>),
    Inspect(Box<InspectArgs>),
}

/// The commands that there are.
pub(crate) const NAMES: [&str; 3] = [CLEAN, "doctor", INSPECT];

/// The names of commands.
const CLEAN: &str = "clean";
const INSPECT: &str = "inspect";

/// The command line as clap knows it, for man pages.
#[must_use]
pub(crate) fn command() -> Command {
    PushArgs::command()
        .subcommand(CleanArgs::command())
        .subcommand(DoctorArgs::command())
        .subcommand(InspectArgs::command())
        .disable_help_subcommand(true)
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
}

/// Reads the command line, and the environment for options that aren't on it.
///
/// # Errors
/// With what clap says, which includes help and version.
pub(crate) fn parse(
    argv: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Typed, clap::Error> {
    let argv = joined(argv);
    let typed = command().try_get_matches_from(&argv)?;
    // Behind the name of the program, or of the command.
    let (at, from_environment) = match typed.subcommand() {
        Some((CLEAN, typed)) => {
            (2, environment::options(&CleanArgs::command().bin_name("ecr-push clean"), typed, environment)?)
        }
        Some((INSPECT, typed)) => {
            (2, environment::options(&InspectArgs::command().bin_name("ecr-push inspect"), typed, environment)?)
        }
        Some((_, typed)) => {
            (2, environment::options(&DoctorArgs::command().bin_name("ecr-push doctor"), typed, environment)?)
        }
        None => (1, environment::options(&PushArgs::command(), &typed, environment)?),
    };
    let (before, after) = argv.split_at(at.min(argv.len()));
    let with_environment = before.iter().cloned().chain(from_environment).chain(after.iter().cloned());
    let matches = command().try_get_matches_from(with_environment)?;
    match matches.subcommand() {
        Some((CLEAN, matches)) => {
            let typed = CleanArgs::from_arg_matches(matches)?;
            let source = unmasked(typed.source);
            Ok(Typed::Clean(Box::new(CleanArgs { source, ..typed })))
        }
        Some((INSPECT, matches)) => {
            let typed = InspectArgs::from_arg_matches(matches)?;
            let source = unmasked(typed.source);
            Ok(Typed::Inspect(Box::new(InspectArgs { source, ..typed })))
        }
        Some((_, matches)) => Ok(Typed::Doctor(Box::new(DoctorArgs::from_arg_matches(matches)?))),
        None => {
            let typed = PushArgs::from_arg_matches(&matches)?;
            let source = unmasked(typed.source);
            Ok(Typed::Push(Box::new(PushArgs { source, ..typed })))
        }
    }
}

/// `--wait-for-scan HIGH` as `--wait-for-scan=HIGH`: to clap the value of an option that may do without could as well be
/// SOURCE, and only what is a severity is one.
fn joined(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for word in argv {
        match joined.last_mut() {
            Some(last) if last == "--wait-for-scan" && word.to_str().is_some_and(push::is_severity) => {
                last.push("=");
                last.push(word);
            }
            _ => joined.push(masked(word)),
        }
    }
    joined
}

/// What stands for the `-` of standard input before a choice. No argument can hold it.
const MASK: &str = "\0";

/// Standard input with a choice, `-:REF` or `-@DIGEST`, as clap takes it for no option.
fn masked(word: OsString) -> OsString {
    match word.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(choice) if choice.starts_with([':', '@']) => OsString::from(format!("{MASK}{choice}")),
        _ => word,
    }
}

/// The same as it was typed.
fn unmasked(word: OsString) -> OsString {
    match word.to_str().and_then(|text| text.strip_prefix(MASK)) {
        Some(choice) => OsString::from(format!("-{choice}")),
        None => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_any(line: &str, environment: &[(&str, &str)]) -> Result<Typed, clap::Error> {
        let argv = std::iter::once("ecr-push").chain(line.split_whitespace()).map(OsString::from);
        parse(argv, |name| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn parse_with(line: &str, environment: &[(&str, &str)]) -> Result<PushArgs, clap::Error> {
        parse_any(line, environment).map(|typed| match typed {
            Typed::Push(args) => *args,
            typed => panic!("{typed:?}"),
        })
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
        assert!(args.cleanup && !args.connection.plain_http);
        assert_eq!((args.jobs, args.connection.retries, args.talk.verbose), (3, 5, 2));

        let args = parse_with("-q --tag x --jobs 9 src h.example/a", &environment).unwrap();
        assert_eq!(args.tags, ["x"]);
        assert_eq!((args.jobs, args.talk.verbose, args.talk.quiet), (9, 0, true));

        let args = parse_with("--cleanup=no --plain-http src h.example/a", &environment).unwrap();
        assert!(!args.cleanup && args.connection.plain_http);
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

    #[test]
    fn commands() {
        let Typed::Doctor(args) = parse_any("doctor h.example/a -v", &[("ECR_PUSH_RETRIES", "2")]).unwrap() else {
            panic!("that is the doctor");
        };
        assert_eq!((args.destination.as_str(), args.talk.verbose, args.connection.retries), ("h.example/a", 1, 2));
        assert_eq!(parse_with("./doctor h.example/a", &[]).unwrap().source, "./doctor");
        // What stands for an option of a push alone is no option of the doctor.
        assert!(parse_any("doctor h.example/a", &[("ECR_PUSH_TAG", "x")]).is_ok());
        assert!(parse_any("doctor", &[]).is_err());
    }

    #[test]
    fn standard_input() {
        let check = |line: &str, expected: &str| assert_eq!(parse_with(line, &[]).unwrap().source, expected, "{line}");
        check("- h.example/a", "-");
        check("-:v1 h.example/a", "-:v1");
        check("--cleanup -:h.example/team/app:v1 h.example/a", "-:h.example/team/app:v1");
        check("-@sha256:00 h.example/a -q", "-@sha256:00");
        check("-- -:v1 h.example/a", "-:v1");
        assert!(parse_with("-x h.example/a", &[]).is_err());
    }

    #[test]
    fn scans() {
        let check = |line: &str, expected| assert_eq!(parse_with(line, &[]).unwrap().wait_for_scan, expected, "{line}");
        check("src h.example/a", Scan::Off);
        check("--wait-for-scan src h.example/a", Scan::Any);
        check("--wait-for-scan HIGH src h.example/a", Scan::At(Severity::High));
        check("--wait-for-scan=low src h.example/a", Scan::At(Severity::Low));
        check("src h.example/a --wait-for-scan", Scan::Any);
        check("src h.example/a --wait-for-scan critical", Scan::At(Severity::Critical));
        assert!(parse_with("--wait-for-scan=huge src h.example/a", &[]).is_err());
        let from = |value| parse_with("src h.example/a", &[("ECR_PUSH_WAIT_FOR_SCAN", value)]).unwrap().wait_for_scan;
        assert_eq!((from("yes"), from("no"), from("Medium")), (Scan::Any, Scan::Off, Scan::At(Severity::Medium)));
    }
}
