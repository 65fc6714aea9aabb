use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::{Bindings, Budget, Environment, EvalError, Program, RUNTIME_BUDGET, Type, Value};

fn environment() -> Environment {
    Environment::new().with("object", Type::Dyn).with("x", Type::Int).with("names", Type::list(Type::String))
}

/// What an expression gives, as it is written in debug output; or its error.
fn run(source: &str) -> String {
    let object = json!({
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "a.b/c": "d"}},
        "spec": {"replicas": 3, "ratio": 1.5, "containers": [{"name": "a"}, {"name": "b", "image": "b:1"}]},
        "nothing": null,
    });
    let names = json!(["b", "a", "c"]);
    let program = match Program::compile(source, &environment()) {
        Ok(program) => program,
        Err(errors) => return format!("{errors}").lines().next().unwrap_or_default().to_owned(),
    };
    let bindings = Bindings::new()
        .with("object", Value::from_json(&object, &Type::Dyn))
        .with("names", Value::from_json(&names, &Type::list(Type::String)))
        .with("x", Value::Int(4));
    match program.evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)) {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error}"),
    }
}

/// Each expression gives what is written beside it.
pub(crate) fn all_give(run: impl Fn(&str) -> String, cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(source, wanted)| {
            let found = run(source);
            (found != *wanted).then(|| format!("{source}\n  gives {found}\n  not   {wanted}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn table(cases: &[(&str, &str)]) {
    all_give(run, cases);
}

#[test]
fn a_value_is_named_where_that_is_allowed() {
    let gives = |source: &str, environment: Environment| match Program::compile(source, &environment) {
        Ok(program) => match program.evaluate(&Bindings::new(), &mut Budget::new(RUNTIME_BUDGET)) {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("error: {error}"),
        },
        Err(errors) => format!("{errors}").lines().next().unwrap_or_default().to_owned(),
    };
    let bound = |source: &str| gives(source, Environment::new().with_bind());
    all_give(
        bound,
        &[
            ("cel.bind(a, 2, a * a + a)", "6"),
            ("cel.bind(a, [1, 2], cel.bind(b, a.size(), b + a[0]))", "3"),
            ("cel.bind(a, 1, a == 1) && cel.bind(a, 'x', a == 'x')", "true"),
            ("cel.bind(a, 1 / 0, 3)", "error: division by zero"),
            (
                "cel.bind(a.b, 1, 2)",
                "ERROR: <input>:1:11: cel.bind() variable names must be simple identifiers",
            ),
        ],
    );
    let unbound = gives("cel.bind(a, 2, a)", Environment::new());
    assert!(unbound.contains("undeclared reference to 'cel'"), "{unbound}");
    let deep = (0..200).fold("a".to_owned(), |body, _| format!("cel.bind(a, 1, {body})"));
    assert!(bound(&deep).starts_with("ERROR"), "it may not be higher than other trees");
}

#[test]
fn arithmetic_and_comparison() {
    table(&[
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("-x + 1", "-3"),
        ("--x", "4"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("0u - 1u", "error: unsigned integer overflow"),
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("1.0 / 0.0 > 5.0", "true"),
        ("0x10 + 0xf", "31"),
        ("1e3", "1000.0"),
        (".5 + 1.25", "1.75"),
        ("'a' + \"b\" + r'\\n' + '''c'''", "\"ab\\\\nc\""),
        ("'\\u00e9\\x41\\101'", "\"éAA\""),
        ("b'\\xff' == b'\\377'", "true"),
        ("1 < 2.5 && 2u > 1 && 3 >= 3u", "true"),
        ("dyn(1) == 1.0 && dyn(1u) == 1", "true"),
        ("dyn('1') == 1", "false"),
        // Compared as doubles, of which both are the same.
        ("9223372036854775807 < 9223372036854775808.0", "false"),
        ("'a' < 'b' && b'a' < b'b' && false < true", "true"),
        ("[1, 2] == [1, 2] && {'a': 1} == {'a': 1}", "true"),
        ("[1, 2] + [3]", "[1, 2, 3]"),
        ("!(x > 3) || x in [4]", "true"),
        ("x > 3 ? 'big' : 'small'", "\"big\""),
    ]);
}

#[test]
fn what_decides_wins_over_what_fails() {
    table(&[
        ("1 / 0 > 1 || true", "true"),
        ("1 / 0 > 1 && false", "false"),
        ("1 / 0 > 1 && true", "error: division by zero"),
        ("[0, 1].exists(i, 1 / i == 1)", "true"),
        ("[0, 1].all(i, 1 / i == 2)", "false"),
        ("[0, 1].all(i, 1 / i == 1)", "error: division by zero"),
        ("[0, 1].exists_one(i, 1 / i == 1)", "error: division by zero"),
    ]);
}

#[test]
fn fields_of_trees() {
    table(&[
        ("object.spec.replicas", "3"),
        ("object.spec.ratio", "1.5"),
        ("object.metadata.namespace", "\"default\""),
        ("object.metadata.labels['a.b/c']", "\"d\""),
        ("object.metadata.labels.`a.b/c`", "\"d\""),
        ("has(object.spec.paused)", "false"),
        ("has(object.spec.replicas)", "true"),
        ("has(object.nope.deeper)", "error: no such key: nope"),
        ("object.spec.paused", "error: no such key: paused"),
        ("object.nothing == null", "true"),
        ("object.spec.containers[1].image", "\"b:1\""),
        ("object.spec.containers[2]", "error: index out of bounds: 2"),
        ("object.spec.containers.map(c, c.name)", "[\"a\", \"b\"]"),
        ("object.spec.containers.filter(c, has(c.image)).size()", "1"),
        ("object.spec.containers.exists(c, c.name == 'b')", "true"),
        ("'app' in object.metadata.labels", "true"),
        ("object.metadata.labels.all(k, k != 'z')", "true"),
        ("object.spec.replicas.foo", "error: no such overload"),
        ("object.?spec.?paused.orValue(true)", "true"),
        ("object.?spec.replicas.hasValue()", "true"),
        ("object.metadata.labels[?'zzz'].optMap(v, v + '!').orValue('none')", "\"none\""),
        ("object.metadata.labels[?'app'].optMap(v, v + '!').orValue('none')", "\"web!\""),
        ("[?object.?nope, ?object.?spec.?replicas]", "[3]"),
        ("{?'a': object.?nope, 'b': 1}", "{\"b\": 1}"),
    ]);
}

#[test]
fn walks() {
    table(&[
        ("names.map(n, n != 'b', n + n)", "[\"aa\", \"cc\"]"),
        ("names.exists_one(n, n == 'a')", "true"),
        ("names.existsOne(n, n >= 'a')", "false"),
        ("[].all(n, false)", "true"),
        ("names.all(i, n, i < 3 && n != '')", "true"),
        ("{'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"),
        ("names.transformList(i, n, i > 0, n + string(i))", "[\"a1\", \"c2\"]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v * 2)", "{\"a\": 2, \"b\": 4}"),
        ("names.transformMapEntry(i, n, {n: i})", "{\"a\": 1, \"b\": 0, \"c\": 2}"),
        ("[1, 1].transformMapEntry(i, n, {n: i})", "error: insert failed: key 1 already exists"),
        ("['ccc', 'a', 'bb'].sortBy(s, s.size())", "[\"a\", \"bb\", \"ccc\"]"),
        ("names.map(n, names.filter(m, m < n).size())", "[1, 0, 2]"),
    ]);
}

#[test]
fn a_budget_ends_what_is_too_dear() {
    let ints = Environment::new();
    let numbers: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    let list = format!("[{}]", numbers.join(","));
    let dear = format!("{list}.all(a, {list}.all(b, {list}.all(c, a + b + c >= 0)))");
    let program = Program::compile(&dear, &ints).unwrap();
    let mut budget = Budget::new(RUNTIME_BUDGET);
    assert_eq!(program.evaluate(&Bindings::new(), &mut budget).unwrap_err(), EvalError::TooDear);
    assert!(budget.remaining() < RUNTIME_BUDGET && budget.remaining() > 0);

    let mut small = Budget::new(50);
    assert_eq!(program.evaluate(&Bindings::new(), &mut small).unwrap_err(), EvalError::BudgetSpent);
    assert_eq!(small.remaining(), 0);
}

#[test]
fn patterns_that_come_with_objects_are_paid_for_once() {
    let cost = |source: &str| {
        let program = Program::compile(source, &environment()).unwrap();
        let mut budget = Budget::new(RUNTIME_BUDGET);
        let result = program.evaluate(&Bindings::new(), &mut budget);
        (RUNTIME_BUDGET - budget.remaining(), result.is_ok())
    };
    assert!(cost("['a', 'b', 'c'].all(s, s.matches('[abc]'))").0 < 100);
    let (once, _) = cost("['a', 'b', 'c'].all(s, s.matches('[ab' + 'c]'))");
    assert!((1_000..1_200).contains(&once), "{once}");
    let many = "lists.range(100000).all(i, !'a'.matches('[b]{' + string(i % 999 + 1) + '}'))";
    assert!(!cost(many).1);
}

#[test]
fn steps_cost_what_they_cost_upstream() {
    let cost = |source: &str| {
        let program = Program::compile(source, &environment()).unwrap();
        let object = json!({"spec": {"a": "0123456789012345678901234"}});
        let bindings =
            Bindings::new().with("object", Value::from_json(&object, &Type::Dyn)).with("x", Value::Int(1));
        let mut budget = Budget::new(RUNTIME_BUDGET);
        program.evaluate(&bindings, &mut budget).unwrap();
        RUNTIME_BUDGET - budget.remaining()
    };
    for (source, wanted) in [
        ("1", 0),
        ("x", 1),
        ("object.spec.a", 3),
        ("has(object.spec.a)", 2),
        ("x + 1", 2),
        ("[x]", 11),
        ("{'a': x}", 31),
        // Three for each side, and a tenth for each of 25 characters.
        ("object.spec.a == object.spec.a", 9),
        ("object.spec.a.startsWith('0')", 6),
        // Each item: 2 to ask whether to go on, 2 for the body, 1 to note it; 1 for the result, 10 for the list.
        ("[1, 2].all(i, i > 0)", 10 + 2 * (2 + 2 + 1) + 1),
    ] {
        assert_eq!(cost(source), wanted, "{source}");
    }
}

#[test]
fn the_deepest_expression_fits_a_small_stack() {
    let depth = 95;
    let nested = format!("{}1{}", "(1 + ".repeat(depth), ")".repeat(depth));
    let lists = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let sum = format!("1{}", " + 1".repeat(240));
    let bangs = format!("{}true", "!".repeat(50_000));
    let deeper = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let longer = format!("1{}", " + 1".repeat(20_000));
    let run = move || {
        for source in [&nested, &lists, &sum, &bangs] {
            let program = Program::compile(source, &Environment::new()).unwrap();
            program.evaluate(&Bindings::new(), &mut Budget::new(RUNTIME_BUDGET)).unwrap();
        }
        for source in [&deeper, &longer] {
            assert!(Program::compile(source, &Environment::new()).is_err());
        }
    };
    // Half of what a thread of the server has.
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

/// Pieces that make sources which get past the parser now and then.
const PIECES: [&str; 40] = [
    "object",
    "x",
    "names",
    ".",
    "a",
    "spec",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    "&&",
    "||",
    "==",
    "<",
    "+",
    "-",
    "*",
    "/",
    "%",
    "!",
    "in",
    "1",
    "2u",
    "1.5",
    "'s'",
    "b's'",
    "null",
    "true",
    ".all(i, ",
    ".map(i, ",
    "has(",
    ".size()",
    ".matches('a+')",
    "optional.of(",
    "i",
];

/// Calls of functions that look into texts and numbers; `S` and `N` stand for some of these.
const CALLS: [&str; 30] = [
    "S.substring(N, N)",
    "S.substring(N)",
    "S.charAt(N)",
    "S.indexOf(S, N)",
    "S.lastIndexOf(S, N)",
    "S.lastIndexOf(S)",
    "S.replace(S, S, N)",
    "S.split(S, N)",
    "S.format([S, N, N])",
    "S.find(S)",
    "S.findAll(S, N)",
    "[S, S].join(S)",
    "duration(S) + duration(N)",
    "timestamp(S).getHours(S)",
    "timestamp(N) - duration(N)",
    "string(timestamp(N))",
    "quantity(S).add(N).sub(quantity(S)).asInteger()",
    "quantity(S).asApproximateFloat()",
    "url(S).getHostname() + url(S).getEscapedPath() + string(url(S).getQuery().size())",
    "cidr(S).masked().containsCIDR(S)",
    "cidr(S + '/' + string(N)).containsIP(S)",
    "ip(S).isGlobalUnicast()",
    "semver(S, true).compareTo(semver(S))",
    "format.named(S).value().validate(S)",
    "[N, N].slice(N, N)",
    "lists.range(N % 100).sum()",
    "int(double(N) * double(S))",
    "uint(N) * uint(S)",
    "N / N + N % N",
    "strings.quote(S) + jsonpatch.escapeKey(S)",
];

fn texts() -> impl Strategy<Value = String> {
    let odd = [
        "%s%.3f%",
        "%5",
        "%.99999f",
        "1.2.3.4",
        "::1",
        "fe80::/10",
        "/",
        "http://[::1]:x/%zz",
        "-1h1.5s",
        "1e400",
        "Ki",
        "-9223372036854775808",
        "v1.02-a",
        "2020-02-30T00:00:00Z",
        "0001-01-01T00:00:00-23:59",
        "+99:99",
        "(a|",
        "é",
    ];
    prop_oneof![prop::sample::select(odd.to_vec()).prop_map(str::to_owned), ".{0,6}"]
}

fn trees() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,8}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-c]|spec", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// Compiles, and evaluates what compiles.
fn survive(source: &str, tree: &Json) {
    if let Ok(program) = Program::compile(source, &environment()) {
        let bindings = Bindings::new()
            .with("object", Value::from_json(tree, &Type::Dyn))
            .with("names", Value::from_json(tree, &Type::list(Type::String)))
            .with("x", Value::Int(i64::MIN));
        // Either is fine; that it comes back is what is tested.
        if let Ok(value) = program.evaluate(&bindings, &mut Budget::new(10_000)) {
            let shown = format!("{value:?}");
            assert!(!shown.is_empty());
            value.to_json();
        }
    }
}

proptest! {
    #[test]
    fn no_source_panics(source in ".{0,60}", tree in trees()) {
        survive(&source, &tree);
    }

    #[test]
    fn no_row_of_tokens_panics(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..16),
        tree in trees(),
    ) {
        survive(&pieces.concat(), &tree);
        survive(&pieces.join(" "), &tree);
    }

    #[test]
    fn no_argument_panics(
        call in prop::sample::select(CALLS.to_vec()),
        texts in prop::collection::vec(texts(), 3),
        numbers in prop::collection::vec(prop_oneof![any::<i64>(), -3_i64..10], 4),
    ) {
        let environment = (0..3).fold(Environment::new(), |e, i| e.with(["s0", "s1", "s2"][i], Type::Dyn));
        let environment = (0..4).fold(environment, |e, i| e.with(["n0", "n1", "n2", "n3"][i], Type::Dyn));
        let (mut s, mut n) = (0, 0);
        let source: String = call.chars().map(|c| match c {
            'S' => { s += 1; format!("s{}", s - 1) }
            'N' => { n += 1; format!("n{}", n - 1) }
            c => c.to_string(),
        }).collect();
        let program = Program::compile(&source, &environment).unwrap();
        let mut bindings = Bindings::new();
        for (name, text) in ["s0", "s1", "s2"].into_iter().zip(&texts) {
            bindings.set(name, Value::from(text.as_str()));
        }
        for (name, number) in ["n0", "n1", "n2", "n3"].into_iter().zip(&numbers) {
            bindings.set(name, Value::Int(*number));
        }
        // Either is fine; that it comes back is what is tested.
        if let Ok(value) = program.evaluate(&bindings, &mut Budget::new(1_000_000)) {
            let shown = format!("{value:?}");
            prop_assert!(!shown.is_empty());
        }
    }

    #[test]
    fn comparisons_of_numbers_agree_with_each_other(a in any::<i64>(), b in any::<u64>(), c in any::<f64>()) {
        let values = [Value::Int(a), Value::Uint(b), Value::Double(c)];
        for one in &values {
            for other in &values {
                let order = one.order(other);
                prop_assert_eq!(order, other.order(one).map(std::cmp::Ordering::reverse));
                prop_assert_eq!(one.equals(other), order == Some(std::cmp::Ordering::Equal));
            }
        }
    }
}
