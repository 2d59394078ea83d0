//! TEMPORARY
use crate::oci::digest::Digest;
use std::path::Path;
#[derive(Debug, Clone, Default)]
pub struct Layers;
impl Layers {
    pub fn read(_: &Path) -> Self {
        Self
    }
    pub fn known(&self, _: &Digest, _: &str) -> Option<(Digest, u64)> {
        None
    }
}
