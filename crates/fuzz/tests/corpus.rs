//! What the fuzzer begins with, and what it once found, is tried in every run.

use std::path::Path;

use tiphys_fuzz::TARGETS;

#[test]
fn every_committed_input_keeps_the_laws() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, run) in TARGETS {
        let inputs = std::fs::read_dir(corpus.join(name)).unwrap_or_else(|e| panic!("inputs of {name}: {e}"));
        let mut tried = 0;
        for input in inputs {
            let path = input.unwrap().path();
            // So that it is told what fails.
            eprintln!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            tried += 1;
        }
        assert!(tried > 0, "{name} has no input");
    }
    let known = |name: &str| tiphys_fuzz::target(name).is_some();
    for folder in std::fs::read_dir(corpus).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(known(&name), "{name} is no target");
    }
}
