use proptest::prelude::*;

use super::*;

#[test]
fn texts_become_canonical() {
    for (given, want) in [
        ("0", "0"),
        ("0m", "0"),
        ("100m", "100m"),
        ("0.1", "100m"),
        (".5", "500m"),
        ("1.5", "1500m"),
        ("1.500", "1.500"),
        ("1000m", "1"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1e3", "1e3"),
        ("12E6", "12E6"),
        ("5Gi", "5Gi"),
        ("1024Ki", "1Mi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.5Mi", "512Ki"),
        ("1Ei", "1Ei"),
        ("100Ei", "9223372036854775807"),
        ("0.0000000001", "1n"),
        ("1.0", "1"),
        ("2E", "2E"),
        ("123456789n", "123456789n"),
        ("-1.5", "-1500m"),
        ("-0.1n", "-1n"),
    ] {
        assert_eq!(canonical(given).unwrap(), want, "{given}");
    }
}

#[test]
fn what_is_no_quantity_says_why() {
    for (given, why) in [
        ("", Error::Format),
        ("1Q", Error::Format),
        ("1 Gi", Error::Format),
        ("1.2.3", Error::Format),
        ("1ki", Error::Suffix),
        ("1KiB", Error::Format),
        ("1mm", Error::Suffix),
        ("1e", Error::Suffix),
        (".", Error::Numeric),
        ("Ki", Error::Numeric),
        ("1e999999999", Error::Numeric),
        ("1e99999999999999999999", Error::Suffix),
        ("99999999999999999999999999999999999999999", Error::Numeric),
    ] {
        assert_eq!(Quantity::parse(given), Err(why), "{given}");
    }
    assert_eq!(Quantity::parse("1e-999999999").unwrap().to_string(), "1e-9");
}

#[test]
fn values_round_away_from_zero() {
    let q = |s: &str| Quantity::parse(s).unwrap();
    assert_eq!(q("1.1").value(), 2);
    assert_eq!(q("-1.1").value(), -2);
    assert_eq!(q("250m").milli(), 250);
    assert_eq!(q("1Gi").value(), 1 << 30);
    assert_eq!(q("1u").milli(), 1);
    assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
    assert_eq!((q("0") + q("512Mi")).to_string(), "512Mi");
    assert_eq!((q("1") - q("100m")).to_string(), "900m");
    assert!(q("1000Mi") < q("1Gi"));
    assert_eq!(q("1024"), q("1Ki"));
}

fn quantities() -> impl Strategy<Value = String> {
    (
        any::<bool>(),
        0u64..1_000_000_000_000,
        proptest::option::of("[0-9]{1,6}"),
        proptest::sample::select(vec!["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2", "e6"]),
    )
        .prop_map(|(negative, whole, fraction, suffix)| {
            let sign = if negative { "-" } else { "" };
            let fraction = fraction.map(|f| format!(".{f}")).unwrap_or_default();
            format!("{sign}{whole}{fraction}{suffix}")
        })
}

proptest! {
    #[test]
    fn canonical_text_means_the_same(text in quantities()) {
        let quantity = Quantity::parse(&text).unwrap();
        let written = quantity.to_string();
        prop_assert_eq!(Quantity::parse(&written).unwrap(), quantity);
        prop_assert_eq!(Quantity::parse(&written).unwrap().to_string(), written);
        prop_assert_eq!(Quantity::parse(&canonical(&text).unwrap()).unwrap(), quantity);
    }

    #[test]
    fn sums_are_exact(a in quantities(), b in quantities()) {
        let (a, b) = (Quantity::parse(&a).unwrap(), Quantity::parse(&b).unwrap());
        prop_assert_eq!(a + b, b + a);
        prop_assert_eq!(a + b - b, a);
        prop_assert_eq!((a + b).cmp(&b), a.cmp(&Quantity::ZERO));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}") {
        // Only that it returns is tested; which error does not matter here.
        let _ = canonical(&text);
    }

    #[test]
    fn no_number_makes_it_panic(text in "[-+]?[0-9.]{0,50}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,12}") {
        // As above.
        let _ = canonical(&text);
    }
}
