//! The environment's `ECR_PUSH_…`, as if it stood on the command line behind everything that was typed.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};

/// The prefix of the environment variables that stand for options.
const PREFIX: &str = "ECR_PUSH_";

/// The options of `command` that the environment sets and `typed` hasn't.
pub(super) fn options(
    command: &Command,
    typed: &ArgMatches,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<OsString>, clap::Error> {
    let is_typed = |id: &str| typed.value_source(id) == Some(ValueSource::CommandLine);
    let mut found = Vec::new();
    for arg in command.get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        let name = format!("{PREFIX}{}", long.to_uppercase().replace('-', "_"));
        let Some(value) = environment(&name).filter(|value| !value.is_empty()) else { continue };
        // `-q` on the command line has to win over ECR_PUSH_VERBOSE, too, and not to quarrel with it.
        let rival = match arg.get_id().as_str() {
            "quiet" => "verbose",
            "verbose" => "quiet",
            id => id,
        };
        if is_typed(arg.get_id().as_str()) || is_typed(rival) {
            continue;
        }
        found.extend(tokens(command, arg, long, &name, &value)?);
    }
    Ok(found)
}

/// An environment variable's value as it would be typed, tried on its own so that the error can name the variable.
fn tokens(
    command: &Command,
    arg: &clap::Arg,
    long: &str,
    name: &str,
    value: &OsString,
) -> Result<Vec<OsString>, clap::Error> {
    let wrong =
        |text: &str| command.clone().error(ErrorKind::InvalidValue, format!("the environment variable {name}: {text}"));
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
    let alone = command.clone().ignore_errors(false).mut_args(|arg| arg.required(false));
    let whole = ["ecr-push".into()].into_iter().chain(tokens.iter().cloned());
    alone.try_get_matches_from(whole).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        wrong(first.strip_prefix("error: ").unwrap_or(first))
    })?;
    Ok(tokens)
}

/// Reads a switch's value.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(format!("{text:?} is neither true/1/yes nor false/0/no")),
    }
}
