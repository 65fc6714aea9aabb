use proptest::prelude::*;

use super::*;

fn page(at: u64, bytes: u64) -> Kept {
    Kept { at, bytes }
}

#[test]
fn the_oldest_go_first() {
    let keep = |seconds, bytes| Retention { period: Duration::from_secs(seconds), bytes };
    let pages = [page(1_000, 10), page(2_000, 10), page(3_000, 10)];
    for (now, keep, count) in [
        (2_000, keep(10, 30), 0),
        (2_000, keep(10, 29), 1),
        (2_000, keep(10, 10), 2),
        (2_000, keep(10, 9), 3),
        (11_999, keep(10, 30), 1),
        (12_000, keep(10, 30), 2),
        (99_000, keep(10, 30), 3),
    ] {
        assert_eq!(too_many(&pages, now, keep), count, "at {now}, {keep:?}");
    }
}

#[test]
fn a_page_is_known_by_its_name() {
    assert_eq!(Kept::read(b"00000000000000ff-0000000000000007-0000000000000010"), Some(page(255, 16)));
    for other in ["", "1", "1-2", "1-2-x"] {
        assert_eq!(Kept::read(other.as_bytes()), None, "{other}");
    }
}

proptest! {
    #[test]
    fn a_piece_is_what_a_transaction_takes(lengths in prop::collection::vec(0..700_000_usize, 0..200)) {
        let zeros = Bytes::from(vec![0; 700_000]);
        let record = |length: &usize| (Bytes::from_static(b"name"), zeros.slice(..*length));
        let records: Vec<_> = lengths.iter().map(record).collect();
        let pieces = pieces(records.clone());
        for piece in &pieces {
            let size: usize = piece.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(piece.len() <= OPERATIONS && (size <= BYTES || piece.len() == 1));
        }
        prop_assert_eq!(pieces.concat(), records);
    }
}
