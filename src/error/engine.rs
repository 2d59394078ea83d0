//! What to do next about an engine.

use crate::source::engine::{Asked, EngineError, Reach};

pub(super) fn engine_hint(error: &EngineError) -> Option<String> {
    match error {
        EngineError::Malformed { .. } => {
            Some("unix:///PATH, tcp://HOST:PORT and https://HOST:PORT are addresses of engines".to_owned())
        }
        EngineError::Ssh { url, .. } => Some(ssh_hint(url)),
        EngineError::Context { .. } => {
            Some("`docker context ls` lists the contexts; DOCKER_CONTEXT or DOCKER_HOST name another engine".to_owned())
        }
        EngineError::Unchecked { .. } => Some(
            "give the context the engine's authority: `docker context update NAME --docker host=URL,ca=FILE`"
                .to_owned(),
        ),
        EngineError::Trust(_) => None,
        EngineError::Identity { .. } => {
            Some("DOCKER_CERT_PATH names the folder of ca.pem, cert.pem and key.pem".to_owned())
        }
        EngineError::Name { .. } => {
            Some("write docker-daemon:NAME[:TAG], docker-daemon:NAME@sha256:DIGEST or an ID".to_owned())
        }
        EngineError::Unreachable { reach, .. } => Some(reach_hint(*reach).to_owned()),
        EngineError::NotFound { image, asked, similar } => Some(not_found_hint(image, asked, similar)),
        EngineError::Gone { .. } => Some("somebody else removed it meanwhile".to_owned()),
        EngineError::Ambiguous { .. } => Some("write more digits of the ID".to_owned()),
        EngineError::InUse { .. } => Some("remove the container first, or leave the image".to_owned()),
        EngineError::Cut { .. } => {
            Some("look at the engine's log, and at the space on its disk; then try again".to_owned())
        }
        EngineError::Answered { status: 400, .. } => Some("look at the spelling of the name".to_owned()),
        EngineError::Answered { .. } => Some("look at the engine's log".to_owned()),
        EngineError::Odd { .. } => {
            Some("is that a Docker or Podman engine, and does its address say TLS or not?".to_owned())
        }
    }
}

fn ssh_hint(url: &str) -> String {
    let host = url.trim_start_matches("ssh://").trim_start_matches('…').trim_start_matches('@');
    let host = host.split(['/', ':']).next().unwrap_or_default();
    format!(
        "either lead its socket here, `ssh -nNTL /tmp/engine.sock:/var/run/docker.sock {host}` and \
         DOCKER_HOST=unix:///tmp/engine.sock, or the image: `ssh {host} docker save NAME | ecr-push - DESTINATION`"
    )
}

fn reach_hint(reach: Reach) -> &'static str {
    match reach {
        Reach::Missing | Reach::Refused => "start the engine, or name another with DOCKER_HOST",
        Reach::Denied => {
            "become a member of the group that owns the socket (`sudo usermod -aG docker USER`, then log in again), use sudo, or \
             name a rootless engine with DOCKER_HOST"
        }
        Reach::Name => "look at the spelling of the host; else at DNS",
        Reach::Tls => {
            "does it speak TLS (DOCKER_TLS_VERIFY), and does DOCKER_CERT_PATH hold its authority as ca.pem, and cert.pem and key.pem \
             where it asks for them?"
        }
        Reach::Slow => "is the engine busy? --timeout SECONDS waits longer",
        Reach::Broken => "does it speak TLS (DOCKER_TLS_VERIFY)? Else look at the engine's log",
    }
}

fn not_found_hint(image: &str, asked: &[Asked], similar: &[String]) -> String {
    if !similar.is_empty() {
        return format!("names like it that are there: {}", similar.join(", "));
    }
    let is = |reach: Reach| asked.iter().any(|asked| asked.reach() == Some(reach));
    if is(Reach::Denied) {
        return reach_hint(Reach::Denied).to_owned();
    }
    if asked.iter().any(|asked| asked.failure.is_none()) {
        return format!("`docker pull {image}` or a build puts it there");
    }
    "start an engine, or name one with DOCKER_HOST; a tar of `docker save` is a SOURCE, too".to_owned()
}
