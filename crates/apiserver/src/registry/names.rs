//! Names that the server makes up.

use rand::Rng;

/// Letters and digits that spell no words and are not mistaken for each other.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// The longest part of a prefix that a name keeps: a label has 63 bytes.
const MAX_PREFIX: usize = 63 - SUFFIX;

/// `prefix` and a random suffix.
pub(super) fn generate(prefix: &str) -> String {
    let mut name: String = prefix.chars().take(MAX_PREFIX).collect();
    let mut rng = rand::rng();
    name.extend((0..SUFFIX).map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())] as char));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_label() {
        let name = generate("web-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-") && name[4..].bytes().all(|b| ALPHABET.contains(&b)), "{name}");
        assert_eq!(generate(&"a".repeat(300)).len(), 63);
    }
}
