use super::parse_interfaces;

#[test]
fn counters_are_taken_from_their_columns() {
    let text = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo:  10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\n  \
        eth0: 1000 9 2 0 0 0 0 0 2000 8 3 0 0 0 0 0\n";
    assert_eq!(parse_interfaces(text), [("eth0".to_owned(), [1000, 2, 2000, 3])]);
}
