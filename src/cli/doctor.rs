//! `ecr-push doctor`, as a user sees it.

use super::plain::line;
use super::settings::DoctorSettings;

/// Examines, and gives the exit status.
#[expect(clippy::unused_async, reason = "it will ask")]
pub(super) async fn run(settings: &DoctorSettings) -> u8 {
    for warning in &settings.warnings {
        line(&format!("warning: {warning}"));
    }
    let _ = (&settings.destination, &settings.access, settings.create_repository, settings.output);
    1
}
