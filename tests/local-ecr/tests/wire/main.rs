//! Each quirk of the server, asserted on the wire.

mod answers;
mod api;
mod callers;
mod client;
mod faults;
mod identity;
mod images;
mod link;
mod manifests;
mod program;
mod public;
mod repositories;
mod rights;
mod scans;
mod signed;
mod tls;
mod uploads;
