//! `ecr-push clean`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgAction, Parser};

use super::environment::switch;
use super::shared::{ConnectionArgs, TalkArgs};

const EXAMPLES: &str = "\
Examples:
  ecr-push clean ./out:v1
      remove the image called v1 from the OCI image layout ./out, and what it alone needs

  ecr-push clean --keep 5 --older-than 7d ./out
      remove all names but the five newest, if they are older than a week

  ecr-push clean --dry-run --prune-orphans 1d ./out
      say how much space blobs take that nothing names, and that nobody has touched for a day

  ecr-push clean docker-daemon:app:v1
      what `docker rmi app:v1` does";

const AFTER: &str = "\
Nobody asks whether the image is anywhere else: that is what a push with --cleanup is for. An OCI image layout loses the name, \
or with DIR@sha256:DIGEST or no choice all names of the image; then the blobs that no other image needs; then the folder, if \
nothing else is in it. An archive is removed if no other image is in it, an engine's image as `docker rmi` would, without force. \
With --keep, --older-than or --prune-orphans and no choice the layout is kept in order instead: of the names those go that both \
--keep and --older-than let go, and without these two no image at all.

A clean-up that was cut short is ended by the next one of that layout; where SOURCE chooses none, that is all that happens. Another \
ecr-push that uses the layout is waited for, ten times --timeout at most. What refers to the image and has a name of its own \
stays.

Standard output has a line for each name that went, or would go. Every option can be given as ECR_PUSH_<OPTION> in the \
environment. --ca-file and the timeouts are for an engine behind a port.

Exit status: 0 done, or nothing to do; 2 the command line is wrong; 3 SOURCE is missing or malformed; 7 something is left, and \
named; 130, 143 interrupted.";

/// Removes an image from SOURCE without a push
#[derive(Debug, Parser)]
#[command(name = "clean", before_long_help = EXAMPLES, after_long_help = AFTER)]
pub(crate) struct CleanArgs {
    /// Where the image is: DIR, FILE or docker-daemon:NAME; one image of several is chosen with :NAME or @sha256:DIGEST behind it
    #[arg(value_name = "SOURCE")]
    pub(crate) source: OsString,

    /// Say what would go and how much space would come back, and change nothing
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) dry_run: bool,

    /// Of all names of the layout keep the newest N, by the time at which their manifest was written, and remove the others
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,

    /// Of all names of the layout remove those whose manifest has not changed for so long: 12h, 7d, 2w
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<Duration>,

    #[command(flatten)]
    pub(crate) orphans: OrphanArgs,

    /// Files of the layout may be symbolic links that lead out of it; the links go, what they lead to stays
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) follow_symlinks: bool,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    #[command(flatten)]
    pub(crate) talk: TalkArgs,
}

/// Blobs that nothing names.
#[derive(Debug, clap::Args)]
pub(crate) struct OrphanArgs {
    /// Remove blobs of the layout that nothing names, too, if they have not changed for so long: 1d, 12h. A builder writes its
    /// blobs before it names them, so AGE has to be longer than any build takes
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) prune_orphans: Option<Duration>,
}

/// Reads an age.
fn age(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "a number with its unit is wanted, such as 90m, 12h, 7d or 2w".to_owned())
}
