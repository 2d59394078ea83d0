//! How engines spell images' names. Pure.

/// How many names like a missing one are told.
const SIMILAR: usize = 10;

/// What docker puts before a name without a host.
const DOCKER_HUB: &str = "docker.io";

/// What Podman puts before one.
pub(in crate::source) const LOCALHOST: &str = "localhost";

/// The one of an engine's `names` for an image that `typed` stands for, spelled as the engine does.
///
/// A name without a tag means `latest`. One without a host is Docker Hub's to docker, `localhost`'s to Podman where there is
/// such a name.
#[must_use]
pub fn spelled<'a>(typed: &str, names: &'a [String]) -> Option<&'a str> {
    let wanted = full(typed)?;
    let find = |wanted: &str| names.iter().find(|name| full(name).is_some_and(|name| name == wanted));
    let local = (!has_host(typed)).then(|| full(&format!("{LOCALHOST}/{typed}"))).flatten();
    local.and_then(|local| find(&local)).or_else(|| find(&wanted)).map(String::as_str)
}

/// Whether `typed` may be the beginning of an image's ID: hexadecimal digits, `sha256:` before them or not.
pub(super) fn is_id(typed: &str) -> bool {
    let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
    !hex.is_empty() && hex.len() <= 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `id` begins as `typed` does.
pub(super) fn begins(id: &str, typed: &str) -> bool {
    let hex = |id: &'_ str| id.strip_prefix("sha256:").unwrap_or(id).to_owned();
    hex(id).starts_with(&hex(typed))
}

/// `typed` as a path's part, percent-encoded; none if no engine could take it for a name.
pub(super) fn in_path(typed: &str) -> Option<String> {
    if typed.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return None;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte);
    let encoded = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    Some(typed.bytes().map(encoded).collect())
}

/// Those of `names` that are like `typed`, the most alike first, at most ten.
pub(super) fn similar(typed: &str, names: &[String]) -> Vec<String> {
    let (repository, _) = split(typed);
    let last = |name: &str| split(name).0.rsplit('/').next().unwrap_or_default().to_owned();
    let likeness = |name: &String| {
        let of_last = strsim::jaro_winkler(&last(typed), &last(name));
        of_last.max(strsim::jaro_winkler(repository, split(name).0))
    };
    let mut like: Vec<(f64, &String)> = names.iter().map(|name| (likeness(name), name)).collect();
    // From there on down there is little that a person would see in them.
    like.retain(|(likeness, _)| *likeness > 0.75);
    like.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
    like.dedup_by(|(_, one), (_, other)| one == other);
    like.into_iter().take(SIMILAR).map(|(_, name)| name.clone()).collect()
}

/// A name with host and tag; none for one with a digest, and for an ID with its algorithm.
pub(in crate::source) fn full(name: &str) -> Option<String> {
    if name.contains('@') || name.starts_with("sha256:") {
        return None;
    }
    let (repository, tag) = split(name);
    let tag = tag.unwrap_or("latest");
    let (host, path) = if has_host(name) { repository.split_once('/')? } else { (DOCKER_HUB, repository) };
    let host = if host == "index.docker.io" { DOCKER_HUB } else { host };
    let path = if host == DOCKER_HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
    Some(format!("{host}/{path}:{tag}"))
}

/// A name's repository and tag. A colon before a slash is a port's.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// Whether a name's first part is a host: it has a dot or a port, or is `localhost`.
pub(in crate::source) fn has_host(name: &str) -> bool {
    name.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == LOCALHOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn spells_as_the_engine_does() {
        let check = |typed: &str, names: &[&str], expected: Option<&str>| {
            assert_eq!(spelled(typed, &owned(names)), expected, "{typed} in {names:?}");
        };
        check("app", &["app:v1", "app:latest"], Some("app:latest"));
        check("app:v1", &["app:v2", "app:v1"], Some("app:v1"));
        check("docker.io/library/app:v1", &["app:v1"], Some("app:v1"));
        check("index.docker.io/app:v1", &["app:v1"], Some("app:v1"));
        check("docker.io/team/app:v1", &["team/app:v1"], Some("team/app:v1"));
        check("app:v1", &["localhost/app:v1"], Some("localhost/app:v1"));
        check("team/app:v1", &["localhost/team/app:v1"], Some("localhost/team/app:v1"));
        check("app:v1", &["docker.io/library/app:v1"], Some("docker.io/library/app:v1"));
        check("app:v1", &["docker.io/library/app:v1", "localhost/app:v1"], Some("localhost/app:v1"));
        check("docker.io/library/app:v1", &["localhost/app:v1"], None);
        check("localhost/app:v1", &["app:v1"], None);
        check("localhost:5000/app", &["localhost:5000/app:latest"], Some("localhost:5000/app:latest"));
        check("r.example:5000/app", &["app:latest"], None);
        check("app:v1", &[], None);
        check("sha256:abc", &["sha256:abc"], None);
        check("abc", &["app:v1"], None);
        check("app@sha256:abc", &["app:latest"], None);
    }

    #[test]
    fn paths() {
        let check = |typed: &str, expected: Option<&str>| assert_eq!(in_path(typed).as_deref(), expected, "{typed}");
        check("r.example:5000/team/app_x:v1", Some("r.example:5000/team/app_x:v1"));
        check("app@sha256:ab", Some("app@sha256:ab"));
        check("a b?c#d%2e+ü", Some("a%20b%3Fc%23d%252e%2B%C3%BC"));
        for typed in ["", "/", "a/", "/a", "a//b", "../x", "a/../b", "a/./b"] {
            check(typed, None);
        }
    }

    #[test]
    fn ids() {
        let check = |typed: &str, expected: bool| assert_eq!(is_id(typed), expected, "{typed}");
        check("abc123", true);
        check("sha256:abc", true);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
        check("sha256:", false);
        check("", false);
        check("ABC", false);
        check("abx", false);
        assert!(begins("sha256:abcd", "abc") && begins("sha256:abcd", "sha256:abc") && !begins("sha256:abcd", "bc"));
    }

    #[test]
    fn finds_what_is_like_it() {
        let names =
            owned(&["app:v1", "localhost/app:v2", "r.example/team/app:v1", "web:latest", "apps:v9", "postgres:16"]);
        assert_eq!(similar("app:v3", &names), ["app:v1", "localhost/app:v2", "r.example/team/app:v1", "apps:v9"]);
        assert_eq!(similar("postgers", &names), ["postgres:16"]);
        assert!(similar("zzz", &names).is_empty());
        let many: Vec<String> = (0..20).map(|n| format!("app:{n}")).collect();
        assert_eq!(similar("app", &many).len(), SIMILAR);
    }
}
