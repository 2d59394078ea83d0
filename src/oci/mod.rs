//! The data of images as the OCI image specification and Docker's schema 2 define it. No I/O here.

pub mod descriptor;
pub mod digest;
pub mod manifest;
pub mod reference;
