//! `index.json`, and the same without some of its entries: every other byte of a value stays as somebody wrote it.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::cause::Cause;
use crate::oci::descriptor::Descriptor;
use crate::source::folder::Folder;
use crate::source::layout::{LayoutError, read_index};

/// The bytes of `index.json`, and its entries.
///
/// # Errors
/// When it can't be read, or goes on making no sense.
pub(super) fn read(folder: &Folder) -> Result<(Vec<u8>, Vec<Descriptor>), LayoutError> {
    read_index(folder.root(), folder.follows_symlinks())
}

/// `index.json` without the entries that go.
///
/// # Errors
/// When it can't be taken apart like that: it would lose more.
pub(super) fn without(folder: &Folder, bytes: &[u8], going: &[bool]) -> Result<Vec<u8>, LayoutError> {
    let malformed =
        |error| LayoutError::Malformed { path: folder.root().join("index.json"), source: Cause::new(error) };
    let Fields(fields) = serde_json::from_slice(bytes).map_err(malformed)?;
    let fields = fields.into_iter().map(|(name, value)| {
        let value = if name == "manifests" { spliced(&value, going)? } else { value.get().to_owned() };
        Ok(format!("{}:{value}", serde_json::to_string(&name)?))
    });
    let fields = fields.collect::<Result<Vec<_>, serde_json::Error>>().map_err(malformed)?;
    Ok(format!("{{{}}}", fields.join(",")).into_bytes())
}

/// An array without the values that go.
fn spliced(array: &RawValue, going: &[bool]) -> Result<String, serde_json::Error> {
    let values: Option<Vec<Box<RawValue>>> = serde_json::from_str(array.get())?;
    let values = values.unwrap_or_default();
    if values.len() != going.len() {
        return Err(de::Error::custom("it has other entries than were read"));
    }
    let staying = values.iter().zip(going).filter(|(_, going)| !**going).map(|(value, _)| value.get());
    Ok(format!("[{}]", staying.collect::<Vec<_>>().join(",")))
}

/// An object's fields in their order, each value as it was written.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_entries_stays_as_it_was_written() {
        let folder = Folder::new(std::path::Path::new("/"), false).unwrap();
        let check = |index: &str, going: &[bool], expected: Option<&str>| {
            let found = without(&folder, index.as_bytes(), going).ok().map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(found.as_deref(), expected, "{index}");
        };
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        check(
            &format!(r#"{{"x": 12345678901234567890123, "manifests": [ {{"a": 1e999}}, {{"b":2}} ,3], "d": {deep} }}"#),
            &[false, true, false],
            Some(&format!(r#"{{"x":12345678901234567890123,"manifests":[{{"a": 1e999}},3],"d":{deep}}}"#)),
        );
        check(r#"{"manifests":[1],"s":"\ud800"}"#, &[true], Some(r#"{"manifests":[],"s":"\ud800"}"#));
        check(r#"{"manifests":[1,2]}"#, &[true], None);
        check(r#"{"manifests":null}"#, &[], Some(r#"{"manifests":[]}"#));
        check("{", &[], None);
    }
}
