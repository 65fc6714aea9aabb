use crate::{Environment, Program, Type};

fn mistakes(source: &str) -> String {
    let environment = Environment::new().with("object", Type::Dyn).with("x", Type::Int);
    Program::compile(source, &environment).map_or_else(|e| e.to_string(), |_| "none".to_owned())
}

#[test]
fn mistakes_say_where_they_are() {
    for (source, wanted) in [
        (
            "object.foo >",
            "ERROR: <input>:1:13: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', \
             'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | object.foo >\n | \
             ............^",
        ),
        (
            "true &&\n  'a\tb' ) ",
            "ERROR: <input>:2:9: Syntax error: mismatched input ')' expecting <EOF>\n |   'a b' ) \n | ........^",
        ),
        ("'abc", "ERROR: <input>:1:1: Syntax error: token recognition error at: ''abc'\n | 'abc\n | ^"),
        ("x # 1", "ERROR: <input>:1:3: Syntax error: token recognition error at: '#'\n | x # 1\n | ..^"),
        ("if", "ERROR: <input>:1:1: reserved identifier: if\n | if\n | ^"),
        ("has(x)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(x)\n | ....^"),
        (
            "[1].all(object.x, true)",
            "ERROR: <input>:1:15: argument must be a simple name\n | [1].all(object.x, true)\n | ..............^",
        ),
        ("99999999999999999999", "ERROR: <input>:1:1: invalid int literal\n | 99999999999999999999\n | ^"),
        (
            "object.in",
            "ERROR: <input>:1:8: Syntax error: mismatched input 'in' expecting IDENTIFIER\n | object.in\n | .......^",
        ),
        ("object.namespace == 'a' // a remark", "none"),
    ] {
        assert_eq!(mistakes(source), wanted, "{source}");
    }
}

#[test]
fn a_source_that_is_too_long_is_refused() {
    let long = " ".repeat(100_001);
    assert!(mistakes(&long).contains("expression code point size exceeds limit: size: 100001, limit 100000"));
}
