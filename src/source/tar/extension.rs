//! What a tar says of the next member beside its header: GNU's long names, and PAX headers.

use super::MAX_NAME;
use super::flaw::Flaw;
use super::header::What;

/// An extension's largest size in bytes: names are short, and so are the extended attributes beside them.
pub(super) const MAX_SIZE: usize = 1024 * 1024;

/// What was said of the next member.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Whether there was a PAX header, which may say nothing.
    pax: bool,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && !self.pax
    }

    /// Takes one in.
    pub(super) fn add(&mut self, what: What, bytes: &[u8]) -> Result<(), Flaw> {
        match what {
            What::LongName => put(&mut self.name, long(bytes)?),
            What::LongLink => put(&mut self.link, long(bytes)?),
            What::Pax if std::mem::replace(&mut self.pax, true) => Err(TWICE),
            What::Pax => self.pax(bytes),
            // Some tools forget then what they were told of the next member.
            What::PaxGlobal if !self.is_empty() => Err(Flaw::Extension("stands between another and its member")),
            // What holds for every member can't be its name; git's comment holds for nothing here.
            What::PaxGlobal => {
                let mut global = Self::default();
                global.pax(bytes)?;
                let says = global.name.is_some() || global.link.is_some() || global.size.is_some();
                if says { Err(Flaw::Extension("gives all members one name or size")) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Records of the form `LENGTH KEY=VALUE\n`, where the length counts all of it.
    fn pax(&mut self, bytes: &[u8]) -> Result<(), Flaw> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (key, value, behind) = record(rest).ok_or(Flaw::Extension("is malformed"))?;
            rest = behind;
            // An empty value takes back what a global header said, and none says any of these.
            if value.is_empty() {
                continue;
            }
            match key {
                b"path" => put(&mut self.name, value.to_vec())?,
                b"linkpath" => put(&mut self.link, value.to_vec())?,
                b"size" => put(&mut self.size, decimal(value).ok_or(Flaw::Size("not a number of 64 bits"))?)?,
                key if key.starts_with(b"GNU.sparse.") => return Err(Flaw::Sparse),
                _ => {}
            }
        }
        Ok(())
    }
}

const TWICE: Flaw = Flaw::Extension("says the same a second time");

fn put<T>(place: &mut Option<T>, value: T) -> Result<(), Flaw> {
    // Of two, one tool takes the first and another the last.
    if place.replace(value).is_some() { Err(TWICE) } else { Ok(()) }
}

/// A GNU long name: it ends with zero bytes, or with the extension.
fn long(bytes: &[u8]) -> Result<Vec<u8>, Flaw> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    // For some tools the name goes on behind a zero byte.
    if bytes[end..].iter().any(|byte| *byte != 0) {
        return Err(Flaw::Extension("has a name with a zero byte in it"));
    }
    if end > MAX_NAME { Err(Flaw::ExtensionTooLarge { size: bytes.len() as u64 }) } else { Ok(bytes[..end].to_vec()) }
}

/// The first record's key and value, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(10).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if length <= space || length > bytes.len() {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pax(text: &str) -> Result<Extensions, Flaw> {
        let mut extensions = Extensions::default();
        extensions.add(What::Pax, text.as_bytes()).map(|()| extensions)
    }

    #[test]
    fn records() {
        let found = pax("13 path=a=\nb\n15 size=123456\n20 SCHILY.xattr.x=1\n11 mtime=1\n").unwrap();
        assert_eq!((found.name.as_deref(), found.size), (Some(&b"a=\nb"[..]), Some(123_456)));
        assert!(pax("").is_ok_and(|found| !found.is_empty() && found.name.is_none()));
        assert!(pax("8 path=\n").is_ok_and(|found| found.name.is_none()));
        let check = |text: &str| assert!(pax(text).is_err(), "{text:?}");
        check("9 path=a\n9 path=b\n");
        check("x path=a\n");
        check("99 path=a\n");
        check("3 path=a\n");
        check("0 path=a\n");
        check("9 path=a ");
        check("9 path a\n");
        check("99999999999999999999 path=a\n");
        check("11 size=-1\n");
        check("11 size=+1\n");
        check("29 size=18446744073709551616\n");
        check("22 GNU.sparse.major=1\n");
        check("9 path=a\n\0\0\0");
    }

    #[test]
    fn two_that_say_the_same_are_refused() {
        let mut extensions = Extensions::default();
        extensions.add(What::LongName, b"a\0").unwrap();
        assert_eq!(extensions.name.as_deref(), Some(&b"a"[..]));
        assert!(extensions.add(What::LongName, b"b\0").is_err());
        assert!(Extensions::default().add(What::LongName, b"a\0b").is_err());
        assert!(Extensions::default().add(What::LongName, b"a\0\0").is_ok());
        let mut extensions = Extensions::default();
        extensions.add(What::LongName, b"a\0").unwrap();
        assert!(extensions.add(What::Pax, b"9 path=a\n").is_err());
        let mut extensions = Extensions::default();
        assert!(extensions.add(What::Pax, b"").is_ok() && extensions.add(What::Pax, b"").is_err());
        let mut extensions = Extensions::default();
        assert!(extensions.add(What::PaxGlobal, b"13 comment=a\n").is_ok() && extensions.is_empty());
        assert!(extensions.add(What::PaxGlobal, b"9 path=a\n").is_err());
        extensions.add(What::LongName, b"a\0").unwrap();
        assert!(extensions.add(What::PaxGlobal, b"13 comment=a\n").is_err());
    }
}
