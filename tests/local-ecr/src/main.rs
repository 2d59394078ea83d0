//! Serves an imitation of ECR until standard input ends.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use clap::Parser;
use local_ecr::{LocalEcr, MissingRepository, StartError};

/// An imitation of Amazon ECR on loopback ports. Runs until standard input ends.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Port of the API [default: any]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    api_port: u16,
    /// Port of the registry [default: any]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// A repository to have; without any, each is made by the first push to it
    #[arg(long = "repository", value_name = "NAME")]
    repositories: Vec<String>,
    /// Account of the registry
    #[arg(long, default_value = "123456789012")]
    account: String,
    /// Region of the registry
    #[arg(long, default_value = "ap-northeast-2")]
    region: String,
    /// Print each request to standard error
    #[arg(long)]
    journal: bool,
}

fn main() -> Result<ExitCode, StartError> {
    let arguments = Arguments::parse();
    let mut builder = LocalEcr::builder()
        .account(&arguments.account)
        .region(&arguments.region)
        .port(arguments.port)
        .api_port(arguments.api_port)
        .allow_pull();
    if arguments.repositories.is_empty() {
        builder = builder.missing_repository(MissingRepository::CreateOnPush);
    }
    let ecr = arguments.repositories.iter().fold(builder, |builder, name| builder.repository(name)).start()?;
    if arguments.journal {
        // Whoever closed standard error doesn't want to know.
        ecr.on_answer(|entry| _ = writeln!(io::stderr(), "{entry}"));
    }
    // A closed standard output is no reason to end either: the ports may be known already.
    let _ = announce(&ecr);
    // Reads until the end: whoever started this may write what they like.
    let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());

    let Err(found) = ecr.check() else {
        return Ok(ExitCode::SUCCESS);
    };
    for violation in found {
        let _ = writeln!(io::stderr(), "violation: {violation}");
        ecr.expect_violation(violation.kind());
    }
    Ok(ExitCode::FAILURE)
}

/// Lines that a shell can evaluate.
fn announce(ecr: &LocalEcr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, value) in ecr.environment() {
        writeln!(out, "{name}={value}")?;
    }
    writeln!(out, "LOCAL_ECR_REGISTRY={}", ecr.registry_url())?;
    writeln!(out, "LOCAL_ECR_HOST={}", ecr.host())?;
    writeln!(out, "LOCAL_ECR_PASSWORD={}", ecr.issue_password())?;
    out.flush()
}
