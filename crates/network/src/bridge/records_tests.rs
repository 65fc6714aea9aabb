use std::fs;

use super::*;
use crate::bridge::Protocol;

fn range(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn port(host_ip: Option<&str>, host_port: u16) -> PortMapping {
    PortMapping {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        container_port: 80,
        protocol: Protocol::Tcp,
    }
}

#[test]
fn allocations_survive_reopening_and_torn_files_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Records::open(dir.path(), range("10.1.0.0/24")).unwrap();
    let (a, made) = records.reserve("a", &[port(None, 8080)]).unwrap();
    assert!(made);
    assert_eq!(a.address, Ipv4Addr::new(10, 1, 0, 2), "network and gateway are never given out");
    fs::write(dir.path().join("torn"), b"{\"addr").unwrap();
    fs::write(dir.path().join(".b"), b"").unwrap();

    let mut records = Records::open(dir.path(), range("10.1.0.0/24")).unwrap();
    assert_eq!(records.reserve("a", &[]).unwrap(), (a, false), "the record is the first call's");
    assert_eq!(records.iter().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_released_address_rests_until_the_range_comes_round() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Records::open(dir.path(), range("10.1.0.0/29")).unwrap();
    let mut given: Vec<u8> = Vec::new();
    for id in ["a", "b", "c"] {
        given.push(records.reserve(id, &[]).unwrap().0.address.octets()[3]);
    }
    records.release("a").unwrap();
    for id in ["d", "e", "f"] {
        given.push(records.reserve(id, &[]).unwrap().0.address.octets()[3]);
    }
    assert_eq!(given, [2, 3, 4, 5, 6, 2]);
    assert!(matches!(records.reserve("g", &[]), Err(Error::Exhausted(_))));
    assert!(records.release("nobody").unwrap().is_none());
}

#[test]
fn records_of_another_range_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    Records::open(dir.path(), range("10.1.0.0/24")).unwrap().reserve("a", &[]).unwrap();
    let records = Records::open(dir.path(), range("10.2.0.0/24")).unwrap();
    assert!(records.get("a").is_none());
}

#[test]
fn a_sandbox_id_cannot_leave_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Records::open(dir.path(), range("10.1.0.0/24")).unwrap();
    for id in ["", "..", ".hidden", "a/b", "a\0b"] {
        assert!(
            matches!(records.reserve(id, &[]), Err(Error::Files(sandbox_files::Error::InvalidSandbox(_)))),
            "{id:?}"
        );
    }
}

#[test]
fn a_host_port_has_one_holder() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Records::open(dir.path(), range("10.1.0.0/24")).unwrap();
    records.reserve("a", &[port(Some("10.0.0.1"), 80)]).unwrap();
    records.reserve("b", &[port(Some("10.0.0.2"), 80)]).unwrap();
    assert!(matches!(records.reserve("c", &[port(None, 80)]), Err(Error::PortTaken { port: 80, .. })));
    records.release("a").unwrap();
    records.release("b").unwrap();
    records.reserve("c", &[port(None, 80)]).unwrap();
}
