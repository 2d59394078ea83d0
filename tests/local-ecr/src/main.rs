//! Serves an imitation of ECR until standard input ends.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use local_ecr::{Link, LocalEcr, MissingRepository, StartError};

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
    /// Speak TLS, with a certificate of an authority that is made for this run
    #[arg(long)]
    tls: bool,
    /// Offer HTTP/2 as well
    #[arg(long, requires = "tls")]
    http2: bool,
    /// Be as far away as a round trip of so many milliseconds
    #[arg(long, value_name = "MS")]
    rtt: Option<u64>,
    /// Carry at most so many megabits per second in each direction
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    mbit: Option<u64>,
    /// Carry at most so many megabits per second on each connection
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    conn_mbit: Option<u64>,
    /// Print each request to standard error
    #[arg(long)]
    journal: bool,
}

impl Arguments {
    /// The line to put before the server, if any of it was asked for.
    fn link(&self) -> Option<Link> {
        let rate = |mbit: Option<u64>| mbit.map(|mbit| mbit * 125_000);
        let link = Link {
            rtt: Duration::from_millis(self.rtt.unwrap_or_default()),
            connection_rate: rate(self.conn_mbit),
            total_rate: rate(self.mbit),
        };
        (link != Link::default()).then_some(link)
    }
}

fn main() -> Result<ExitCode, StartError> {
    let arguments = Arguments::parse();
    let mut builder = LocalEcr::builder()
        .account(&arguments.account)
        .region(&arguments.region)
        .port(arguments.port)
        .api_port(arguments.api_port)
        .tls(arguments.tls)
        .http2(arguments.http2)
        .allow_pull();
    if let Some(link) = arguments.link() {
        builder = builder.link(link);
    }
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
    if let Some(file) = ecr.ca_file() {
        writeln!(out, "LOCAL_ECR_CA_FILE={}", file.display())?;
    }
    out.flush()
}
