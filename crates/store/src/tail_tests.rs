use super::*;

fn revisions(tail: &Tail, after: u64, limit: usize) -> Option<Vec<u64>> {
    let steps = tail.after(Revision(after), limit)?;
    Some(steps.iter().map(|step| step.revision.get()).collect())
}

#[test]
fn it_holds_the_newest_without_a_gap() {
    let mut tail = Tail::new(Revision(2), 100);
    assert_eq!(revisions(&tail, 2, 9), Some(vec![]));
    assert_eq!(revisions(&tail, 1, 9), None);
    for revision in 3..=10 {
        tail.push(Step::new(Revision(revision), Vec::new(), 30));
    }
    assert_eq!(revisions(&tail, 7, 9), Some(vec![8, 9, 10]));
    assert_eq!(revisions(&tail, 7, 2), Some(vec![8, 9]));
    assert_eq!(revisions(&tail, 10, 9), Some(vec![]));
    assert_eq!(revisions(&tail, 6, 9), None);
    tail.push(Step::new(Revision(11), Vec::new(), 1000));
    assert_eq!(revisions(&tail, 10, 9), Some(vec![11]));
    assert_eq!(revisions(&tail, 9, 9), None);
}
