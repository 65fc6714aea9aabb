use super::Usage;

#[test]
fn a_rate_needs_two_readings_that_lie_apart() {
    let second = 1_000_000_000;
    let mut usage = Usage::default();
    assert_eq!(usage.rate("/a", 0, 0), None);
    assert_eq!(usage.rate("/a", second / 2, 900), None, "too close");
    assert_eq!(usage.rate("/a", 2 * second, 1_000_000_000), Some(500_000_000));
    assert_eq!(usage.rate("/a", 2 * second + 1, 5), Some(500_000_000), "the last known rate holds");
    assert_eq!(usage.rate("/b", 3 * second, 7), None, "groups don't mix");
    assert_eq!(usage.rate("/a", 4 * second, 0), Some(0), "a counter that began anew isn't negative");
}
