//! Uploads that break off: they go on where the registry says, and what was accepted is not sent again.

mod refused;
mod registry;

use std::time::Duration;

use local_ecr::{Answer, Builder, Fault, FaultKind, LocalEcr, UploadStatus};

use crate::support::{Layout, Push, Ran, assert_arrived, builder, reference, requests, start};

const MIB: u64 = 1 << 20;

/// How a registry tells how far a session came: by the byte that it names in a refusal, or to a GET.
const FORMS: [UploadStatus; 2] = [UploadStatus::NotFound, UploadStatus::Progress];

/// The layer's size in MiB.
const SIZE: u64 = 40;

/// A large layer, and a registry of one form.
struct Case {
    form: UploadStatus,
    layout: Layout,
    layer: String,
    ecr: LocalEcr,
}

impl Case {
    fn new(form: UploadStatus) -> Self {
        Self::with(form, |builder| builder)
    }

    fn with(form: UploadStatus, more: impl FnOnce(Builder) -> Builder) -> Self {
        let (layout, layer) = Layout::of_mebibytes(SIZE);
        let ecr = start(more(builder().upload_status(form).upload_cancel(true)));
        Self { form, layout, layer, ecr }
    }

    /// Something goes wrong with the request that sends the layer whole, or ends its session.
    fn put(&self, nth: u64, times: u64, kind: FaultKind) {
        let hex = &self.layer["sha256:".len()..];
        self.ecr.inject(Fault::on("PUT", hex).nth(nth).times(times).does(kind));
    }

    /// Something goes wrong with the requests that send the layer's rest.
    fn patch(&self, number: u64, kind: FaultKind) {
        // In one of the forms there is a question before each.
        let nth = if self.form == UploadStatus::NotFound { 2 * number } else { number };
        self.ecr.inject(Fault::on("PATCH", "/blobs/uploads/").nth(nth).does(kind));
    }

    fn push(&self) -> Push {
        Push::of(self.layout.path()).at(&self.ecr).to("app:v1")
    }

    /// All is there, and no session is left.
    #[track_caller]
    fn arrives(&self, args: &[&str]) -> Ran {
        let ran = self.push().args(args).run().exits(0);
        let ran = ran.prints(&[&reference(&self.ecr, "app", &self.layout.root())]);
        assert_arrived(&self.ecr, "app", &self.layout, &self.layout.root());
        self.is_closed();
        ran
    }

    #[track_caller]
    fn is_closed(&self) {
        self.ecr.wait_for_quiet();
        assert_eq!(self.ecr.open_sessions(), 0);
    }

    /// So many sessions were opened for the layer.
    #[track_caller]
    fn took(&self, sessions: usize) {
        // One is the config's.
        assert_eq!(requests(&self.ecr, "POST", "/blobs/uploads/").len() - 1, sessions, "{:?}", self.form);
    }

    /// Not many more than these bytes came in, beside the layer's own.
    #[track_caller]
    fn sent_again(&self, bytes: u64) {
        let (received, layer) = (received(&self.ecr, "app"), SIZE * MIB);
        assert!(received <= layer + bytes + 1000, "{:?}: {received} of {layer} bytes", self.form);
    }
}

/// Bytes of uploads that came in for a repository.
fn received(ecr: &LocalEcr, repository: &str) -> u64 {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let uploads = ecr.registry_requests().into_iter().filter(|entry| entry.path.starts_with(&path));
    uploads.map(|entry| entry.bytes).sum()
}

#[test]
fn a_cut_at_nine_tenths_costs_nothing() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutAfter(36 * MIB));
        let ran = case.arrives(&[]);
        ran.says(["broke off layer 1/1", "trying again", "going on with layer 1/1", "at 37.75 MB"]);
        case.took(1);
        case.sent_again(0);
        let rest = requests(&case.ecr, "PATCH", "/blobs/uploads/").pop().unwrap();
        let range = format!("{}-{}", 36 * MIB, SIZE * MIB - 1);
        assert_eq!((rest.content_range, rest.bytes), (Some(range), 4 * MIB));
    }
}

#[test]
fn a_cut_every_six_mebibytes_ends_in_success() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutAfter(6 * MIB));
        for number in 1..=5 {
            case.patch(number, FaultKind::CutAfter(6 * MIB));
        }
        // Each is progress.
        let ran = case.arrives(&["--retries=1"]);
        assert_eq!(ran.stderr.matches("going on with").count(), 6, "{}", ran.stderr);
        case.took(1);
        case.sent_again(0);
    }
}

#[test]
fn a_get_that_knows_of_the_first_part_only_is_put_right_by_the_refusal() {
    let case = Case::new(UploadStatus::FirstPart);
    case.put(1, 1, FaultKind::CutAfter(10 * MIB));
    case.ecr.inject(Fault::on("PATCH", "/blobs/uploads/").nth(1).does(FaultKind::CutAfter(10 * MIB)));
    case.arrives(&["--retries=3"]);
    case.took(1);
    let ranges = requests(&case.ecr, "PATCH", "/blobs/uploads/").into_iter().filter_map(|entry| entry.content_range);
    let last = SIZE * MIB - 1;
    assert_eq!(ranges.collect::<Vec<_>>().pop(), Some(format!("{}-{last}", 20 * MIB)));
}

#[test]
fn a_part_that_was_left_too_short_is_not_built_upon() {
    for form in FORMS {
        let case = Case::with(form, |builder| builder.short_after_cut(false));
        case.put(1, 1, FaultKind::CutAfter(20 * MIB));
        case.patch(1, FaultKind::CutAfter(2 * MIB));
        case.arrives(&[]);
        case.took(2);
    }
}

#[test]
fn a_corrupt_layer_is_not_sent_to_who_comes_later() {
    let (layout, layer) = Layout::of_mebibytes(SIZE);
    let path = layout.blob(&layer);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ecr = start(builder().repository("other").upload_cancel(true));
    // The layer's POST in one of the two is answered later than the other's reading.
    ecr.inject(Fault::on("POST", "/v2/other/blobs/uploads/").times(2).does(FaultKind::status(503)));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").to("other:v1");
    push.run().exits(3).prints(&[]);
    assert!(received(&ecr, "other") < SIZE * MIB);
    assert!(!ecr.has_blob("app", &layer) && !ecr.has_blob("other", &layer));
    ecr.wait_for_quiet();
    assert_eq!(ecr.open_sessions(), 0);
}

#[test]
fn cuts_without_progress_end_the_push_after_its_retries() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, u64::MAX, FaultKind::CutAfter(20 * MIB));
        // Questions have a body of one byte.
        case.ecr.inject(Fault::on("PATCH", "/blobs/uploads/").times(u64::MAX).does(FaultKind::CutAfter(1000)));
        let ran = case.push().args(["--retries=2"]).run().exits(6).prints(&[]);
        // The first got to 20 MiB, which was progress; what is left of a part that is too short is not gone on with.
        assert_eq!(ran.stderr.matches("going on with").count(), 2, "{}", ran.stderr);
        ran.says(["tried 3 times", "could not be uploaded"]);
        assert!(!case.ecr.has_blob("app", &case.layer) && case.ecr.tags("app").is_empty());
        case.is_closed();
    }
}

#[test]
fn without_retries_nothing_goes_on() {
    let case = Case::new(UploadStatus::Progress);
    case.put(1, 1, FaultKind::CutAfter(20 * MIB));
    case.push().args(["--retries=0"]).run().exits(6).says_nothing_of(["going on"]);
    case.is_closed();
}

#[test]
fn a_cut_before_a_part_is_long_enough_begins_anew() {
    for (form, at) in FORMS.into_iter().flat_map(|form| [(form, 1000), (form, 4 * MIB)]) {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutAfter(at));
        case.arrives(&[]).says_nothing_of(["going on with"]);
        case.took(2);
        case.sent_again(at);
    }
}

#[test]
fn a_layer_shorter_than_a_part_is_sent_again_without_questions() {
    let layout = Layout::of_layers(&[4 << 20]);
    let ecr = start(builder().fault(Fault::on("PUT", "/blobs/uploads/").times(2).does(FaultKind::CutAfter(3 * MIB))));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    for method in ["GET", "PATCH"] {
        assert!(requests(&ecr, method, "/blobs/uploads/").is_empty(), "{method}");
    }
}

#[test]
fn a_lost_answer_to_the_end_is_found_out() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutReply);
        case.arrives(&[]);
        case.took(1);
        case.sent_again(0);
        assert_eq!(requests(&case.ecr, "HEAD", &case.layer).last().unwrap().answer, Answer::Status(200), "{form:?}");
    }
}

#[test]
fn a_cut_after_the_last_byte_leaves_only_the_end_to_do() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutAfter(SIZE * MIB));
        case.arrives(&[]);
        case.took(1);
        case.sent_again(0);
        let ends = requests(&case.ecr, "PUT", "/blobs/uploads/").into_iter().filter(|entry| entry.bytes == 0);
        assert_eq!(ends.count(), 1, "{form:?}");
    }
}

#[test]
fn lost_answers_to_the_rest_and_to_its_end_are_found_out() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutAfter(20 * MIB));
        case.patch(1, FaultKind::CutReply);
        case.put(2, 1, FaultKind::CutReply);
        case.arrives(&[]);
        case.took(1);
        case.sent_again(0);
    }
}

#[test]
fn a_token_that_expires_while_a_layer_is_sent_costs_nothing_that_arrived() {
    let message = "Your authorization token has expired. Reauthenticate and try again.";
    let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}"#);
    let expired = FaultKind::Status { status: 403, headers: Vec::new(), body };
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::CutAfter(20 * MIB));
        case.patch(1, expired.clone());
        case.arrives(&[]);
        case.took(1);
        assert_eq!(case.ecr.issued_passwords().len(), 2, "{form:?}");
        let parts = requests(&case.ecr, "PATCH", "/blobs/uploads/").pop().unwrap();
        assert_eq!(parts.bytes, 20 * MIB, "{form:?}");
    }
}

#[test]
fn tokens_that_expire_all_the_time_are_renewed() {
    for form in FORMS {
        let case = Case::with(form, |builder| builder.token_lifetime(5));
        // Whole it never gets through.
        case.put(1, u64::MAX, FaultKind::CutAfter(10 * MIB));
        for number in [1, 2] {
            case.patch(number, FaultKind::CutAfter(10 * MIB));
        }
        case.arrives(&["--jobs=1"]).says(["going on with"]);
        assert!(case.ecr.issued_passwords().len() > 2, "{form:?}");
    }
}

#[test]
fn a_stalled_upload_goes_on() {
    for form in FORMS {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::StallAfter(20 * MIB));
        case.patch(1, FaultKind::StallAfter(10 * MIB));
        case.arrives(&["--timeout=1"]).says(["no byte moved for 1 s", "at 20.97 MB", "at 31.46 MB"]);
        case.took(1);
        case.sent_again(0);
    }
}

#[test]
fn a_registry_that_is_unavailable_in_the_middle_goes_on() {
    for (form, status) in FORMS.into_iter().flat_map(|form| [408, 425, 429, 500, 503].map(|status| (form, status))) {
        let case = Case::new(form);
        case.put(1, 1, FaultKind::StatusAfter(20 * MIB, status));
        case.arrives(&[]).says(["going on with"]);
        case.took(1);
        // What the registry doesn't want any more it reads to its end.
        let rest = requests(&case.ecr, "PATCH", "/blobs/uploads/").pop().unwrap();
        assert_eq!(rest.bytes, 20 * MIB, "{form:?} {status}");
    }
}

#[test]
fn a_question_that_fails_is_asked_again() {
    for form in FORMS {
        for kind in [FaultKind::Cut, FaultKind::status(503), FaultKind::CutReply] {
            let case = Case::new(form);
            case.put(1, 1, FaultKind::CutAfter(20 * MIB));
            case.ecr.inject(Fault::on("GET", "/blobs/uploads/").does(kind.clone()));
            if form == UploadStatus::NotFound {
                case.ecr.inject(Fault::on("PATCH", "/blobs/uploads/").does(kind));
            }
            case.arrives(&[]);
            case.took(1);
            case.sent_again(1);
        }
    }
}

#[test]
fn of_several_repositories_the_one_that_was_cut_gets_what_it_lacks() {
    for form in FORMS {
        let case = Case::with(form, |builder| builder.repository("second").repository("third"));
        for (repository, at) in [("second", 36), ("third", 18)] {
            let cut = FaultKind::CutAfter(at * MIB);
            case.ecr.inject(Fault::on("PUT", format!("/v2/{repository}/blobs/uploads/")).times(2).does(cut));
        }
        let ran = case.push().to("second:v1").to("third:v1").run().exits(0);
        for repository in ["app", "second", "third"] {
            assert_arrived(&case.ecr, repository, &case.layout, &case.layout.root());
            let received = received(&case.ecr, repository);
            assert!(received <= SIZE * MIB + 1001, "{form:?}: {received} bytes to {repository}");
        }
        ran.says(["at 37.75 MB", "at 18.87 MB"]);
        case.is_closed();
    }
}

#[test]
fn a_session_that_is_gone_is_replaced() {
    let case = Case::new(UploadStatus::Progress);
    case.put(1, 1, FaultKind::CutAfter(20 * MIB));
    let body = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#.to_owned();
    let gone = FaultKind::Status { status: 404, headers: Vec::new(), body };
    case.ecr.inject(Fault::on("GET", "/blobs/uploads/").does(gone.clone()));
    case.ecr.inject(Fault::on("PATCH", "/blobs/uploads/").does(gone));
    // The server has it all the same, and the client can't know.
    case.ecr.allow_open_sessions();
    case.push().run().exits(0);
    assert_arrived(&case.ecr, "app", &case.layout, &case.layout.root());
    case.took(2);
    case.sent_again(20 * MIB);
}

#[test]
fn a_registry_that_claims_more_than_was_sent_is_not_believed() {
    let case = Case::new(UploadStatus::Progress);
    case.put(1, 1, FaultKind::CutAfter(10 * MIB));
    let value = Some(format!("0-{}", SIZE * MIB - 1));
    case.ecr.inject(Fault::on("GET", "/blobs/uploads/").does(FaultKind::Header { name: "Range".to_owned(), value }));
    case.arrives(&[]);
    case.took(2);
    let ends = requests(&case.ecr, "PUT", "/blobs/uploads/").into_iter().filter(|entry| entry.bytes == 0);
    assert_eq!(ends.count(), 0);
}

#[test]
fn a_registry_that_sends_a_session_elsewhere_in_the_clear_gets_nothing_there() {
    let case = Case::new(UploadStatus::Progress);
    case.put(1, u64::MAX, FaultKind::CutAfter(10 * MIB));
    let value = Some(format!("{}/upload", case.ecr.elsewhere_url()));
    case.ecr.inject(Fault::on("GET", "/blobs/uploads/").does(FaultKind::Header { name: "Location".to_owned(), value }));
    case.push().run().exits(6).prints(&[]).says(["Location that is not https"]);
    assert!(!case.ecr.journal().iter().any(|entry| entry.side == local_ecr::Side::Elsewhere));
    case.is_closed();
}

#[test]
fn a_date_to_wait_for_is_reckoned_by_the_registry_s_own_clock() {
    let headers = [("Date", "Tue, 24 Nov 2026 22:00:00 GMT"), ("Retry-After", "Tue, 24 Nov 2026 22:00:02 GMT")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let busy = FaultKind::Status { status: 503, headers, body: String::new() };
    let ecr = start(builder().fault(Fault::on("POST", "/blobs/uploads/").does(busy)));
    let layout = Layout::of_layers(&[1000]);
    Push::of(layout.path()).at(&ecr).to("app:v1").args(["--jobs=1"]).run().exits(0).says(["trying again in 2.0 s"]);
    let posts = requests(&ecr, "POST", "/blobs/uploads/");
    assert!(posts[0].at + Duration::from_secs(2) <= posts[1].at);
}
