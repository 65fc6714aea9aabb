//! Files that hold environment variables (KEP-3721): the part of a shell's syntax that has one meaning everywhere.

/// Why a file could not be read as variables. Lines count from one; nothing of the content is quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A line that sets nothing.
    #[error("line {0}: there is no variable name before '='")]
    NoName(usize),
    /// `NAME ='value'`.
    #[error("line {0}: whitespace before '='")]
    Blank(usize),
    /// The value does not stand between single quotes.
    #[error("line {0}: the value is not enclosed in single quotes")]
    Unquoted(usize),
    /// The value that begins on that line never ends.
    #[error("line {0}: the single quote is not closed")]
    Unclosed(usize),
    /// Something other than a comment follows the value.
    #[error("line {0}: unexpected content after the closing quote")]
    Trailing(usize),
}

/// The value of `key`: the first that the file gives it, `None` if it gives none. What stands behind it in the file is
/// not looked at.
///
/// A variable is `NAME='value'`, where the value may have several lines and is taken as it is. Blank lines, blanks
/// before the name, and comments (lines that begin with `#`, or what follows a value after `#`) are passed over. A
/// blank between `=` and the quote makes the value empty, as in a shell.
pub fn value(text: &str, key: &str) -> Result<Option<String>, SyntaxError> {
    let blank = [' ', '\t'];
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches(blank);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once('=').ok_or(SyntaxError::NoName(number))?;
        match name.trim_end_matches(blank) {
            "" => return Err(SyntaxError::NoName(number)),
            trimmed if trimmed != name => return Err(SyntaxError::Blank(number)),
            _ => {}
        }
        let mut found = String::new();
        if !rest.starts_with(blank) {
            let mut rest = rest.strip_prefix('\'').ok_or(SyntaxError::Unquoted(number))?;
            let mut last = number;
            let after = loop {
                if let Some((part, after)) = rest.split_once('\'') {
                    found.push_str(part);
                    break after;
                }
                found.push_str(rest);
                found.push('\n');
                (last, rest) = lines.next().ok_or(SyntaxError::Unclosed(number))?;
            };
            let after = after.trim_start_matches(blank);
            if !after.is_empty() && !after.starts_with('#') {
                return Err(SyntaxError::Trailing(last));
            }
        }
        if name == key {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_between_single_quotes() {
        let text = "\n# a comment\n  A='one'\nB='two' # said\nC='$A \"x\\n\"\n# no comment\n'\nA='late'\nE= 'x'\nD=''\n";
        for (key, want) in [
            ("A", Some("one")),
            ("B", Some("two")),
            ("C", Some("$A \"x\\n\"\n# no comment\n")),
            ("D", Some("")),
            ("E", Some("")),
            ("F", None),
        ] {
            assert_eq!(value(text, key), Ok(want.map(str::to_owned)), "{key}");
        }
    }

    #[test]
    fn what_is_no_variable_is_named_by_its_line() {
        for (text, want) in [
            ("A\n", SyntaxError::NoName(1)),
            ("\n='x'", SyntaxError::NoName(2)),
            ("A ='x'", SyntaxError::Blank(1)),
            ("A=x", SyntaxError::Unquoted(1)),
            ("A=\"x\"", SyntaxError::Unquoted(1)),
            ("\nA='x\ny\n", SyntaxError::Unclosed(2)),
            ("A='x\ny' z", SyntaxError::Trailing(2)),
        ] {
            assert_eq!(value(text, "Z"), Err(want), "{text:?}");
        }
        assert_eq!(value("A='x'\nnonsense", "A"), Ok(Some("x".to_owned())));
    }
}
