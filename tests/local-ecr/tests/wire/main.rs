//! Each quirk of the server, asserted on the wire.

mod api;
mod client;
mod faults;
mod identity;
mod link;
mod manifests;
mod program;
mod rights;
mod tls;
mod uploads;
