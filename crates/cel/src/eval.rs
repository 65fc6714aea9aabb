//! Walks a checked tree. What every step costs follows upstream, as if macros were the loops that it expands
//! them to.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::check::Reference;
use crate::error::EvalError;
use crate::library::Price;
use crate::library::collections::sort_by;
use crate::price;
use crate::program::{Bindings, Budget, Program};
use crate::syntax::ast::{Access, Expr, Fold, FoldKind, Literal, Node};
use crate::value::{Key, Map, Str, Struct, Value};

type Out<'a> = Result<Value<'a>, EvalError>;

pub(crate) struct Evaluator<'e, 'a> {
    program: &'a Program,
    bindings: &'e Bindings<'a>,
    budget: &'e mut Budget,
    locals: Vec<Value<'a>>,
}

impl<'e, 'a> Evaluator<'e, 'a> {
    pub(crate) fn new(program: &'a Program, bindings: &'e Bindings<'a>, budget: &'e mut Budget) -> Self {
        Self { program, bindings, budget, locals: Vec::new() }
    }

    pub(crate) fn run(mut self) -> Out<'a> {
        let program = self.program;
        self.expr(&program.expr)
    }

    /// Each kind of node has a function of its own, which keeps the stack of this one small.
    fn expr(&mut self, expr: &'a Expr) -> Out<'a> {
        match &expr.node {
            Node::Literal(literal) => Ok(constant(literal)),
            Node::Ident(_) => self.name(expr),
            Node::Select { operand, field, access } => self.select(expr, operand, field, *access),
            Node::Call { .. } => self.call(expr),
            Node::Logic { and, terms } => self.logic(*and, terms),
            Node::Conditional(parts) => self.conditional(parts),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Struct { fields, .. } => self.structure(expr, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::OptMap { target, body, flat, .. } => self.opt_map(target, body, *flat),
        }
    }

    fn reference(&self, expr: &Expr) -> &'a Reference {
        &self.program.checked.references[expr.id as usize]
    }

    /// A variable, a bound name, or a type.
    fn name(&mut self, expr: &Expr) -> Out<'a> {
        self.budget.spend(price::STEP)?;
        match self.reference(expr) {
            Reference::Local(at) => Ok(self.locals[*at].clone()),
            Reference::Global(at) => {
                let name = &self.program.variables[*at];
                let found = self.bindings.get(name).cloned();
                found.ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}")))
            }
            Reference::Type(name) => Ok(Value::Type(Str::Borrowed(name))),
            Reference::None | Reference::Call { .. } => Err(EvalError::no_overload()),
        }
    }

    fn select(&mut self, expr: &'a Expr, operand: &'a Expr, field: &'a Arc<str>, access: Access) -> Out<'a> {
        if !matches!(self.reference(expr), Reference::None) {
            return self.name(expr);
        }
        let operand = self.expr(operand)?;
        if access != Access::Test {
            self.budget.spend(price::STEP)?;
        }
        let (operand, optional) = match operand {
            Value::Optional(None) => {
                return Ok(if access == Access::Test { Value::Bool(false) } else { Value::Optional(None) });
            }
            Value::Optional(Some(of)) => ((*of).clone(), true),
            other => (other, access == Access::Optional),
        };
        let found = self.field(&operand, field)?;
        match access {
            Access::Test => Ok(Value::Bool(found.is_some())),
            _ if optional => Ok(Value::Optional(found.map(Rc::new))),
            _ => found.ok_or_else(|| EvalError::new(format!("no such key: {field}"))),
        }
    }

    fn field(&mut self, of: &Value<'a>, name: &'a Arc<str>) -> Result<Option<Value<'a>>, EvalError> {
        match of {
            Value::Map(map) => Ok(map.get(&Key::String(Str::Borrowed(name)))),
            Value::Object(object) => object.get(name, self.budget).transpose(),
            Value::Struct(made) => Ok(made.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())),
            _ => Err(EvalError::no_overload()),
        }
    }

    fn call(&mut self, expr: &'a Expr) -> Out<'a> {
        let Node::Call { target, args, .. } = &expr.node else { return Err(EvalError::no_overload()) };
        let Reference::Call { function, receiver, .. } = self.reference(expr) else {
            return Err(EvalError::no_overload());
        };
        let mut values = Vec::with_capacity(args.len() + 1);
        if let Some(target) = target
            && *receiver
        {
            values.push(self.expr(target)?);
        }
        for arg in args {
            values.push(self.expr(arg)?);
        }
        if matches!(function.price, Price::Find | Price::Matches)
            && let Some(Value::String(pattern)) = values.get(1)
            && !self.program.regexes.knows(pattern)
        {
            self.budget.spend(price::PATTERN)?;
        }
        // What grows with its arguments is paid for before it is done.
        if let Some(cost) = price::before(function.price, &values) {
            self.budget.spend(cost)?;
            return (function.body)(&self.program.regexes, &values);
        }
        let result = (function.body)(&self.program.regexes, &values)?;
        self.budget.spend(price::after(function.price, &result))?;
        Ok(result)
    }

    /// A term that decides wins over one that fails before it.
    fn logic(&mut self, and: bool, terms: &'a [Expr]) -> Out<'a> {
        let mut failed = None;
        for term in terms {
            match self.expr(term) {
                Ok(Value::Bool(b)) if b != and => return Ok(Value::Bool(b)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::no_overload())),
                Err(EvalError::Failed(why)) => failed = failed.or(Some(EvalError::Failed(why))),
                Err(spent) => return Err(spent),
            }
        }
        failed.map_or(Ok(Value::Bool(and)), Err)
    }

    fn conditional(&mut self, parts: &'a [Expr; 3]) -> Out<'a> {
        match self.expr(&parts[0])? {
            Value::Bool(true) => self.expr(&parts[1]),
            Value::Bool(false) => self.expr(&parts[2]),
            _ => Err(EvalError::no_overload()),
        }
    }

    /// An item; `None` for an optional one that is empty.
    fn item(&mut self, item: &'a Expr, optional: bool) -> Result<Option<Value<'a>>, EvalError> {
        match self.expr(item)? {
            Value::Optional(of) if optional => Ok(of.map(|of| (*of).clone())),
            _ if optional => Err(EvalError::no_overload()),
            value => Ok(Some(value)),
        }
    }

    fn list(&mut self, items: &'a [(Expr, bool)]) -> Out<'a> {
        let mut made = Vec::with_capacity(items.len());
        for (item, optional) in items {
            made.extend(self.item(item, *optional)?);
        }
        self.budget.spend(price::LIST)?;
        Ok(Value::list(made))
    }

    fn map(&mut self, entries: &'a [(Expr, Expr, bool)]) -> Out<'a> {
        let mut made = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.expr(key)?;
            let value = self.item(value, *optional)?;
            if let Some(value) = value {
                insert(&mut made, &key, value)?;
            }
        }
        self.budget.spend(price::MAP)?;
        Ok(Value::Map(Map::Made(Rc::new(made))))
    }

    fn structure(&mut self, expr: &'a Expr, fields: &'a [(Arc<str>, Expr, bool)]) -> Out<'a> {
        let Reference::Type(name) = self.reference(expr) else { return Err(EvalError::no_overload()) };
        let mut made: Vec<(Arc<str>, Value<'a>)> = Vec::with_capacity(fields.len());
        for (field, value, optional) in fields {
            if let Some(value) = self.item(value, *optional)? {
                made.retain(|(name, _)| name != field);
                made.push((Arc::clone(field), value));
            }
        }
        self.budget.spend(price::STRUCT)?;
        Ok(Value::Struct(Rc::new(Struct { name: Arc::clone(name), fields: made })))
    }

    fn fold(&mut self, fold: &'a Fold) -> Out<'a> {
        let range = self.expr(&fold.range)?;
        let depth = self.locals.len();
        let result = self.walk(fold, &range);
        self.locals.truncate(depth);
        result
    }

    fn walk(&mut self, fold: &'a Fold, range: &Value<'a>) -> Out<'a> {
        let mut state = State::default();
        match range {
            Value::List(list) => {
                for (at, item) in list.iter().enumerate() {
                    let key = if fold.var2.is_some() { Value::Int(at as i64) } else { item.clone() };
                    if self.step(fold, &mut state, key, item)?.is_break() {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = if fold.var2.is_some() { map.get(&key) } else { None };
                    if self.step(fold, &mut state, key.value(), value.unwrap_or(Value::Null))?.is_break() {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_overload()),
        }
        self.budget.spend(price::fold_result(fold.kind))?;
        state.finish(fold.kind)
    }

    fn step(
        &mut self,
        fold: &'a Fold,
        state: &mut State<'a>,
        key: Value<'a>,
        item: Value<'a>,
    ) -> Result<std::ops::ControlFlow<()>, EvalError> {
        use std::ops::ControlFlow::{Break, Continue};
        let depth = self.locals.len();
        self.locals.push(key.clone());
        if fold.var2.is_some() {
            self.locals.push(item.clone());
        }
        self.budget.spend(price::fold_condition(fold.kind))?;
        if let Some(filter) = &fold.filter {
            match self.expr(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => {
                    self.locals.truncate(depth);
                    self.budget.spend(price::STEP)?;
                    return Ok(Continue(()));
                }
                _ => return Err(EvalError::no_overload()),
            }
        }
        let body = self.expr(&fold.body);
        self.locals.truncate(depth);
        self.budget.spend(price::fold_step(fold.kind))?;
        match fold.kind {
            FoldKind::All | FoldKind::Exists => match body {
                Ok(Value::Bool(b)) if b != (fold.kind == FoldKind::All) => {
                    state.decided = true;
                    return Ok(Break(()));
                }
                Ok(Value::Bool(_)) => {}
                Ok(_) => state.failed = state.failed.take().or(Some(EvalError::no_overload())),
                Err(EvalError::Failed(why)) => {
                    state.failed = state.failed.take().or(Some(EvalError::Failed(why)));
                }
                Err(spent) => return Err(spent),
            },
            FoldKind::ExistsOne => match body? {
                Value::Bool(b) => state.count += u64::from(b),
                _ => return Err(EvalError::no_overload()),
            },
            FoldKind::List => state.items.push(body?),
            FoldKind::SortBy => state.keyed.push((body?, item)),
            FoldKind::TransformMap => insert(&mut state.map, &key, body?)?,
            FoldKind::TransformMapEntry => match body? {
                Value::Map(map) => {
                    for key in map.keys() {
                        if let Some(value) = map.get(&key) {
                            insert(&mut state.map, &key.value(), value)?;
                        }
                    }
                }
                _ => return Err(EvalError::no_overload()),
            },
        }
        Ok(Continue(()))
    }

    fn opt_map(&mut self, target: &'a Expr, body: &'a Expr, flat: bool) -> Out<'a> {
        let of = match self.expr(target)? {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(of)) => of,
            _ => return Err(EvalError::no_overload()),
        };
        self.budget.spend(price::OPT_MAP)?;
        self.locals.push((*of).clone());
        let result = self.expr(body);
        self.locals.pop();
        if flat { result } else { result.map(Value::some) }
    }
}

/// What a walk has gathered.
#[derive(Default)]
struct State<'a> {
    /// An item has decided the quantifier.
    decided: bool,
    failed: Option<EvalError>,
    count: u64,
    items: Vec<Value<'a>>,
    keyed: Vec<(Value<'a>, Value<'a>)>,
    map: BTreeMap<Key<'a>, Value<'a>>,
}

impl<'a> State<'a> {
    fn finish(self, kind: FoldKind) -> Out<'a> {
        let all = kind == FoldKind::All;
        match kind {
            FoldKind::All | FoldKind::Exists if self.decided => Ok(Value::Bool(!all)),
            FoldKind::All | FoldKind::Exists => self.failed.map_or(Ok(Value::Bool(all)), Err),
            FoldKind::ExistsOne => Ok(Value::Bool(self.count == 1)),
            FoldKind::List => Ok(Value::list(self.items)),
            FoldKind::SortBy => sort_by(self.keyed),
            FoldKind::TransformMap | FoldKind::TransformMapEntry => {
                Ok(Value::Map(Map::Made(Rc::new(self.map))))
            }
        }
    }
}

fn insert<'a>(
    map: &mut BTreeMap<Key<'a>, Value<'a>>,
    key: &Value<'a>,
    value: Value<'a>,
) -> Result<(), EvalError> {
    let Some(of) = Key::of(key).filter(|_| !matches!(key, Value::Double(_))) else {
        return Err(EvalError::new(format!("unsupported key type: {}", key.type_name())));
    };
    if map.insert(of, value).is_some() {
        return Err(EvalError::new(format!("insert failed: key {key:?} already exists")));
    }
    Ok(())
}

fn constant(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(i) => Value::Int(*i),
        Literal::Uint(u) => Value::Uint(*u),
        Literal::Double(d) => Value::Double(*d),
        Literal::String(s) => Value::String(Str::Borrowed(s)),
        Literal::Bytes(b) => Value::Bytes(Rc::from(&**b)),
    }
}

#[cfg(test)]
#[path = "eval_tests.rs"]
pub(crate) mod tests;
