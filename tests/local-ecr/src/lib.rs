//! An imitation of Amazon ECR that runs in the test process, on loopback ports of the kernel's choosing.
//!
//! It serves ECR's API and ECR Public's (`awsJson1.1`) and a `/v2/` registry, private or public, and behaves as
//! facts/ecr.md says ECR does, not as the OCI specification would like. Where the truth is unknown, both answers can be
//! switched on. Faults strike at chosen requests, a journal notes every request, and a drop checks the invariants of a
//! well-behaved push.
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
mod callers;
mod config;
mod connection;
mod denial;
mod digest;
mod document;
mod fault;
mod handle;
mod iam;
mod identity;
mod images;
mod invariants;
mod journal;
mod limits;
mod line_proxy;
mod link;
mod permission;
mod quota;
mod registry;
mod reply;
mod repository;
mod route;
mod scanning;
mod server;
mod spoil;
mod state;
mod store;
mod sync;
mod tls;
mod unknowns;
mod view;

pub use builder::{Builder, StartError};
pub use config::{
    ArchivedImage, ExpiredToken, LayerLag, MissingLayer, MissingPermission, MissingRepository, TagMutability,
    TooManyTags, UploadStatus,
};
pub use denial::{DenyReason, PolicyKind};
pub use fault::{Fault, FaultKind, Trigger};
pub use handle::LocalEcr;
pub use identity::{IssuedCredentials, Role, Source};
pub use invariants::{Violation, ViolationKind};
pub use journal::{Answer, Connection, Credential, Entry, Side, Signed};
pub use line_proxy::LineProxy;
pub use link::Link;
pub use repository::{Encryption, RepositorySettings};
pub use scanning::{Finding, ScanEnd, Scanning};
pub use tls::TlsVersion;
pub use unknowns::Unknown;
pub use view::RegistryView;
