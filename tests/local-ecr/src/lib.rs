//! An imitation of Amazon ECR that runs in the test process, on loopback ports of the kernel's choosing.
//!
//! It serves ECR's API (`awsJson1.1`) and its `/v2/` registry, and behaves as facts/ecr.md says ECR does, not as the
//! OCI specification would like. Where the truth is unknown, both answers can be switched on. Faults strike at chosen
//! requests, a journal notes every request, and a drop checks the invariants of a well-behaved push.
//!
//! Beside it stand imitations of the services that AWS credentials come from: STS, the instance metadata service, the
//! container endpoint, IAM Identity Center.
//!
//! It refuses to verify `SigV4` signatures.
//!
//! ```
//! use local_ecr::{Fault, FaultKind, LocalEcr};
//!
//! let ecr = LocalEcr::builder()
//!     .repository("app")
//!     .fault(Fault::on("PUT", "/manifests/").does(FaultKind::status(503)))
//!     .start()?;
//! assert!(ecr.registry_url().starts_with("http://127.0.0.1:"));
//! assert!(ecr.registry_requests().is_empty());
//! # Ok::<(), local_ecr::StartError>(())
//! ```

mod api;
mod auth;
mod body;
mod builder;
mod config;
mod connection;
mod digest;
mod document;
mod fault;
mod handle;
mod iam;
mod identity;
mod invariants;
mod journal;
mod link;
mod quota;
mod registry;
mod reply;
mod route;
mod server;
mod spoil;
mod state;
mod store;
mod sync;
mod tls;
mod unknowns;
mod view;

pub use builder::{Builder, StartError};
pub use config::{ExpiredToken, LayerLag, MissingLayer, MissingPermission, MissingRepository, TagMutability};
pub use fault::{Fault, FaultKind, Trigger};
pub use handle::LocalEcr;
pub use identity::{IssuedCredentials, Role, Source};
pub use invariants::{Violation, ViolationKind};
pub use journal::{Answer, Credential, Entry, Side, Signed};
pub use link::Link;
pub use tls::TlsVersion;
pub use unknowns::Unknown;
pub use view::RegistryView;
