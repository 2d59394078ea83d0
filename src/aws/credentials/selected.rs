//! Which profile it is that was to give credentials, and whose process it runs. The SDK's errors don't say, but for a text
//! in which the process's own words are.

use std::borrow::Cow;

use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};

use super::Place;

/// A profile that the SDK asked.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// Its name; none where the place is no profile, or nothing is known of it.
    pub(super) name: Option<String>,
    /// The profile whose `credential_process` is run for it: its own, or that of a profile that it builds on.
    pub(super) process: Option<String>,
    /// The one among these that `aws login` has written.
    pub(super) login: Option<String>,
    /// The one among these that IAM Identity Center gives credentials to, and the region of that.
    pub(super) sso: Option<(String, String)>,
}

/// The profile that the SDK asks where `profile` is what was named.
pub(super) async fn selected(place: Place, profile: Option<&String>) -> Selected {
    if place != Place::Profile {
        return Selected::default();
    }
    let named = profile.cloned().map(Cow::Owned);
    let files = EnvConfigFiles::default();
    let Ok(profiles) = aws_config::profile::load(&Fs::real(), &Env::real(), &files, named).await else {
        return Selected { name: profile.cloned(), ..Selected::default() };
    };
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
    let get = |key| profiles.get_profile(last).and_then(|profile| profile.get(key));
    let has = |key| get(key).map(|_| last.to_owned());
    let session = get("sso_session").and_then(|name| profiles.sso_session(name));
    let sso = session.and_then(|session| session.get("sso_region")).or_else(|| get("sso_region"));
    Selected {
        name: Some(name.to_owned()),
        process: has("credential_process"),
        login: has("login_session"),
        sso: sso.map(|region| (last.to_owned(), region.to_owned())),
    }
}
