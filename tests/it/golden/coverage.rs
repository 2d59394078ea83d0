//! No kind of failure is forgotten: each has a case, or a reason why it can't have one.

use std::collections::BTreeSet;

use ecr_push::auth::AuthError;
use ecr_push::aws::credentials::CredentialsFailure;
use ecr_push::aws::denial::Policy;
use ecr_push::aws::failure::{ApiError, AwsMeaning};
use ecr_push::aws::token::TokenError;
use ecr_push::push::PushError;
use ecr_push::registry::failure::{Meaning, Network, Oddity, RegistryError};
use ecr_push::scan::ScanError;
use ecr_push::source::platforms::PlatformError;

/// The names of an enum's variants. A variant that is added to the enum and not to the list doesn't compile.
macro_rules! names {
    ($($type:ident { $($variant:ident),* $(,)? })*) => {{
        $({
            let _exhaustive = |value: &$type| match value { $($type::$variant { .. } => {})* };
        })*
        [$($(concat!(stringify!($type), "::", stringify!($variant))),*),*]
    }};
}

/// What no case can show, and why.
const NO_CASE: [(&str, &str); 8] = [
    ("AwsMeaning::ImageMissing", "what was just pushed is waited for longer than a case may last"),
    ("AwsMeaning::Unsupported", "only who starts a scan is told so, and then a scan is waited for as long"),
    ("AwsMeaning::RepositoryExists", "a repository that is there already is what was wanted"),
    ("RegistryError::Client", "the HTTP client can always be made"),
    ("Oddity::NoPlace", "there is always a place to ask"),
    ("Oddity::Early", "local-ecr reads what it is sent before it answers"),
    ("Oddity::Body", "an answer of that size is nothing to keep"),
    ("AuthError::Unreadable", "the tests run as root, to whom every file is open"),
];

#[test]
fn every_kind_of_failure_has_a_case() {
    let all = names! {
        AwsMeaning {
            Denied, Expired, Unknown, Signature, ClockSkew, RegionDisabled, Throttled, Unavailable, RepositoryMissing,
            RepositoryExists, Quota, Kms, ImageMissing, ImageArchived, NotScanned, Unsupported, Invalid, Refused,
        }
        ApiError { Answered, Odd, Unreachable, Nameless }
        CredentialsFailure { None, Slow, Answered, Odd, Nameless, Unreachable, Process, Login, Broken }
        TokenError { Aws, Empty }
        Policy {
            Identity, Resource, ServiceControl, ResourceControl, VpcEndpoint, Boundary, Session, Unsaid,
        }
        Meaning {
            Unauthenticated, TokenExpired, Denied, RepositoryMissing, TagImmutable, SessionLost, UploadRefused,
            ReferenceMissing, DigestRefused, TooLarge, Kms, Quota, ImageArchived, RateLimited, Unavailable, NotFound,
            Refused,
        }
        Network { Name, Connect, Tls, NotTls, Closed, Timeout }
        Oddity { NoLocation, InsecureLocation, NoPlace, Page, Redirects, OtherDigest, Body, Early }
        RegistryError { Answered, Unreachable, Shut, Stalled, Persistent, Odd, Auth, Client }
        AuthError { Token, Config, Unreadable, Slow, Helper, Realm, RealmUnreachable, RealmForeign, RealmInsecure }
        ScanError { Aws, Off, Slow, Unsupported, Failed, Found }
        PlatformError { Missing, Ambiguous }
        PushError { Registry, Uploads, Upload, TagImmutable, Create, Layers, TooLarge, TagMoved, NotThere }
    };
    let shown: BTreeSet<String> = super::cases().into_values().flat_map(|case| case.covers).collect();
    let excused = |name: &str| NO_CASE.iter().any(|(other, _)| *other == name);
    let missing: Vec<&str> = all.into_iter().filter(|name| !shown.contains(*name) && !excused(name)).collect();
    assert!(missing.is_empty(), "these have no case: {missing:?}");
    let excused_in_vain: Vec<_> = NO_CASE.iter().filter(|(name, _)| shown.contains(*name)).collect();
    assert!(excused_in_vain.is_empty(), "these have a case after all: {excused_in_vain:?}");
    let known = |name: &&String| all.contains(&name.as_str()) || name.starts_with("SettingsError::");
    let unknown: Vec<_> = shown.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "there are no such kinds: {unknown:?}");
}
