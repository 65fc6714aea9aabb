use super::*;
use crate::proxy::model::Hints;

const HERE: Place<'_> = Place { node: "here", zone: Some("z1") };

/// An endpoint of the zones and nodes that its hints name; one that is on its way out, if they end with "!".
fn endpoint(hints: &str) -> Endpoint {
    let names = |begin: char| hints.trim_end_matches('!').split(' ').filter(move |h| h.starts_with(begin));
    let condition = if hints.ends_with('!') { Condition::ServingTerminating } else { Condition::Ready };
    Endpoint {
        address: [10, 244, 0, 1].into(),
        condition,
        node: None,
        hints: Hints {
            zones: names('z').map(Into::into).collect(),
            nodes: names('h').chain(names('t')).map(Into::into).collect(),
        },
    }
}

/// How near endpoints with these hints have to be, and which of them are.
fn judged(place: Place<'_>, hints: &[&str]) -> (Nearness, Vec<usize>) {
    let endpoints: Vec<Endpoint> = hints.iter().map(|h| endpoint(h)).collect();
    let nearness = place.nearness(endpoints.iter());
    (nearness, (0..hints.len()).filter(|n| place.is_near(&endpoints[*n], nearness)).collect())
}

#[test]
fn hints_count_if_all_have_them_and_one_is_for_here() {
    use Nearness::{Anywhere, Node, Zone};
    let cases: [(&[&str], Nearness, &[usize]); 13] = [
        (&[], Anywhere, &[]),
        (&["", ""], Anywhere, &[0, 1]),
        (&["z1", "z2"], Zone, &[0]),
        (&["z1 z2", "z2 z1", "z3"], Zone, &[0, 1]),
        (&["z1", ""], Anywhere, &[0, 1]),
        (&["z2", "z3"], Anywhere, &[0, 1]),
        (&["z1 here", "z1 there"], Node, &[0]),
        (&["z1 there", "z1 there"], Zone, &[0, 1]),
        (&["z1 there", "z2 there"], Zone, &[0]),
        (&["z2 there", "z2 there"], Anywhere, &[0, 1]),
        // A node's hint on some of them only.
        (&["z1 here", "z1", "z2"], Zone, &[0, 1]),
        // Of what is on its way out, nobody asks for hints, and they do not count.
        (&["z1", "!"], Zone, &[0]),
        (&["z2", "z1!"], Anywhere, &[0, 1]),
    ];
    for (hints, nearness, near) in cases {
        assert_eq!(judged(HERE, hints), (nearness, near.to_vec()), "{hints:?}");
    }
}

#[test]
fn a_node_without_a_zone_asks_for_none() {
    let nowhere = Place { zone: None, ..HERE };
    assert_eq!(judged(nowhere, &["z1", "z2"]), (Nearness::Anywhere, vec![0, 1]));
    assert_eq!(judged(nowhere, &["z1 here", "z2 there"]), (Nearness::Node, vec![0]));
}
