//! Values in messages.

use super::quoted;

#[test]
fn texts_are_quoted_as_go_quotes_them() {
    for (text, shown) in [
        ("a b", r#""a b""#),
        ("say \"x\\\"", r#""say \"x\\\"""#),
        ("\u{7}\u{8}\t\n\u{b}\u{c}\r", r#""\a\b\t\n\v\f\r""#),
        ("\0\u{1b}\u{7f}", r#""\x00\x1b\x7f""#),
        ("\u{85}\u{a0}", r#""\u0085\u00a0""#),
        ("grün ☃ '", "\"grün ☃ '\""),
    ] {
        assert_eq!(quoted(text), shown);
    }
}
