//! `ecr-push doctor`.

use clap::{ArgAction, Parser};

use super::environment::switch;
use super::shared::{AwsArgs, ConnectionArgs, TalkArgs};

const AFTER: &str = "\
Every check is a line, and one that fails says how it is mended. Nothing is changed: the registry is asked, an upload \
session is opened and cancelled, and what is sent meanwhile is of a kind that can't be stored.

Exit status: 0 nothing stands in the way of a push; else that which the push would end with. What can't be seen \
beforehand is marked `unknown`.";

/// Says, check by check, whether a push to DESTINATION would work, and how to mend it.
#[derive(Debug, Parser)]
#[command(name = "doctor", after_long_help = AFTER)]
pub(crate) struct DoctorArgs {
    /// Where a push would go: HOST/REPOSITORY[:TAG]
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,

    /// Take it that the push is to make a missing repository
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) create_repository: bool,

    #[command(flatten)]
    pub(crate) aws: AwsArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    #[command(flatten)]
    pub(crate) talk: TalkArgs,
}
