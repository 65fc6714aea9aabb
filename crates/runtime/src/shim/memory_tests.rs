use super::{clean, clean_candidate, let_go_of_clean_pages, mappings};

#[test]
fn only_read_only_pages_of_files_are_given_back() {
    for (line, expected) in [
        ("00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/x", Some(Some((0x40_0000, 0x5_2000)))),
        (
            "00400000-00452000 r--p 00000000 08:02 173521      /usr/bin/x (deleted)",
            Some(Some((0x40_0000, 0x5_2000))),
        ),
        ("00652000-00655000 rw-p 00052000 08:02 173521      /usr/bin/x", Some(None)),
        ("7ffc0000-7ffd0000 r-xp 00000000 00:00 0           [vdso]", Some(None)),
        ("7f000000-7f001000 r--p 00000000 00:00 0 ", Some(None)),
        ("7f000000-7f001000 r--s 00000000 08:02 5           /a/shared", Some(None)),
        ("Anonymous:             0 kB", None),
        ("VmFlags: rd ex mr mw me", None),
    ] {
        assert_eq!(clean_candidate(line), expected, "{line}");
    }
}

#[test]
fn mappings_with_pages_of_their_own_stay() {
    let list = "1000-2000 r-xp 00000000 08:02 1 /x\nRss: 4 kB\nAnonymous: 0 kB\n\
                2000-3000 r--p 00001000 08:02 1 /x\nAnonymous: 4 kB\n\
                3000-5000 r--p 00002000 08:02 1 /x\nAnonymous: 0 kB\n";
    assert_eq!(clean(list.as_bytes()), [(0x1000, 0x1000), (0x3000, 0x2000)]);
}

#[test]
fn a_program_goes_on_without_its_clean_pages() {
    static TEXT: &str = "still here";
    let_go_of_clean_pages(mappings());
    assert_eq!(TEXT.to_owned() + "!", "still here!");
}
