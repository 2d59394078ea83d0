//! The form of a golden case: `testdata/cli/TOPIC/NAME.toml`, what is run and what goes wrong meanwhile.
//!
//! Texts may hold `{registry}`, `{api}` and the like: see [`Places`].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_sdk_ecr::primitives::{DateTime, DateTimeFormat};
use local_ecr::{Fault, FaultKind};
use serde::Deserialize;

use super::server::Server;

/// What is run: a push, or one of the commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Command {
    #[default]
    Push,
    Doctor,
    Inspect,
    Clean,
}

/// A case. Whatever isn't said is a push of a small image that would succeed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// What happens, in a line; and where AWS's words are ours, that they are.
    pub(super) about: String,
    /// The kinds of failure that it shows, such as `AwsMeaning::Kms`.
    #[serde(default)]
    pub(super) covers: Vec<String>,
    /// The exit status.
    pub(super) status: i32,
    /// What is run.
    #[serde(default)]
    pub(super) command: Command,
    /// The layout, below `testdata/layouts`.
    #[serde(default = "one_manifest")]
    pub(super) layout: String,
    /// In the layout's place: one that is made, with a layer of so many bytes, all of them holes.
    pub(super) layer: Option<u64>,
    /// A layout that was pushed to the same destination before anything goes wrong.
    pub(super) before: Option<String>,
    /// SOURCE.
    #[serde(default = "the_layout")]
    pub(super) source: String,
    /// DESTINATION: `REPOSITORY[:TAG]` in the server's registry, or one with its host.
    #[serde(default = "v1")]
    pub(super) destination: String,
    /// Further arguments.
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// Whether the environment has the server's key pair. Without it the metadata service is asked, too.
    #[serde(default = "yes")]
    pub(super) keys: bool,
    /// Environment variables beside those that the server needs.
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    /// Files in HOME.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// How the server behaves.
    #[serde(default)]
    pub(super) server: Server,
    /// What goes wrong.
    #[serde(default)]
    pub(super) faults: Vec<Failing>,
}

fn one_manifest() -> String {
    "good/one-manifest".to_owned()
}

fn the_layout() -> String {
    "{layout}".to_owned()
}

fn yes() -> bool {
    true
}

fn v1() -> String {
    "app:v1".to_owned()
}

/// The servers that a fault can happen at.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Side {
    /// ECR's API.
    Api,
    /// Whoever gives credentials.
    Identity,
    #[default]
    Registry,
}

/// Something that goes wrong at certain requests: at all that match, unless `nth` or `times` are given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failing {
    #[serde(default)]
    side: Side,
    /// The method, any if there is none.
    method: Option<String>,
    /// A part of path and query, of other requests than the API's; STS is at `/`.
    #[serde(default)]
    path: String,
    /// A part of the name of the API's operation.
    #[serde(default)]
    operation: String,
    /// From which matching request on, counted from one.
    nth: Option<u64>,
    /// At how many of them.
    times: Option<u64>,
    /// The status of an answer, whose error has `code` and `message` in the form of its side: of STS, where that is one
    /// that gives credentials.
    status: Option<u16>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    /// A body in place of the error.
    body: Option<String>,
    /// Headers: of the answer with `status`, else changed in the server's own; empty takes one away.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The connection closes.
    #[serde(default)]
    cut: bool,
    /// No answer comes.
    #[serde(default)]
    stall: bool,
    /// It is sent to another place.
    redirect: Option<String>,
}

impl Failing {
    /// The faults that it amounts to.
    pub(super) fn faults(&self, places: &Places) -> Vec<Fault> {
        self.kinds(places).into_iter().map(|kind| self.trigger().does(kind)).collect()
    }

    fn trigger(&self) -> local_ecr::Trigger {
        let trigger = match self.side {
            Side::Api => {
                assert!(self.method.is_none() && self.path.is_empty(), "the API has one method and one path");
                Fault::operation(&self.operation)
            }
            Side::Identity => {
                assert!(self.method.is_none(), "the path says enough");
                Fault::identity(&self.path)
            }
            Side::Registry => Fault::on(self.method.as_deref().unwrap_or("*"), &self.path),
        };
        let times = self.times.unwrap_or(if self.nth.is_some() { 1 } else { u64::MAX });
        trigger.nth(self.nth.unwrap_or(1)).times(times)
    }

    fn kinds(&self, places: &Places) -> Vec<FaultKind> {
        let mut kinds = Vec::new();
        if self.cut {
            kinds.push(FaultKind::Cut);
        }
        if self.stall {
            kinds.push(FaultKind::Stall);
        }
        if let Some(place) = &self.redirect {
            kinds.push(FaultKind::Redirect(places.fill(place)));
        }
        let mut given = self.headers.iter().map(|(name, value)| (name.clone(), places.fill(value)));
        if let Some(status) = self.status {
            let error = match self.side {
                Side::Api => FaultKind::api_error(status, &self.code, &self.message),
                Side::Identity => FaultKind::sts_error(status, &self.code, &self.message),
                Side::Registry => {
                    let error = serde_json::json!({"errors": [{"code": self.code, "message": self.message}]});
                    FaultKind::Status { status, headers: Vec::new(), body: format!("{error}\n") }
                }
            };
            let FaultKind::Status { mut headers, mut body, .. } = error else { unreachable!("all are a status") };
            if let Some(other) = &self.body {
                (headers, body) = (Vec::new(), places.fill(other));
            }
            headers.extend(given);
            kinds.push(FaultKind::Status { status, headers, body });
        } else {
            let change = |(name, value): (String, String)| FaultKind::Header {
                name,
                value: Some(value).filter(|value| !value.is_empty()),
            };
            kinds.extend(given.by_ref().map(change));
        }
        assert_eq!(kinds.len(), 1, "a fault is one thing: {self:?}");
        kinds
    }
}

/// What stands for places that differ from run to run, in a case's texts and in what it prints.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(&'static str, String)>);

impl Places {
    /// Another place; `mark` is its name without braces.
    pub(super) fn add(&mut self, mark: &'static str, place: impl Into<String>) {
        self.0.push((mark, place.into()));
    }

    pub(super) fn add_path(&mut self, mark: &'static str, path: &Path) {
        self.add(mark, path.to_str().expect("temporary folders have plain names"));
    }

    /// A text with the places in it. `{date+7200}` is the time in two hours, as a `Date` header has it.
    pub(super) fn fill(&self, text: &str) -> String {
        let text =
            self.0.iter().fold(text.to_owned(), |text, (mark, place)| text.replace(&format!("{{{mark}}}"), place));
        let Some((before, rest)) = text.split_once("{date+") else { return text };
        let (seconds, after) = rest.split_once('}').expect("a brace that closes");
        let time = SystemTime::now() + Duration::from_secs(seconds.parse().expect("a number of seconds"));
        let date = DateTime::from(time).fmt(DateTimeFormat::HttpDate).expect("a date of this age");
        format!("{before}{date}{after}")
    }

    /// An output without what differs from run to run.
    pub(super) fn settle(&self, text: &str) -> String {
        self.0.iter().fold(uncounted(text), |text, (mark, place)| text.replace(place, &format!("{{{mark}}}")))
    }
}

/// A text without the number in local-ecr's request ids: of requests that go out together nobody knows which comes first.
fn uncounted(text: &str) -> String {
    const ID: &str = "00000000-0000-4000-8000-";
    let (first, rest) = text.split_once(ID).map_or((text, None), |(first, rest)| (first, Some(rest)));
    let rest = rest.map(|rest| format!("{ID}{{number}}{}", uncounted(rest.get(12..).unwrap_or_default())));
    format!("{first}{}", rest.unwrap_or_default())
}
