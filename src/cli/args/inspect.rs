//! `ecr-push inspect`.

use std::ffi::OsString;

use clap::{ArgAction, Parser};

use super::environment::switch;
use super::shared::{ConnectionArgs, TalkArgs};

const AFTER: &str = "\
Nothing is changed, and no registry is asked. SOURCE is what a push takes; with a choice (DIR:NAME, DIR@sha256:DIGEST) it is \
that image alone, without one all of them.

Exit status: 0 every image that was looked at could be pushed; 2 the command line is wrong; 3 SOURCE is missing, or something is \
wrong with an image: the rest is shown all the same.";

/// Shows what is in SOURCE: every image, its digest, platforms, layers and sizes, and what is wrong with it
#[derive(Debug, Parser)]
#[command(name = "inspect", after_long_help = AFTER)]
pub(crate) struct InspectArgs {
    /// Where the images are: DIR, FILE, - or docker-daemon:NAME
    #[arg(value_name = "SOURCE")]
    pub(crate) source: OsString,

    /// Blobs may be symbolic links that lead out of the layout
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) follow_symlinks: bool,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    #[command(flatten)]
    pub(crate) talk: TalkArgs,
}
