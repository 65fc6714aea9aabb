use proptest::prelude::*;

use super::*;

const ASKER: Hardware = [2, 0, 0, 0, 0, 1];
const US: Hardware = [2, 0, 0, 0, 0, 7];

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

/// As tcpdump shows `arp who-has 192.0.2.50 tell 192.0.2.2`.
const WHO_HAS: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, // to everybody, from the asker, ARP
    0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, their lengths, a question
    2, 0, 0, 0, 0, 1, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 192, 0, 2, 50,
];

#[test]
fn a_question_is_read_and_answered_to_who_asked() {
    let question = Question { asker: (ASKER, ip(2)), wanted: ip(50) };
    assert_eq!(Question::read(&WHO_HAS), Some(question));
    assert_eq!(Question::read(&[&WHO_HAS[..], &[0; 18]].concat()), Some(question), "padded");
    let answer = question.answer(US);
    assert_eq!(answer[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 6]);
    assert_eq!(answer[14..22], [0, 1, 8, 0, 6, 4, 0, 2]);
    assert_eq!(answer[22..32], [2, 0, 0, 0, 0, 7, 192, 0, 2, 50]);
    assert_eq!(answer[32..], [2, 0, 0, 0, 0, 1, 192, 0, 2, 2]);
    assert_eq!(Question::read(&answer), None, "an answer is no question");
}

#[test]
fn an_announcement_tells_everybody_and_asks_nobody() {
    let [question, answer] = announcements(ip(50), US);
    for told in [question, answer] {
        assert_eq!(told[..6], EVERYBODY);
        assert_eq!((&told[22..28], &told[28..32]), (&US[..], &ip(50).octets()[..]));
        assert_eq!(told[38..], ip(50).octets());
        assert_eq!(Question::read(&told), None);
    }
    assert_eq!((question[21], answer[21]), (1, 2));
}

#[test]
fn whatever_is_no_question_of_ipv4_over_ethernet_is_left_alone() {
    for at in 12..22 {
        let mut other = WHO_HAS;
        other[at] ^= 0x10;
        assert_eq!(Question::read(&other), None, "byte {at}");
    }
    for length in 0..WHO_HAS.len() {
        assert_eq!(Question::read(&WHO_HAS[..length]), None, "{length} bytes");
    }
}

proptest! {
    #[test]
    fn no_frame_is_too_strange(frame in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Question::read(&frame);
    }
}
