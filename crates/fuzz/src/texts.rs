//! Small languages.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use tiphys_api::jsonpath::JsonPath;
use tiphys_api::quantity::{self, Quantity};
use tiphys_api::selector::{FieldSelector, LabelSelector};

use crate::values;

/// A selector as text, or as an object selects by it.
pub(crate) fn label_selector(data: &[u8]) {
    if let Some([value]) = values(data)
        && let Ok(selector) = LabelSelector::from_value(&value)
    {
        selects(&selector);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selector) = LabelSelector::parse(text) else { return };
    selects(&selector);
}

fn selects(selector: &LabelSelector) {
    let labels: Map<String, Value> = [("app", "web"), ("a.b/c", ""), ("n", "7")]
        .map(|(k, v)| (k.to_owned(), v.into()))
        .into_iter()
        .collect();
    let text = selector.to_string();
    let again = LabelSelector::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(again.to_string(), text, "read twice");
    for labels in [None, Some(&labels)] {
        assert_eq!(again.matches(labels), selector.matches(labels), "{text} selects something else");
    }
}

pub(crate) fn field_selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selector) = FieldSelector::parse(text) else { return };
    let _matches = selector.matches(|field| if field.len() % 2 == 0 { "web" } else { "" });
    let _exact = selector.exact("metadata.name");
}

pub(crate) fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut sum = Quantity::from_units(0, quantity::Format::DecimalSI);
    for word in text.split(' ').take(8) {
        let read = Quantity::parse(word);
        assert_eq!(read.is_ok(), quantity::canonical(word).is_ok(), "{word}");
        let Ok(read) = read else { continue };
        // What is good enough is kept as it was written.
        let kept = quantity::canonical(word).map(Cow::into_owned).unwrap_or_default();
        assert_eq!(quantity::canonical(&kept).as_deref(), Ok(&*kept), "{word}: made canonical twice");
        let shown = read.to_string();
        for text in [&kept, &shown] {
            let again = Quantity::parse(text).unwrap_or_else(|e| panic!("{word} becomes {text}: {e}"));
            assert_eq!(again, read, "{word} becomes {text}");
            assert_eq!(again.to_string(), shown, "{word}: written twice");
        }
        let _rounded = (read.value(), read.milli(), read.is_whole(), read.is_milli_precise());
        sum = sum + read - -read;
        let _order = sum.cmp(&read);
        let _shown = sum.to_string();
    }
}

pub(crate) fn json_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = JsonPath::parse(text) else { return };
    let object =
        json!({"a": {"b": [{"c": 1, "type": "x"}, {"c": 2}]}, "status": {"conditions": [{"type": "Ready"}]}});
    let _found = path.find(&object);
}
