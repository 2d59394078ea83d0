//! Each quirk of the server, asserted on the wire.

mod api;
mod client;
mod faults;
mod manifests;
mod rights;
mod uploads;
