use super::Warnings;

#[test]
fn warnings_are_told_once_and_cut_when_they_are_too_many() {
    let warnings = Warnings::default();
    warnings.add("ä".repeat(4000));
    warnings.add("");
    warnings.add("short");
    warnings.add("short");
    assert_eq!(warnings.take().iter().map(|w| w.chars().count()).collect::<Vec<_>>(), [4000, 5]);
    for n in 0..100 {
        warnings.add(format!("{n:>4000}"));
    }
    let told = warnings.take();
    assert_eq!((told.len(), told[0].len()), (16, 256));
}
