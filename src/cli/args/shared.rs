//! What every command takes: AWS, the connection, and how it talks.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::environment::switch;

/// What standard output gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Lines of text
    Text,
    /// One JSON document
    Json,
}

/// Who we are to AWS, and where it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Amazon ECR")]
pub(crate) struct AwsArgs {
    /// Profile of the AWS config files, for all ECR hosts or for one
    #[arg(long = "profile", value_name = "[HOST=]NAME")]
    pub(crate) profiles: Vec<String>,

    /// Role to assume, for all ECR hosts or for one
    #[arg(long = "role-arn", value_name = "[HOST=]ARN")]
    pub(crate) role_arns: Vec<String>,

    /// External id that the role's trust policy asks for
    #[arg(long = "external-id", value_name = "[HOST=]ID")]
    pub(crate) external_ids: Vec<String>,

    /// Name of the role's session in AWS's logs; else that in `AWS_ROLE_SESSION_NAME`, else `ecr-push`
    #[arg(long = "role-session-name", value_name = "[HOST=]NAME")]
    pub(crate) role_session_names: Vec<String>,

    /// Region for hosts that name none (ECR Public: where roles are assumed); a host's own region always counts
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,

    /// Where ECR's API is reached, when that is not AWS's own endpoint
    #[arg(long = "endpoint-url", value_name = "[HOST=]URL")]
    pub(crate) endpoint_urls: Vec<String>,
}

/// How registries are reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Where the registry is reached, when that is not `https://HOST` (a VPC endpoint's own name); repeatable
    #[arg(long = "registry-endpoint", value_name = "[HOST=]URL")]
    pub(crate) registry_endpoints: Vec<String>,

    /// Trust the certificate authorities in this PEM file, too; repeatable
    #[arg(long = "ca-file", value_name = "FILE")]
    pub(crate) ca_files: Vec<PathBuf>,

    /// Plain http to registries other than ECR; without it a loopback host is tried with https, then http
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) plain_http: bool,

    /// Seconds to wait for a connection
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) connect_timeout: u64,

    /// Seconds to wait for an answer, or for a byte of an upload to move
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) timeout: u64,

    /// How often something transient is tried again; a cut upload that got on meanwhile begins to count anew
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) retries: u32,
}

/// How much it says, and in which form.
#[derive(Debug, Args)]
pub(crate) struct TalkArgs {
    /// What standard output gets
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,

    /// More on standard error: each request
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Less on standard error: errors only
    #[arg(short, long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true,
          conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}
