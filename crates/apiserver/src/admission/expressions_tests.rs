use serde_json::{Value, json};
use tiphys_cel::admission::Declarations;
use tiphys_cel::{Bindings, Budget, RUNTIME_BUDGET, Type};

use super::{Conditions, Expression, Variables};

fn object(tree: &Value) -> Bindings<'_> {
    Bindings::new().with("object", tiphys_cel::Value::from_json(tree, &Type::Dyn))
}

#[test]
fn conditions_that_do_not_hold_win_over_those_that_fail() {
    let tree = json!({"a": 1});
    for (expressions, wanted) in [
        (vec!["object.a == 1", "true"], Ok(true)),
        (vec!["object.b == 1", "object.a == 2"], Ok(false)),
        (
            vec!["object.b == 1"],
            Err("expression 'object.b == 1' resulted in error: no such key: b".to_owned()),
        ),
        (
            vec!["object.b == 1", "object.c == 1"],
            Err("[expression 'object.b == 1' resulted in error: no such key: b, \
                 expression 'object.c == 1' resulted in error: no such key: c]"
                .to_owned()),
        ),
        (vec!["object.a"], Err("compilation error: must evaluate to bool but got dyn".to_owned())),
    ] {
        let all: Vec<Value> = expressions.iter().map(|e| json!({"name": "n", "expression": e})).collect();
        let conditions = Conditions::compile(&all, &Declarations::default());
        assert_eq!(conditions.hold(&object(&tree)), wanted, "{expressions:?}");
    }
}

#[test]
fn a_variable_is_evaluated_once_and_sees_those_before_it() {
    let tree = json!({"list": (0..1000).collect::<Vec<_>>()});
    let variables = json!([
        {"name": "big", "expression": "object.list.filter(i, i > 990)"},
        {"name": "count", "expression": "variables.big.size()"},
        {"name": "wrong", "expression": "object.list[5000]"},
        {"name": "broken", "expression": "nope"},
    ]);
    let mut declarations = Declarations::default();
    let variables = Variables::compile(variables.as_array().unwrap(), &mut declarations);
    let environment = declarations.environment();
    let cost = |source: &str, wanted: Result<(), &str>| {
        let expression = Expression::compile(source, &environment, &[Type::Bool]);
        let bindings = variables.bind(object(&tree));
        let mut budget = Budget::new(RUNTIME_BUDGET);
        let found = expression.evaluate(&bindings, &mut budget).unwrap();
        match wanted {
            Ok(()) => assert!(matches!(found, Ok(tiphys_cel::Value::Bool(true))), "{source}: {found:?}"),
            Err(why) => assert_eq!(found.unwrap_err(), why),
        }
        RUNTIME_BUDGET - budget.remaining()
    };
    let once = cost("variables.count == 9", Ok(()));
    let twice = cost("variables.count == 9 && variables.count + variables.count == 18", Ok(()));
    assert!(once > 1000 && twice < once + 20, "{once} {twice}");
    cost(
        "variables.wrong == 1",
        Err(
            "expression 'variables.wrong == 1' resulted in error: composited variable \"wrong\" fails to evaluate: \
             index out of bounds: 5000",
        ),
    );
    // An error that a term does not need is none.
    cost("variables.wrong == 1 || true", Ok(()));
    let found =
        Expression::compile("variables.count == 'a'", &environment, &[Type::Bool]).program.unwrap_err();
    assert!(found.contains("found no matching overload for '_==_' applied to '(int, string)'"), "{found}");
}
