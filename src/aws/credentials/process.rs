//! Which profile's process it is that was to give credentials. The SDK's error doesn't say, but for a text in which the
//! process's own words are.

use std::borrow::Cow;

use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};

/// The profile whose `credential_process` is run for `profile`: its own, or that of a profile that it builds on.
pub(super) async fn of(profile: Option<&String>) -> Option<String> {
    let named = profile.cloned().map(Cow::Owned);
    let profiles =
        aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), named).await.ok()?;
    let mut name = profiles.selected_profile();
    // No chain of profiles is longer than all of them.
    for _ in profiles.profiles() {
        let profile = profiles.get_profile(name)?;
        match profile.get("role_arn").and_then(|_| profile.get("source_profile")) {
            Some(below) if below != name => name = below,
            _ => return profile.get("credential_process").map(|_| name.to_owned()),
        }
    }
    None
}
