//! `$(NAME)` references in commands, arguments, environment values and subPathExpr.

/// Replaces references to known names. `$$` stands for one `$`, so `$$(NAME)` is never a reference; a reference to
/// an unknown name stays as written.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Like [`expand`], but an unknown name is an error that carries it.
pub(crate) fn expand_strict(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let out = expand(text, |name| {
        let value = lookup(name);
        if value.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    });
    missing.into_inner().map_or(Ok(out), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_rules_for_dollars() {
        let cases = [
            ("$(A)", "1"),
            ("$(A)$(B)", "12"),
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$(Z)", "$(Z)"),
            ("$A", "$A"),
            ("$", "$"),
            ("$$", "$"),
            ("$(A", "$(A"),
            ("", ""),
            ("ä$(A)ö", "ä1ö"),
        ];
        let lookup = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "B" => Some("2".to_owned()),
            _ => None,
        };
        for (text, want) in cases {
            assert_eq!(expand(text, lookup), want, "{text}");
        }
        assert_eq!(expand_strict("$(A)/$(Z)", lookup), Err("Z".to_owned()));
        assert_eq!(expand_strict("$(A)/$$(Z)", lookup), Ok("1/$(Z)".to_owned()));
    }
}
