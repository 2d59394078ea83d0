//! What only ECR has, and the parts of AWS that lie before it.

pub mod account;
pub mod credentials;
pub mod denial;
pub mod failure;
pub mod host;
mod http;
pub mod layers;
pub mod policy;
pub mod region;
pub mod repository;
pub mod scan;
pub mod session;
pub mod token;
