//! What the index takes and what it refuses, member by member.

use std::io::Write;

use super::testing::{file, link, member, typed};
use super::*;

fn index(parts: &[Vec<u8>]) -> Result<TarIndex, TarError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&parts.concat()).unwrap();
    TarIndex::read(Arc::new(file), Path::new("image.tar"))
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

#[test]
fn members_are_found_by_name() {
    let long = "e/".repeat(120) + "layer";
    let pax = format!("{} path={long}\n", long.len() + 10);
    let big = b"\x80\0\0\0\0\0\0\0\0\0\0\x03";
    let index = index(&[
        typed("./", b'5', "", b""),
        typed("dir/", b'5', "", b""),
        typed("dir", b'5', "", b""),
        file("./dir//a", b"abc"),
        link("dir/b", "../dir/./a"),
        typed("c", b'1', "dir/b", b""),
        typed("d", 0, "", b"old"),
        typed("", b'L', "", format!("{}\0", long.replace("layer", "gnu")).as_bytes()),
        file("x", b"gnu"),
        typed("", b'x', "", pax.as_bytes()),
        file("x", b"pax"),
        typed("", b'x', "", b"9 size=7\n\n"[..9].into()),
        member("sized", b'0', "", b"00000000000\0", b"longer!"),
        member("big", b'0', "", big, b"big"),
        typed("pax_global_header", b'g', "", b"13 comment=a\n"),
        end(),
        b"what follows the end is nobody's".to_vec(),
    ])
    .unwrap();
    let check = |name: &str, bytes: &[u8]| {
        assert_eq!(index.content(name, 10).unwrap().as_deref(), Some(bytes), "{name}");
    };
    check("dir/a", b"abc");
    check("dir/b", b"abc");
    check("c", b"abc");
    check("d", b"old");
    check(&long, b"pax");
    check(&long.replace("layer", "gnu"), b"gnu");
    check("sized", b"longer!");
    check("big", b"big");
    assert!(index.is_folder("dir") && index.content("nobody", 10).unwrap().is_none());
    assert_eq!(index.offset("dir/a"), Some(3 * BLOCK as u64));
    assert!(index.check_links().is_ok());
    assert!(matches!(index.content("d", 2).unwrap_err().flaw, Flaw::TooLarge { size: 3, .. }));
}

/// Asserts what the index, or else one of its links, is refused for, and where.
#[track_caller]
fn refused(parts: &[Vec<u8>], offset: usize, expected: fn(&Flaw) -> bool) {
    let error = index(parts).and_then(|index| index.check_links()).expect_err("it is refused");
    assert!(expected(&error.flaw), "{:?}", error.flaw);
    assert_eq!(error.offset, offset as u64, "{error:?}");
}

#[test]
fn names_and_doubles_are_refused() {
    let name = |flaw: &Flaw| matches!(flaw, Flaw::Name { .. });
    let first = || file("a", b"");
    for bad in ["/etc/passwd", "../a", "b/../../a", "b/..", "a/../b"] {
        refused(&[first(), file(bad, b""), end()], BLOCK, name);
    }
    refused(&[file("", b""), end()], 0, name);
    refused(&[first(), file("./a", b""), end()], BLOCK, |flaw| matches!(flaw, Flaw::Twice { first: 0, .. }));
    refused(&[first(), typed("a", b'5', "", b""), end()], BLOCK, |flaw| matches!(flaw, Flaw::Twice { .. }));
    refused(&[link("a", "c"), file("a-b", b""), file("a/b", b"")], 2 * BLOCK, |flaw| {
        matches!(flaw, Flaw::BelowAFile { .. })
    });
    refused(&[typed("", b'L', "", &vec![b'a'; 5000]), first()], 0, |flaw| {
        matches!(flaw, Flaw::ExtensionTooLarge { .. })
    });
    refused(&[first(), typed("", b'L', "", b"b\0c"), file("x", b"")], BLOCK, |flaw| matches!(flaw, Flaw::Extension(_)));
    refused(&[first(), typed("", b'L', "", b"a\0"), typed("", b'K', "", b"c"), file("x", b"")], 5 * BLOCK, |flaw| {
        matches!(flaw, Flaw::Twice { first: 0, .. })
    });
}

#[test]
fn links_are_refused_that_lead_out_or_round() {
    let out = |flaw: &Flaw| matches!(flaw, Flaw::LinkOut { .. });
    let round = |flaw: &Flaw| matches!(flaw, Flaw::LinksWithoutEnd { .. });
    refused(&[link("a", "/etc/passwd")], 0, out);
    refused(&[link("a", "../a")], 0, out);
    refused(&[file("a/c", b""), link("a/b", "../../x")], BLOCK, out);
    refused(&[typed("a", b'1', "../x", b"")], 0, out);
    refused(&[link("a", "a")], 0, round);
    refused(&[link("a", "b"), typed("b", b'1', "a", b"")], 0, round);
    let chain = (0..12).map(|number| link(&format!("l{number:02}"), &format!("l{:02}", number + 1)));
    refused(&chain.chain([file("l12", b"")]).collect::<Vec<_>>(), 0, round);
    let index = index(&[link("a", "nowhere"), typed("fifo", b'6', "", b""), link("f", "fifo")]).unwrap();
    assert!(index.check_links().is_ok());
    assert!(matches!(index.part("a").unwrap_err().flaw, Flaw::LinkToNothing { .. }));
    assert!(matches!(index.part("f").unwrap_err().flaw, Flaw::NotAFile { kind: "a FIFO", .. }));
}

#[test]
fn sizes_that_lie_and_cuts_are_refused() {
    let cut = |flaw: &Flaw| matches!(flaw, Flaw::CutInData { .. });
    let size = |flaw: &Flaw| matches!(flaw, Flaw::Size(_));
    let whole = [file("a", b"abc"), file("b", b"abc"), end()].concat();
    refused(&[whole[..1025].to_vec()], 1024, |flaw| matches!(flaw, Flaw::CutInHeader { left: 1 }));
    refused(&[whole[..1537].to_vec()], 1024, cut);
    refused(&[member("a", b'0', "", b"77777777777\0", b"abc"), end()], 0, cut);
    refused(&[member("a", b'0', "", b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", b"abc"), end()], 0, cut);
    refused(&[member("a", b'0', "", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"abc"), end()], 0, size);
    refused(&[member("a", b'0', "", b"-0000000001\0", b"abc"), end()], 0, size);
    let pax = typed("", b'x', "", b"29 size=18446744073709551615\n");
    refused(&[pax, file("a", b""), end()], 2 * BLOCK, cut);
    refused(&[member("a", b'L', "", b"77777777777\0", b""), end()], 0, |flaw| {
        matches!(flaw, Flaw::ExtensionTooLarge { .. })
    });
    refused(&[typed("a", b'5', "", b"abc"), end()], 0, |flaw| matches!(flaw, Flaw::DataOfNoFile { .. }));
}

#[test]
fn what_is_no_tar_is_refused() {
    let checksum = |flaw: &Flaw| matches!(flaw, Flaw::Checksum);
    refused(&[end()], 0, |flaw| matches!(flaw, Flaw::NoMember));
    refused(&[vec![]], 0, |flaw| matches!(flaw, Flaw::NoMember));
    refused(&[vec![b'x'; 512]], 0, checksum);
    let mut broken = file("a", b"abc");
    broken[0] = b'b';
    refused(&[file("a", b""), broken], 512, checksum);
    refused(&[file("a", b""), vec![0; 512], file("b", b"")], 512, |flaw| matches!(flaw, Flaw::LoneEmptyBlock));
    refused(&[typed("a", b'S', "", b"")], 0, |flaw| matches!(flaw, Flaw::Sparse));
    refused(&[typed("", b'x', "", b"22 GNU.sparse.major=1\n")], 0, |flaw| matches!(flaw, Flaw::Sparse));
    refused(&[typed("a", b'M', "", b"")], 0, |flaw| matches!(flaw, Flaw::Type('M')));
    refused(&[typed("", b'x', "", b"9 path=a\n"), end()], 1024, |flaw| matches!(flaw, Flaw::NoMemberFollows));
    assert!(index(&[file("a", b""), vec![0; 512]]).is_ok() && index(&[file("a", b"")]).is_ok());
}
