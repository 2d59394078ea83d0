//! What nobody outside of AWS knows of ECR, and has a switch here for that reason: both answers can be had of each.

use crate::builder::Builder;
use crate::config::{
    ArchivedImage, Config, ExpiredToken, MissingLayer, MissingPermission, MissingRepository, TooManyTags, UploadStatus,
};

/// The variable that turns all answers round, and its value.
const VARIABLE: (&str, &str) = ("ECR_PUSH_TEST_UNKNOWNS", "other");

/// A question that facts/ecr.md leaves open, or to which two answers were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// [`Builder::same_digest_refused`].
    SameDigest,
    /// [`Builder::older_immutability_words`].
    ImmutabilityWords,
    /// [`Builder::missing_repository`]: a 404 or a closed connection.
    MissingRepository,
    /// [`Builder::missing_permission`].
    MissingPermission,
    /// [`Builder::missing_layer`].
    MissingLayer,
    /// [`Builder::expired_token`].
    ExpiredToken,
    /// [`Builder::sha512`].
    Sha512,
    /// [`Builder::oci_subject_header`].
    SubjectHeader,
    /// [`Builder::upload_cancel`].
    UploadCancel,
    /// [`Builder::upload_status`].
    UploadStatus,
    /// [`Builder::single_post`].
    SinglePost,
    /// [`Builder::short_after_cut`].
    ShortAfterCut,
    /// [`Builder::too_many_tags`].
    TooManyTags,
    /// [`Builder::archived_image`].
    ArchivedImage,
    /// [`Builder::referrers_own_right`].
    ReferrersRight,
    /// [`Builder::mount_denied`].
    MountDenied,
}

impl Unknown {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::SameDigest,
        Self::ImmutabilityWords,
        Self::MissingRepository,
        Self::MissingPermission,
        Self::MissingLayer,
        Self::ExpiredToken,
        Self::Sha512,
        Self::SubjectHeader,
        Self::UploadCancel,
        Self::UploadStatus,
        Self::SinglePost,
        Self::ShortAfterCut,
        Self::TooManyTags,
        Self::ArchivedImage,
        Self::ReferrersRight,
        Self::MountDenied,
    ];

    /// Gives the answer that isn't [`Config::default`]'s.
    fn turn(self, config: &mut Config) {
        match self {
            Self::SameDigest => config.same_digest_refused = true,
            Self::ImmutabilityWords => config.older_immutability_words = true,
            Self::MissingRepository => config.missing_repository = MissingRepository::CloseConnection,
            Self::MissingPermission => config.missing_permission = MissingPermission::CloseConnection,
            Self::MissingLayer => config.missing_layer = MissingLayer::ManifestBlobUnknown,
            Self::ExpiredToken => config.expired_token = ExpiredToken::Challenge,
            Self::Sha512 => config.sha512 = true,
            Self::SubjectHeader => config.oci_subject_header = true,
            Self::UploadCancel => config.upload_cancel = false,
            Self::UploadStatus => config.upload_status = UploadStatus::Progress,
            Self::SinglePost => config.single_post = true,
            Self::ShortAfterCut => config.short_after_cut = false,
            Self::TooManyTags => config.too_many_tags = TooManyTags::TagInvalid,
            Self::ArchivedImage => config.archived_image = ArchivedImage::Inaccessible,
            Self::ReferrersRight => config.referrers_own_right = true,
            Self::MountDenied => config.mount_denied = true,
        }
    }
}

impl Builder {
    /// Gives these questions their other answer: not the one that a server has unless told otherwise.
    pub fn other_answers(self, unknowns: &[Unknown]) -> Self {
        self.set(|config| unknowns.iter().for_each(|unknown| unknown.turn(config)))
    }
}

/// The answers of a server that was told nothing: the likelier ones, unless the environment turns all of them round, so
/// that whole suites can be run with either. What a builder is told afterwards counts.
///
/// # Panics
///
/// When the variable has another value than the one it may have: a suite would test the wrong thing.
pub(crate) fn answers() -> Config {
    let (name, other) = VARIABLE;
    let mut config = Config::default();
    match std::env::var_os(name) {
        Some(value) if value == other => Unknown::ALL.iter().for_each(|unknown| unknown.turn(&mut config)),
        Some(value) => assert!(value.is_empty(), "{name} may be {other:?} or nothing, not {}", value.display()),
        None => (),
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_another_than_the_usual_one() {
        let usual = format!("{:?}", Config::default());
        let mut found = vec![usual];
        for unknown in Unknown::ALL {
            let mut config = Config::default();
            unknown.turn(&mut config);
            let turned = format!("{config:?}");
            assert!(!found.contains(&turned), "{unknown:?}");
            found.push(turned);
        }
    }
}
