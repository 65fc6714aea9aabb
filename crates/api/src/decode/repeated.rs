//! What stands twice in JSON whose structure nobody knows, such as a patch's.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Context, Step};

/// The fields of an operation of a JSON patch (RFC 6902).
const OPERATION: &[&str] = &["op", "path", "from", "value"];

/// The keys that stand in an object more than once, in upstream's words. Of bytes that are no JSON, those before the error.
pub fn repeated(json: &[u8]) -> Vec<String> {
    problems(json, None)
}

/// The same of a JSON patch; what is no field of an operation is told, too.
pub fn repeated_in_operations(json: &[u8]) -> Vec<String> {
    problems(json, Some(OPERATION)).into_iter().map(|problem| format!("json patch {problem}")).collect()
}

fn problems(json: &[u8], known: Option<&'static [&'static str]>) -> Vec<String> {
    let mut context = Context::default();
    // Whoever reads the bytes for what they say tells what is wrong with them.
    let _ =
        Reader { context: &mut context, known }.deserialize(&mut serde_json::Deserializer::from_slice(json));
    context.problems
}

struct Reader<'a> {
    context: &'a mut Context<'static>,
    /// The fields of the object that is read, or of those in the list that is.
    known: Option<&'static [&'static str]>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let Self { context, known } = self;
        let mut keys = HashSet::new();
        while let Some(key) = source.next_key::<String>()? {
            if known.is_some_and(|known| !known.contains(&&*key)) {
                context.problem("unknown", &key);
                source.next_value::<IgnoredAny>()?;
                continue;
            }
            if !keys.insert(key.clone()) {
                context.problem("duplicate", &key);
            }
            context.path.push(Step::Key(key));
            source.next_value_seed(Reader { context: &mut *context, known: None })?;
            context.path.pop();
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let Self { context, known } = self;
        for at in 0.. {
            context.path.push(Step::Index(at));
            let item = source.next_element_seed(Reader { context: &mut *context, known })?;
            context.path.pop();
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
