//! What only ECR has.

pub mod host;
pub mod token;
