use crate::{Declared, Environment, Program, Range, Sizes, Type};

struct Schema;

impl Sizes for Schema {
    fn max(&self, path: &[&str]) -> Option<u64> {
        match path {
            ["self", "name"] => Some(20),
            ["self", "list"] => Some(10),
            ["self", "list", "@items"] => Some(30),
            ["self", "map"] => Some(5),
            _ => None,
        }
    }
}

fn cost(source: &str) -> (u64, u64) {
    let object = Declared::new(
        "Object",
        [
            ("name", Type::String),
            ("number", Type::Int),
            ("list", Type::list(Type::String)),
            ("map", Type::map(Type::String, Type::Int)),
            ("endless", Type::list(Type::String)),
        ],
    );
    let environment = Environment::new().with("self", Type::Object(object));
    let Range { min, max } = Program::compile(source, &environment).unwrap().estimate(&Schema);
    (min, max)
}

#[test]
fn costs_are_bounded_by_what_a_schema_allows() {
    for (source, wanted) in [
        ("self.number > 5", (3, 3)),
        ("self.name == 'abc'", (3, 3)),
        ("self.name.startsWith('abcdefghijk')", (4, 4)),
        ("self.name.contains(self.name)", (4, 8)),
        ("self.number > 5 && self.number < 9", (3, 6)),
        ("has(self.name)", (1, 1)),
        ("true ? self.number : 1 + 1", (1, 2)),
        // Per item: 2 to ask whether to go on, 1 to note the answer, and the comparison with a text of 1.
        ("self.list.all(s, s == 'a')", (3, 2 + 10 * (2 + 1 + 2) + 1)),
        ("self.list.map(s, s)", (2 + 10 + 1, 2 + 10 + 10 * 13 + 1)),
        ("self.list.filter(s, s != 'a').size()", (2 + 10 + 1 + 1, 2 + 10 + 10 * (2 + 13) + 1 + 1)),
        (
            "self.list.exists(s, self.list.exists(t, t != s))",
            (3, 2 + 10 * (3 + 1 + 2 + 10 * (3 + 1 + 5) + 1) + 1),
        ),
        ("self.map.all(k, self.map[k] > 0)", (3, 2 + 5 * (2 + 1 + 5) + 1)),
        ("'a' in self.list", (2, 12)),
        ("self.name.matches('[a-z]+')", (4, 2 + 3 * 2)),
        ("self.list.join(',').size()", (3, 2 + 31 + 1)),
    ] {
        assert_eq!(cost(source), wanted, "{source}");
    }
    assert_eq!(cost("self.endless.all(a, self.endless.all(b, a != b))").1, u64::MAX);
}
