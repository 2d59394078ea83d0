//! Puts a container image that is on this machine into Amazon ECR, verifies it, and frees the disk afterwards.
//!
//! Data moves one way: [`source`] → [`image`] → [`plan`] → [`push`] → [`report`] → [`cleanup`]; [`job`] is that way from
//! end to end. What happens meanwhile is told to an [`event::Reporter`]. Nothing here prints, and only the AWS SDK, the
//! HTTP client and the system's certificate store look at the environment.

pub mod auth;
pub mod aws;
pub mod cause;
pub mod clean;
pub mod cleanup;
pub mod clock;
pub mod compress;
pub mod doctor;
pub mod error;
pub mod event;
pub mod image;
pub mod inspect;
pub mod job;
pub mod known;
mod names;
pub mod oci;
mod patience;
pub mod plan;
pub mod platform;
pub mod push;
pub mod reach;
pub mod registry;
pub mod repack;
pub mod replace;
pub mod report;
pub mod scan;
pub mod source;
pub mod trust;
