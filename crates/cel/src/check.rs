//! Finds the type of every node, which function each call means and which variable each name; tells what does not
//! fit, worded and placed as upstream tells it.

mod unify;

use std::sync::Arc;

use crate::error::Errors;
use crate::library::{self, Function};
use crate::program::Environment;
use crate::syntax::ast::{Access, Expr, Fold, FoldKind, Literal, Node};
use crate::types::Type;
use unify::Unifier;

/// What a node refers to.
#[derive(Clone)]
pub(crate) enum Reference {
    None,
    /// The variable at this place of the environment; also for a selection that is a name with dots.
    Global(usize),
    /// The name at this place of the scopes around it.
    Local(usize),
    /// A type that is named.
    Type(Arc<str>),
    /// A call of those of a function's signatures that fit, one bit each. What looked like its receiver may be a
    /// part of its name: then it has none.
    Call {
        function: &'static Function,
        overloads: u32,
        receiver: bool,
    },
}

/// By the numbers of the nodes.
pub(crate) struct Checked {
    pub(crate) types: Vec<Type>,
    pub(crate) references: Vec<Reference>,
}

pub(crate) fn check(expr: &Expr, nodes: u32, environment: &Environment, errors: &mut Errors) -> Checked {
    let count = nodes as usize;
    let mut checker = Checker {
        environment,
        errors,
        unifier: Unifier::default(),
        scopes: Vec::new(),
        lenient: 0,
        types: vec![Type::Error; count],
        references: vec![Reference::None; count],
    };
    checker.expr(expr);
    let types = checker.types.iter().map(|t| checker.unifier.substitute(t, true)).collect();
    Checked { types, references: checker.references }
}

struct Checker<'c> {
    environment: &'c Environment,
    errors: &'c mut Errors,
    unifier: Unifier,
    scopes: Vec<(Arc<str>, Type)>,
    /// How many calls are around that take lists of anything.
    lenient: u32,
    types: Vec<Type>,
    references: Vec<Reference>,
}

impl Checker<'_> {
    fn fail(&mut self, at: u32, message: String) -> Type {
        self.errors.add(at, message);
        Type::Error
    }

    fn expr(&mut self, expr: &Expr) -> Type {
        let ty = match &expr.node {
            Node::Literal(literal) => match literal {
                Literal::Null => Type::Null,
                Literal::Bool(_) => Type::Bool,
                Literal::Int(_) => Type::Int,
                Literal::Uint(_) => Type::Uint,
                Literal::Double(_) => Type::Double,
                Literal::String(_) => Type::String,
                Literal::Bytes(_) => Type::Bytes,
            },
            Node::Ident(name) => self.ident(expr, name),
            Node::Select { operand, field, access } => self.select(expr, operand, field, *access),
            Node::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Node::Logic { terms, .. } => self.logic(terms),
            Node::Conditional(parts) => self.conditional(expr, parts),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Struct { name, fields } => self.structure(expr, name, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::OptMap { target, var, body, flat } => self.opt_map(target, var, body, *flat),
        };
        self.types[expr.id as usize] = ty.clone();
        ty
    }

    /// What a name with or without dots refers to, and its type.
    fn resolve(&self, name: &str) -> Option<(Reference, Type)> {
        if let Some(at) = self.scopes.iter().rposition(|(n, _)| **n == *name) {
            return Some((Reference::Local(at), self.scopes[at].1.clone()));
        }
        if let Some((at, ty)) = self.environment.variable(name) {
            return Some((Reference::Global(at), ty.clone()));
        }
        const TYPES: [&str; 18] = [
            "int",
            "uint",
            "double",
            "bool",
            "string",
            "bytes",
            "list",
            "map",
            "null_type",
            "type",
            "google.protobuf.Timestamp",
            "google.protobuf.Duration",
            "optional_type",
            "kubernetes.Quantity",
            "kubernetes.URL",
            "kubernetes.Semver",
            "net.IP",
            "net.CIDR",
        ];
        TYPES.contains(&name).then(|| (Reference::Type(name.into()), Type::Type))
    }

    fn ident(&mut self, expr: &Expr, name: &str) -> Type {
        match self.resolve(name) {
            Some((reference, ty)) => {
                self.references[expr.id as usize] = reference;
                ty
            }
            None => self.fail(expr.at, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, access: Access) -> Type {
        if access == Access::Plain
            && let Some(name) = qualified(expr)
            && !name.split('.').next().is_some_and(|head| self.scopes.iter().any(|(n, _)| **n == *head))
            && let Some((reference, ty)) = self.resolve(&name)
        {
            self.references[expr.id as usize] = reference;
            return ty;
        }
        let operand_type = self.expr(operand);
        let operand_type = self.unifier.substitute(&operand_type, false);
        let (target, optional) = match operand_type {
            Type::Optional(of) => ((*of).clone(), true),
            other => (other, false),
        };
        let found = match &target {
            Type::Map(map) => map.value.clone(),
            Type::Object(object) => match object.field(field) {
                Some(field) => field.ty,
                None => self.fail(expr.at, format!("undefined field '{field}'")),
            },
            Type::Var(_) => {
                self.unifier.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            other if other.is_dyn() => Type::Dyn,
            other => {
                let message = format!("type '{other}' does not support field selection");
                self.fail(expr.at, message);
                Type::Dyn
            }
        };
        match access {
            Access::Test => Type::Bool,
            Access::Optional => Type::optional(found),
            Access::Plain if optional => Type::optional(found),
            Access::Plain => found,
        }
    }

    fn call(&mut self, expr: &Expr, name: &str, target: Option<&Expr>, args: &[Expr]) -> Type {
        let lenient = u32::from(name == "format");
        self.lenient += lenient;
        let mut types: Vec<Type> = args.iter().map(|arg| self.expr(arg)).collect();
        self.lenient -= lenient;
        let mut function = library::lookup(name);
        let mut receiver = target;
        if let Some(of) = target {
            let namespaced = qualified(of).and_then(|prefix| library::lookup(&format!("{prefix}.{name}")));
            if namespaced.is_some() {
                (function, receiver) = (namespaced, None);
            } else {
                let ty = self.expr(of);
                types.insert(0, ty);
            }
        }
        let Some(function) = function else {
            return self.fail(expr.at, format!("undeclared reference to '{name}' (in container '')"));
        };
        self.overload(expr, function, receiver.is_some(), types)
    }

    fn overload(
        &mut self,
        expr: &Expr,
        function: &'static Function,
        member: bool,
        mut types: Vec<Type>,
    ) -> Type {
        let mut result: Option<Type> = None;
        let mut fits = 0_u32;
        for (at, overload) in function.overloads.iter().enumerate().filter(|(_, o)| o.member == member) {
            let fresh = self.unifier.fresh(&overload.args, &overload.result);
            let (args, returns) = fresh;
            if !self.unifier.all_assignable(&types, &args) {
                continue;
            }
            fits |= 1 << at;
            let returns = self.unifier.substitute(&returns, false);
            result = Some(match result {
                None => returns,
                Some(known) if known.is_dyn() || known.same(&returns) => known,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            for ty in &mut types {
                *ty = self.unifier.substitute(ty, true);
            }
            let list = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
            let applied = match types.split_first() {
                Some((receiver, rest)) if member => format!("{receiver}.({})", list(rest)),
                _ => format!("({})", list(&types)),
            };
            let message =
                format!("found no matching overload for '{}' applied to '{applied}'", function.name);
            return self.fail(expr.at, message);
        };
        self.references[expr.id as usize] = Reference::Call { function, overloads: fits, receiver: member };
        result
    }

    fn logic(&mut self, terms: &[Expr]) -> Type {
        for term in terms {
            let ty = self.expr(term);
            self.expect(term, &ty, &Type::Bool);
        }
        Type::Bool
    }

    /// A node's type must be one that is wanted.
    fn expect(&mut self, expr: &Expr, ty: &Type, wanted: &Type) -> bool {
        let fits = self.unifier.assignable(ty, wanted);
        if !fits {
            let found = self.unifier.substitute(ty, true);
            self.errors.add(expr.at, format!("expected type '{wanted}' but found '{found}'"));
        }
        fits
    }

    fn conditional(&mut self, expr: &Expr, parts: &[Expr; 3]) -> Type {
        let [condition, yes, no] = parts.each_ref().map(|part| self.expr(part));
        let var = self.unifier.variable();
        let wanted = [Type::Bool, var.clone(), var.clone()];
        if self.unifier.all_assignable(&[condition.clone(), yes.clone(), no.clone()], &wanted) {
            return self.unifier.substitute(&var, false);
        }
        let [condition, yes, no] = [condition, yes, no].map(|t| self.unifier.substitute(&t, true));
        let message =
            format!("found no matching overload for '_?_:_' applied to '({condition}, {yes}, {no})'");
        self.fail(expr.at, message)
    }

    /// The type of an item, or of what an optional item holds.
    fn item(&mut self, item: &Expr, optional: bool) -> Type {
        let ty = self.expr(item);
        if !optional {
            return ty;
        }
        match self.unifier.substitute(&ty, false) {
            Type::Optional(of) => (*of).clone(),
            other if other.is_dyn() => Type::Dyn,
            other => {
                let message = format!("expected type 'optional_type({other})' but found '{other}'");
                self.fail(item.at, message)
            }
        }
    }

    /// The type of all items so far and of one more.
    fn join(&mut self, at: &Expr, known: Option<Type>, next: Type) -> Type {
        let Some(known) = known else { return next };
        if self.unifier.assignable(&next, &known) {
            return self.unifier.more_general(&known, &next);
        }
        if self.lenient > 0 {
            return Type::Dyn;
        }
        let (known, next) = (self.unifier.substitute(&known, true), self.unifier.substitute(&next, true));
        self.errors.add(at.at, format!("expected type '{known}' but found '{next}'"));
        known
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Type {
        let mut known = None;
        for (item, optional) in items {
            let ty = self.item(item, *optional);
            known = Some(self.join(item, known, ty));
        }
        Type::list(known.unwrap_or_else(|| self.unifier.variable()))
    }

    fn map(&mut self, entries: &[(Expr, Expr, bool)]) -> Type {
        let (mut keys, mut values) = (None, None);
        for (key, value, optional) in entries {
            let ty = self.expr(key);
            keys = Some(self.join(key, keys, ty));
            let ty = self.item(value, *optional);
            values = Some(self.join(value, values, ty));
        }
        let [keys, values] = [keys, values].map(|t| t.unwrap_or_else(|| self.unifier.variable()));
        Type::map(keys, values)
    }

    fn structure(&mut self, expr: &Expr, name: &Arc<str>, fields: &[(Arc<str>, Expr, bool)]) -> Type {
        let Some(object) = self.environment.constructed(name) else {
            for (_, value, _) in fields {
                self.expr(value);
            }
            return self.fail(expr.at, format!("undeclared reference to '{name}' (in container '')"));
        };
        for (field, value, optional) in fields {
            let ty = self.item(value, *optional);
            let Some(wanted) = object.field(field) else {
                self.errors.add(value.at, format!("undefined field '{field}'"));
                continue;
            };
            if !self.unifier.assignable(&ty, &wanted.ty) {
                let found = self.unifier.substitute(&ty, true);
                let message = format!(
                    "expected type of field '{field}' is '{}' but provided type is '{found}'",
                    wanted.ty
                );
                self.errors.add(value.at, message);
            }
        }
        self.references[expr.id as usize] = Reference::Type(object.name().into());
        Type::Object(object)
    }

    fn fold(&mut self, fold: &Fold) -> Type {
        let range = self.expr(&fold.range);
        let range = self.unifier.substitute(&range, false);
        let two = fold.var2.is_some();
        let (first, second) = match &range {
            Type::List(list) if two => (Type::Int, list.item.clone()),
            Type::List(list) => (list.item.clone(), Type::Error),
            Type::Map(map) => (map.key.clone(), map.value.clone()),
            Type::Dyn | Type::Error | Type::Var(_) => {
                self.unifier.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fail(fold.range.at, message);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.scopes.len();
        let item = first.clone();
        self.scopes.push((Arc::clone(&fold.var), first));
        if let Some(var) = &fold.var2 {
            self.scopes.push((Arc::clone(var), second));
        }
        if let Some(filter) = &fold.filter {
            let ty = self.expr(filter);
            self.expect(filter, &ty, &Type::Bool);
        }
        let body = self.expr(&fold.body);
        self.scopes.truncate(depth);
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => {
                self.expect(&fold.body, &body, &Type::Bool);
                Type::Bool
            }
            FoldKind::List => Type::list(body),
            FoldKind::SortBy => match &range {
                Type::List(_) => range,
                _ => Type::list(item),
            },
            FoldKind::TransformMap => match &range {
                Type::List(_) => Type::map(Type::Int, body),
                Type::Map(map) => Type::map(map.key.clone(), body),
                _ => Type::map(Type::Dyn, body),
            },
            FoldKind::TransformMapEntry => match self.unifier.substitute(&body, false) {
                map @ Type::Map(_) => map,
                other if other.is_dyn() => Type::map(Type::Dyn, Type::Dyn),
                other => {
                    let message = format!("expected type 'map(dyn, dyn)' but found '{other}'");
                    self.fail(fold.body.at, message)
                }
            },
        }
    }

    fn opt_map(&mut self, target: &Expr, var: &Arc<str>, body: &Expr, flat: bool) -> Type {
        let target_type = self.expr(target);
        let of = match self.unifier.substitute(&target_type, false) {
            Type::Optional(of) => (*of).clone(),
            other if other.is_dyn() => Type::Dyn,
            other => {
                let message = format!("found no matching overload for 'hasValue' applied to '{other}.()'");
                self.fail(target.at, message)
            }
        };
        self.scopes.push((Arc::clone(var), of));
        let result = self.expr(body);
        self.scopes.pop();
        if !flat {
            return Type::optional(result);
        }
        let wanted = Type::optional(self.unifier.variable());
        self.expect(body, &result, &wanted);
        result
    }
}

/// The name with dots that a chain of selections may be.
fn qualified(expr: &Expr) -> Option<String> {
    match &expr.node {
        Node::Ident(name) => Some(name.to_string()),
        Node::Select { operand, field, access: Access::Plain } => {
            let mut name = qualified(operand)?;
            name.push('.');
            name.push_str(field);
            Some(name)
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
