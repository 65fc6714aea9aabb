use std::net::IpAddr;

use hickory_proto::op::Query;
use proptest::prelude::*;
use tiphys_client::ObjectKey;

use super::*;
use crate::dns::model::{Service, Slice};

struct Empty;

impl Catalog for Empty {
    fn service(&self, _: &ObjectKey) -> Option<Arc<Service>> {
        None
    }
    fn slices(&self, _: &ObjectKey) -> Vec<Arc<Slice>> {
        Vec::new()
    }
    fn has_namespace(&self, _: &str) -> bool {
        true
    }
    fn services_at(&self, _: IpAddr) -> Vec<ObjectKey> {
        Vec::new()
    }
    fn endpoints_at(&self, _: IpAddr) -> Vec<ObjectKey> {
        Vec::new()
    }
}

fn server() -> Arc<Server<Empty>> {
    let zone = Zone::new("cluster.local", Vec::new()).unwrap();
    Server::new(zone, Empty, Forwarder::new("/nonexistent".into(), Vec::new()))
}

fn respond(query: &[u8]) -> Option<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server().respond(query, Transport::Udp))
}

fn question(name: &str) -> Message {
    let mut query = Message::query();
    query.metadata.id = 7;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::TXT));
    query
}

fn code(query: &Message) -> ResponseCode {
    let answer = Message::from_vec(&respond(&query.to_vec().unwrap()).unwrap()).unwrap();
    assert_eq!(answer.metadata.id, 7);
    let high = answer.edns.as_ref().map_or(0, |edns| edns.rcode_high());
    ResponseCode::from(high, answer.metadata.response_code.low())
}

#[test]
fn what_cannot_be_answered_is_told_why() {
    let good = question("dns-version.cluster.local.");
    assert_eq!(code(&good), ResponseCode::NoError);
    let mut two = good.clone();
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two), ResponseCode::FormErr);
    let mut update = good.clone();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut chaos = good.clone();
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&chaos), ResponseCode::Refused);
    let mut newer = good.clone();
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    // BADSIG has the same number.
    assert_eq!(u16::from(code(&newer)), u16::from(ResponseCode::BADVERS));
    assert_eq!(code(&question("example.org.")), ResponseCode::ServFail, "nobody to ask");
}

#[test]
fn an_answer_is_never_answered() {
    let mut answer = question("dns-version.cluster.local.");
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(respond(&answer.to_vec().unwrap()), None);
    assert_eq!(respond(b"short"), None);
    let broken = respond(&[0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63]).unwrap();
    assert_eq!(Message::from_vec(&broken).unwrap().metadata.response_code, ResponseCode::FormErr);
}

proptest! {
    #[test]
    fn nothing_that_comes_in_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..60), keep in 0usize..60, whole in any::<bool>(),
    ) {
        let mut query = question("a.b.svc.cluster.local.").to_vec().unwrap();
        query.truncate(keep.max(2));
        if whole {
            query.clear();
        }
        query.extend_from_slice(&noise);
        respond(&query);
    }
}
