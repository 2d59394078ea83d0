//! Which profile it is that was to give credentials, and whose process it runs. The SDK's errors don't say, but for a text
//! in which the process's own words are.

use std::borrow::Cow;

use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};

/// A profile that the SDK asked.
#[derive(Debug)]
pub(super) struct Selected {
    /// Its name.
    pub(super) name: String,
    /// The profile whose `credential_process` is run for it: its own, or that of a profile that it builds on.
    pub(super) process: Option<String>,
}

/// The profile that the SDK asks where `profile` is what was named; none if the config files can't be read.
pub(super) async fn selected(profile: Option<&String>) -> Option<Selected> {
    let named = profile.cloned().map(Cow::Owned);
    let profiles =
        aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), named).await.ok()?;
    let name = profiles.selected_profile();
    let mut last = name;
    // No chain of profiles is longer than all of them.
    for _ in profiles.profiles() {
        let profile = profiles.get_profile(last);
        let below = profile.filter(|profile| profile.get("role_arn").is_some());
        match below.and_then(|profile| profile.get("source_profile")) {
            Some(below) => last = below,
            None => break,
        }
    }
    let runs = profiles.get_profile(last).is_some_and(|profile| profile.get("credential_process").is_some());
    Some(Selected { name: name.to_owned(), process: runs.then(|| last.to_owned()) })
}
