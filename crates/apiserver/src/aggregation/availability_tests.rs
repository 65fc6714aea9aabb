use super::*;

#[test]
fn a_condition_is_written_once_and_keeps_its_time_while_it_lasts() {
    let failing =
        |message: &str| Condition { available: false, reason: "Failed", message: message.to_owned() };
    let object = json!({"status": {"conditions": [{"type": "Other"}]}});
    let first = with_condition(&object, &failing("a"), "1").unwrap();
    assert_eq!(first["status"]["conditions"][0]["type"], "Other");
    assert_eq!(with_condition(&first, &failing("a"), "2"), None);
    let second = with_condition(&first, &failing("b"), "3").unwrap();
    assert_eq!(second["status"]["conditions"][1]["lastTransitionTime"], "1");
    let works = Condition { available: true, reason: "Passed", message: String::new() };
    let third = with_condition(&second, &works, "4").unwrap();
    let available = &third["status"]["conditions"][1];
    assert_eq!((&available["status"], &available["lastTransitionTime"]), (&json!("True"), &json!("4")));
}
