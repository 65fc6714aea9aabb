//! Calls that are macros: they bind names or look at an argument's form.

use std::sync::Arc;

use super::ast::{Access, Expr, Fold, FoldKind, Literal, Node};
use super::parser::{Noted, Parser};

/// A call without a target.
pub(super) fn global(p: &mut Parser<'_>, name: &Arc<str>, mut args: Vec<Expr>) -> Result<Node, Noted> {
    if name.as_ref() == "has" && args.len() == 1 {
        let arg = args.swap_remove(0);
        return match arg.node {
            Node::Select { operand, field, access: Access::Plain } => {
                Ok(Node::Select { operand, field, access: Access::Test })
            }
            _ => Err(p.fail(arg.at, "invalid argument to has() macro".to_owned())),
        };
    }
    Ok(Node::Call { function: Arc::clone(name), target: None, args })
}

/// A call with a target.
pub(super) fn member(
    p: &mut Parser<'_>,
    at: u32,
    name: &Arc<str>,
    target: Expr,
    args: Vec<Expr>,
) -> Result<Node, Noted> {
    use FoldKind::{All, Exists, ExistsOne, List, SortBy, TransformMap, TransformMapEntry};
    // Names that are bound, then whether a filter comes before the body.
    let (kind, names, filter) = match (name.as_ref(), args.len()) {
        ("all", 2) => (All, 1, false),
        ("all", 3) => (All, 2, false),
        ("exists", 2) => (Exists, 1, false),
        ("exists", 3) => (Exists, 2, false),
        ("exists_one" | "existsOne", 2) => (ExistsOne, 1, false),
        ("exists_one" | "existsOne", 3) => (ExistsOne, 2, false),
        ("map", 2) => (List, 1, false),
        ("map", 3) => (List, 1, true),
        ("filter", 2) => (List, 1, true),
        ("transformList", 3) => (List, 2, false),
        ("transformList", 4) => (List, 2, true),
        ("transformMap", 3) => (TransformMap, 2, false),
        ("transformMap", 4) => (TransformMap, 2, true),
        ("transformMapEntry", 3) => (TransformMapEntry, 2, false),
        ("transformMapEntry", 4) => (TransformMapEntry, 2, true),
        ("sortBy", 2) => (SortBy, 1, false),
        ("optMap" | "optFlatMap", 2) => {
            let mut args = args.into_iter();
            let (Some(var), Some(body)) = (args.next(), args.next()) else {
                return Err(p.fail(at, "two arguments are needed".to_owned()));
            };
            let var = variable(p, &var, "argument is not an identifier")?;
            let flat = name.as_ref() == "optFlatMap";
            return Ok(Node::OptMap { target: Box::new(target), var, body: Box::new(body), flat });
        }
        ("bind", 3) if p.binds && matches!(&target.node, Node::Ident(cel) if cel.as_ref() == "cel") => {
            return bind(p, at, args);
        }
        _ => return Ok(Node::Call { function: Arc::clone(name), target: Some(Box::new(target)), args }),
    };
    let is_filter = name.as_ref() == "filter";
    let quantifier = matches!(kind, All | Exists | ExistsOne) && names == 1;
    let message = if quantifier { "argument must be a simple name" } else { "argument is not an identifier" };
    let var = variable(p, &args[0], message)?;
    let var2 = if names == 2 { Some(variable(p, &args[1], "argument is not an identifier")?) } else { None };
    if var2.as_ref() == Some(&var) {
        let message = format!("duplicate variable name: {var}");
        return Err(p.fail(args[1].at, message));
    }
    let mut rest = args.into_iter().skip(names);
    let filter = if filter { rest.next() } else { None };
    let body = match rest.next() {
        Some(body) => body,
        None if is_filter => p.node(at, Node::Ident(Arc::clone(&var))),
        None => return Err(p.fail(at, "an expression is missing".to_owned())),
    };
    Ok(Node::Fold(Box::new(Fold { kind, range: target, var, var2, filter, body })))
}

/// How much higher a macro's node is than its arguments show.
pub(super) fn hidden_levels(name: &str, args: &[Expr]) -> u32 {
    if name == "bind" && args.len() == 3 { 2 } else { 0 }
}

/// `cel.bind(var, value, body)` is `[value].map(var, body)[0]`.
fn bind(p: &mut Parser<'_>, at: u32, args: Vec<Expr>) -> Result<Node, Noted> {
    let Ok([name, value, body]) = <[Expr; 3]>::try_from(args) else {
        return Err(p.fail(at, "three arguments are needed".to_owned()));
    };
    let var = variable(p, &name, "cel.bind() variable names must be simple identifiers")?;
    let range = p.node(value.at, Node::List(vec![(value, false)]));
    let fold = Fold { kind: FoldKind::List, range, var, var2: None, filter: None, body };
    let list = p.node(at, Node::Fold(Box::new(fold)));
    let first = p.node(at, Node::Literal(Literal::Int(0)));
    Ok(Node::Call { function: "_[_]".into(), target: None, args: vec![list, first] })
}

fn variable(p: &mut Parser<'_>, arg: &Expr, message: &str) -> Result<Arc<str>, Noted> {
    match &arg.node {
        Node::Ident(name) if matches!(name.as_ref(), "__result__" | "@result") => {
            Err(p.fail(arg.at, "iteration variable overwrites accumulator variable".to_owned()))
        }
        Node::Ident(name) => Ok(Arc::clone(name)),
        _ => Err(p.fail(arg.at, message.to_owned())),
    }
}
