use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA},
    },
};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn response(ttls: &[u32]) -> Message {
    let mut message = Message::response(7, hickory_proto::op::OpCode::Query);
    message.add_query(Query::query(name("example.org."), RecordType::A));
    for ttl in ttls {
        let record = Record::from_rdata(name("www.example.org."), *ttl, RData::A(A::new(192, 0, 2, 1)));
        message.add_answer(record);
    }
    message.set_edns(Edns::new());
    message
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name("ns.example.org."), name("root.example.org."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("example.org."), ttl, RData::SOA(soa))
}

#[test]
fn an_answer_lives_as_long_as_its_shortest_record() {
    assert_eq!(life(&response(&[300, 20, 100]).to_vec().unwrap()), Some(20));
    assert_eq!(life(&response(&[]).to_vec().unwrap()), None, "nothing said");
    let mut denial = response(&[]);
    denial.metadata.response_code = ResponseCode::NXDomain;
    denial.add_authority(soa(3600, 60));
    assert_eq!(life(&denial.to_vec().unwrap()), Some(60));
    let mut failure = response(&[300]);
    failure.metadata.response_code = ResponseCode::ServFail;
    assert_eq!(life(&failure.to_vec().unwrap()), None);
    let mut part = response(&[300]);
    part.metadata.truncation = true;
    assert_eq!(life(&part.to_vec().unwrap()), None);
}

#[test]
fn ageing_takes_seconds_off_records_only() {
    let message = response(&[300, 20]);
    let mut bytes = message.to_vec().unwrap();
    age(&mut bytes, 30);
    let aged = Message::from_vec(&bytes).unwrap();
    assert_eq!(aged.answers.iter().map(|r| r.ttl).collect::<Vec<_>>(), [270, 0]);
    assert_eq!(aged.edns, Message::from_vec(&message.to_vec().unwrap()).unwrap().edns);
}

#[test]
fn an_answer_is_to_the_question_asked() {
    let mut query = Message::query();
    query.metadata.id = 7;
    query.add_query(Query::query(name("EXAMPLE.org."), RecordType::A));
    let query = query.to_vec().unwrap();
    let good = response(&[1]).to_vec().unwrap();
    assert!(answers(&good, &query));
    let mut other_id = good.clone();
    other_id[1] += 1;
    assert!(!answers(&other_id, &query));
    assert!(!answers(&query, &query), "no response");
    let mut other_question = good;
    other_question[13] = b'x';
    assert!(!answers(&other_question, &query));
}

proptest! {
    #[test]
    fn nothing_that_comes_in_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), ttls in any::<bool>()) {
        let mut bytes = bytes;
        if ttls {
            let whole = response(&[5, 6]).to_vec().unwrap();
            bytes.splice(0..0, whole.iter().copied().take(60));
        }
        question(&bytes);
        life(&bytes);
        age(&mut bytes, 3);
        if bytes.len() >= HEADER {
            answers(&response(&[1]).to_vec().unwrap(), &bytes);
        }
    }
}
