//! One blob on its way to one repository: its session, how far it came, and what has failed.
//!
//! Decides what becomes of a session after a failure; sends nothing.

use super::retry::Failures;
use super::sessions::Key;
use crate::registry::Session;
use crate::registry::failure::{Meaning, RegistryError};

/// To ask how far a session came takes a round trip or two; so many bytes are sent again as quickly.
const WORTH_ASKING: u64 = 1024 * 1024;

/// Questions about a session that a registry may answer with an error of its own before the session is given up.
const QUESTIONS: u32 = 3;

/// Tokens that may expire without progress between them: whoever refuses a second new one, too, won't take another.
const TOKENS: u32 = 2;

/// A session that was used, or will be.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) key: Key,
    pub(super) session: Session,
    /// The most bytes that the registry can have.
    pub(super) sent: u64,
    /// Whether it has been gone on with.
    pub(super) resumed: bool,
    /// Where the last part began.
    began: u64,
    /// The byte that the registry wants next, if it refused a part by naming it.
    told: Option<u64>,
}

/// A blob's way to one target.
#[derive(Debug)]
pub(super) struct Course {
    /// The number of the target.
    pub(super) target: usize,
    pub(super) failures: Failures,
    /// What failed last, until another attempt is under way.
    pub(super) error: Option<RegistryError>,
    pub(super) held: Option<Held>,
    /// Questions about the session that were answered with an error.
    questions: u32,
    /// Tokens that expired since the last progress.
    expired: u32,
    /// Whether the registry refused at the end what had been sent in several parts.
    parts_refused: bool,
}

impl Course {
    pub(super) fn new(target: usize) -> Self {
        let failures = Failures::default();
        Self { target, failures, error: None, held: None, questions: 0, expired: 0, parts_refused: false }
    }

    /// A new session, that nothing was sent in.
    pub(super) fn begin(&mut self, key: Key, session: Session) {
        self.questions = 0;
        self.held = Some(Held { key, session, sent: 0, resumed: false, began: 0, told: None });
    }

    /// The session after an attempt that began at byte `from`: the registry can have the first `bytes`.
    pub(super) fn sent(&mut self, session: Session, bytes: u64, from: u64) {
        if let Some(held) = &mut self.held {
            held.session = session;
            held.sent = held.sent.max(bytes);
            held.resumed |= from > 0;
            held.began = from;
        }
    }

    /// Whether the session that broke off with `error` may go on, as far as that can be known without asking.
    pub(super) fn may_go_on(&mut self, error: &RegistryError, size: u64) -> bool {
        let Some(held) = &mut self.held else { return false };
        if let RegistryError::Answered(answer) = error
            && answer.status == 416
        {
            // A GET may tell less than that: it needn't know of more than the first part (facts/ecr.md, Uploading a blob). The
            // same byte again would be refused again.
            held.told = answer.wanted_byte().filter(|byte| *byte != held.began && *byte <= held.sent);
            return held.told.is_some();
        }
        self.parts_refused |= held.resumed && error.meaning() == Some(Meaning::UploadRefused);
        !self.parts_refused && is_cut(error, held.sent >= size) && is_enough(held.session.part_minimum(), held.sent)
    }

    /// Whether to go on in the session when the registry says that it has so many bytes.
    pub(super) fn goes_on_at(&self, bytes: u64) -> bool {
        self.held.as_ref().is_some_and(|held| {
            let minimum = held.session.part_minimum();
            // More than was sent is of somebody else, or nonsense. A part that was left too short may be refused at the end,
            // after all the rest was sent.
            let part = bytes.checked_sub(held.began);
            bytes <= held.sent && is_enough(minimum, bytes) && part.is_some_and(|part| part == 0 || part >= minimum)
        })
    }

    /// The byte that the registry has named itself, if it has.
    pub(super) fn told(&mut self) -> Option<u64> {
        self.held.as_mut()?.told.take()
    }

    /// How many tokens have expired since the last progress.
    pub(super) fn expired(&self) -> u32 {
        self.expired
    }

    /// Notes that the token has expired, and says whether another one is worth a try.
    pub(super) fn expires(&mut self) -> bool {
        self.expired += 1;
        self.expired <= TOKENS
    }

    /// The session has so many bytes.
    pub(super) fn found(&mut self, bytes: u64) {
        self.questions = 0;
        if self.held.as_ref().is_some_and(|held| bytes > held.began) {
            self.expired = 0;
        }
        self.failures.reached(bytes);
    }

    /// Whether to ask no more after this answer to the question how far the session came.
    pub(super) fn asks_no_more(&mut self, error: &RegistryError) -> bool {
        self.questions += u32::from(matches!(error, RegistryError::Answered(_)));
        self.questions >= QUESTIONS
    }
}

/// Whether a session with so many bytes is worth more than a new one. What is shorter than a part may be may not even be
/// finished (facts/ecr.md, Uploading a blob).
fn is_enough(part_minimum: u64, bytes: u64) -> bool {
    bytes >= part_minimum.max(WORTH_ASKING)
}

/// Whether a failure leaves in the session what came before it. One that is unknown after all was sent may have been
/// committed by a request whose answer was lost.
fn is_cut(error: &RegistryError, all_sent: bool) -> bool {
    match error {
        RegistryError::Answered(answer) => match answer.meaning {
            Meaning::Unavailable | Meaning::RateLimited | Meaning::TokenExpired => true,
            Meaning::SessionLost => all_sent || answer.status == 416,
            _ => false,
        },
        error => error.is_transient(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::oci::reference::Host;
    use crate::registry::failure::{Answer, Asked, Network};

    #[test]
    fn what_is_worth_going_on_with() {
        let check = |part_minimum, bytes, expected| {
            assert_eq!(is_enough(part_minimum, bytes), expected, "{part_minimum} {bytes}");
        };
        let mib = 1024 * 1024;
        check(0, 0, false);
        check(0, mib - 1, false);
        check(0, mib, true);
        check(5 * mib, 5 * mib - 1, false);
        check(5 * mib, 5 * mib, true);
    }

    #[test]
    fn what_leaves_in_the_session_what_came() {
        let answered = |status: u16, code: &str| {
            let host = Host::parse("h.example").unwrap();
            let asked = Asked { host, repository: "app".to_owned(), ecr: true, shown: None };
            let body = serde_json::json!({"errors": [{"code": code, "message": "…"}]}).to_string();
            let url = "https://h.example/v2/app/blobs/uploads/".to_owned();
            RegistryError::Answered(Box::new(Answer::read(asked, "PUT", url, status, body.as_bytes(), |_| None)))
        };
        let check = |status, code, before, after| {
            let error = answered(status, code);
            assert_eq!((is_cut(&error, false), is_cut(&error, true)), (before, after), "{status} {code}");
        };
        for status in [408, 425, 429, 500, 502, 503, 504] {
            check(status, "UNKNOWN", true, true);
        }
        check(416, "BLOB_UPLOAD_INVALID", true, true);
        check(404, "BLOB_UPLOAD_UNKNOWN", false, true);
        check(400, "BLOB_UPLOAD_INVALID", false, false);
        check(403, "DENIED", false, false);
        let unreachable = |network| {
            let (url, source) = (String::new(), Cause::new(std::io::Error::other("…")));
            is_cut(&RegistryError::Unreachable { method: "PUT", url, network, ecr: true, source }, false)
        };
        assert!(unreachable(Network::Closed) && unreachable(Network::Timeout) && unreachable(Network::Connect));
        assert!(!unreachable(Network::Tls));
        assert!(is_cut(&RegistryError::Stalled { method: "PUT", url: String::new(), seconds: 1 }, false));
    }
}
