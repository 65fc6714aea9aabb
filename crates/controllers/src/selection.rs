//! Which controllers run: upstream's `--controllers`.

/// Names of controllers, as upstream has them, in the order given: the first that fits decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Vec<String>);

impl Default for Selection {
    /// All.
    fn default() -> Self {
        Self(vec!["*".to_owned()])
    }
}

/// A name that no controller has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not in the list of known controllers: {}", known.join(", "))]
pub struct Unknown {
    name: String,
    known: Vec<&'static str>,
}

impl Selection {
    /// `foo` switches a controller on and `-foo` off; `*` stands for all that are not named.
    ///
    /// # Errors
    /// A name is not one of `known`.
    pub(crate) fn new(names: Vec<String>, known: Vec<&'static str>) -> Result<Self, Unknown> {
        let plain = |name: &str| name.strip_prefix('-').unwrap_or(name).to_owned();
        match names.iter().find(|name| *name != "*" && !known.contains(&&*plain(name))) {
            Some(name) => Err(Unknown { name: plain(name), known }),
            None => Ok(Self(names)),
        }
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        let named = self.0.iter().find(|name| name.strip_prefix('-').unwrap_or(name) == controller);
        match named {
            Some(name) => !name.starts_with('-'),
            None => self.0.iter().any(|name| name == "*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_that_fits_decides() {
        let select = |names: &[&str]| {
            Selection::new(names.iter().map(|name| (*name).to_owned()).collect(), vec!["a", "b"])
        };
        for (names, a, b) in [
            (&["*"][..], true, true),
            (&["*", "-a"], false, true),
            (&["a"], true, false),
            (&["-a"], false, false),
            (&["-a", "a", "*"], false, true),
            (&[], false, false),
        ] {
            let selection = select(names).expect("known");
            assert_eq!((selection.has("a"), selection.has("b")), (a, b), "{names:?}");
        }
        assert_eq!(Selection::default(), select(&["*"]).expect("known"));
        for name in ["c", "-c", "-*", "--a"] {
            let text = select(&["a", name]).expect_err("nobody's").to_string();
            assert!(text.ends_with("is not in the list of known controllers: a, b"), "{text}");
        }
    }
}
