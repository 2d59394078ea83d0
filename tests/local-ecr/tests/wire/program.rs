//! The binary: what it says at its start is enough to use it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Starts it, ends its input, and gives what it said.
fn announced(arguments: &[&str]) -> BTreeMap<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local-ecr"));
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("it starts");
    child.stdin.take().expect("it is piped").write_all(b"").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

#[test]
fn it_says_where_it_is_and_whom_to_trust() {
    let plain = announced(&["--rtt", "5"]);
    assert!(plain["LOCAL_ECR_REGISTRY"].starts_with("http://127.0.0.1:"));
    assert!(!plain.contains_key("LOCAL_ECR_CA_FILE"));
    let tls = announced(&["--tls", "--http2", "--rtt", "1", "--mbit", "1000", "--conn-mbit", "300"]);
    assert!(tls["LOCAL_ECR_REGISTRY"].starts_with("https://127.0.0.1:"));
    assert!(tls["AWS_ENDPOINT_URL_ECR"].starts_with("https://127.0.0.1:"));
    assert_eq!(tls["LOCAL_ECR_CA_FILE"], tls["AWS_CA_BUNDLE"]);
}
