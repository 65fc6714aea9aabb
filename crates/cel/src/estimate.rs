//! What an expression may cost, before it runs: from its form, its types and how large a schema lets values be.
//! The bounds are upstream's, for a custom resource whose rules may be too dear is refused by them.

use std::sync::Arc;

use crate::check::Reference;
use crate::library::{Function, Overload, Price};
use crate::price;
use crate::program::Program;
use crate::syntax::ast::{Access, Expr, Fold, FoldKind, Literal, Node};
use crate::types::Type;

/// How large what a schema describes may be.
pub trait Sizes {
    /// The most items, entries, bytes or characters of what a path leads to, if that is known. The path starts with
    /// the name of a variable; then come fields, `@items`, `@keys` and `@values`.
    fn max(&self, path: &[&str]) -> Option<u64>;
}

/// The least and the most, in units of cost or of size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    fn fixed(n: u64) -> Self {
        Self { min: n, max: n }
    }

    fn add(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    fn scaled(self, factor: f64) -> Self {
        Self { min: price::scaled(self.min, factor), max: price::scaled(self.max, factor) }
    }

    fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// The sizes of what a list or a map holds.
#[derive(Clone, Copy, Debug)]
struct Entry {
    list: bool,
    key: Range,
    value: Range,
}

impl Entry {
    fn union(self, other: Self) -> Self {
        Self { list: self.list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

/// Where a value comes from, where that is a schema.
type Path = Option<Vec<Arc<str>>>;

/// What is known of a node's value.
#[derive(Clone, Debug, Default)]
struct Known {
    path: Path,
    size: Option<Range>,
    entry: Option<Entry>,
    /// The size, where nothing else tells.
    otherwise: Option<Range>,
}

impl Program {
    /// The least and the most that evaluation may cost.
    pub fn estimate(&self, sizes: &dyn Sizes) -> Range {
        let mut estimator = Estimator {
            program: self,
            sizes,
            locals: Vec::new(),
            known: vec![Known::default(); self.checked.types.len()],
        };
        estimator.expr(&self.expr)
    }
}

struct Estimator<'p> {
    program: &'p Program,
    sizes: &'p dyn Sizes,
    locals: Vec<Known>,
    known: Vec<Known>,
}

/// What a call costs beside its arguments, and how large its result is.
struct Call {
    cost: Range,
    size: Option<Range>,
}

impl Call {
    fn of(cost: Range) -> Self {
        Self { cost, size: None }
    }

    fn sized(cost: Range, size: Range) -> Self {
        Self { cost, size: Some(size) }
    }
}

impl Estimator<'_> {
    fn ty(&self, expr: &Expr) -> &Type {
        &self.program.checked.types[expr.id as usize]
    }

    fn known(&mut self, expr: &Expr) -> &mut Known {
        &mut self.known[expr.id as usize]
    }

    fn path(&self, expr: &Expr) -> &Path {
        &self.known[expr.id as usize].path
    }

    /// The path one step further. Below what no schema holds (the value of a condition, say) upstream's estimate goes
    /// astray to the schema's root; definitions are admitted by that, so it is kept.
    fn below(&self, expr: &Expr, step: &str) -> Path {
        let mut path = self.path(expr).clone().unwrap_or_default();
        path.push(step.into());
        Some(path)
    }

    fn size_at(&self, path: &Path) -> Option<Range> {
        let path: Vec<&str> = path.as_ref()?.iter().map(|p| &**p).collect();
        self.sizes.max(&path).map(|max| Range { min: 0, max })
    }

    fn maybe_size(&self, expr: &Expr) -> Option<Range> {
        let known = &self.known[expr.id as usize];
        let literal = match &expr.node {
            Node::Literal(Literal::String(s)) => Some(Range::fixed(s.chars().count() as u64)),
            Node::Literal(Literal::Bytes(b)) => Some(Range::fixed(b.len() as u64)),
            Node::Literal(_) => Some(Range::fixed(1)),
            Node::List(items) => Some(Range::fixed(items.len() as u64)),
            Node::Map(entries) => Some(Range::fixed(entries.len() as u64)),
            _ => None,
        };
        let scalar = matches!(
            self.ty(expr),
            Type::Bool
                | Type::Double
                | Type::Duration
                | Type::Int
                | Type::Null
                | Type::Timestamp
                | Type::Type
                | Type::Uint
        );
        known
            .size
            .or(literal)
            .or_else(|| self.size_at(&known.path))
            .or_else(|| scalar.then_some(Range::fixed(1)))
            .or(known.otherwise)
    }

    fn size(&self, expr: &Expr) -> Range {
        self.maybe_size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn expr(&mut self, expr: &Expr) -> Range {
        match &expr.node {
            Node::Literal(_) => Range::fixed(0),
            Node::Ident(name) => self.ident(expr, name),
            Node::Select { operand, field, access } => self.select(expr, operand, field, *access),
            Node::Call { target, args, .. } => self.call(expr, target.as_deref(), args),
            Node::Logic { terms, .. } => {
                let costs: Vec<Range> = terms.iter().map(|term| self.expr(term)).collect();
                // The first term may decide.
                let min = costs.first().map_or(0, |first| first.min);
                Range { min, max: costs.iter().fold(0, |sum, cost| sum.saturating_add(cost.max)) }
            }
            Node::Conditional(parts) => {
                let [condition, yes, no] = parts.each_ref().map(|part| self.expr(part));
                let size = self.size(&parts[1]).union(self.size(&parts[2]));
                let entries = (self.known(&parts[1]).entry, self.known(&parts[2]).entry);
                let known = self.known(expr);
                known.size = Some(size);
                known.entry = entries.0.zip(entries.1).map(|(a, b)| a.union(b));
                condition.add(yes.union(no))
            }
            Node::List(items) => {
                let costs: Vec<Range> = items.iter().map(|(item, _)| self.expr(item)).collect();
                let value = self.all_sizes(items.iter().map(|(item, _)| item));
                self.known(expr).entry = Some(Entry { list: true, key: Range::fixed(1), value });
                costs.into_iter().fold(Range::fixed(price::LIST), Range::add)
            }
            Node::Map(entries) => {
                let mut cost = Range::fixed(price::MAP);
                for (key, value, _) in entries {
                    cost = cost.add(self.expr(key)).add(self.expr(value));
                }
                let key = self.all_sizes(entries.iter().map(|(k, _, _)| k));
                let value = self.all_sizes(entries.iter().map(|(_, v, _)| v));
                self.known(expr).entry = Some(Entry { list: false, key, value });
                cost
            }
            Node::Struct { fields, .. } => {
                let costs: Vec<Range> = fields.iter().map(|(_, value, _)| self.expr(value)).collect();
                costs.into_iter().fold(Range::fixed(price::STRUCT), Range::add)
            }
            Node::Fold(fold) => self.fold(expr, fold),
            Node::OptMap { target, body, .. } => {
                let cost = self.expr(target);
                let of = self.known(target).clone();
                self.locals.push(of);
                let body = self.expr(body);
                self.locals.pop();
                // Looked at and, if there is a value, looked at again.
                cost.add(Range::fixed(1)).add(Range::fixed(1).union(cost.add(body).add(Range::fixed(12))))
            }
        }
    }

    fn all_sizes<'e>(&self, of: impl Iterator<Item = &'e Expr>) -> Range {
        of.map(|one| self.size(one)).reduce(Range::union).unwrap_or(Range::fixed(0))
    }

    fn ident(&mut self, expr: &Expr, name: &Arc<str>) -> Range {
        let known = match &self.program.checked.references[expr.id as usize] {
            Reference::Local(at) => {
                let Known { path, size, entry, otherwise } = self.locals[*at].clone();
                Known { path, size: None, entry, otherwise: size.or(otherwise) }
            }
            _ => Known { path: Some(vec![Arc::clone(name)]), ..Known::default() },
        };
        *self.known(expr) = known;
        Range::fixed(price::STEP)
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &Arc<str>, access: Access) -> Range {
        if !matches!(self.program.checked.references[expr.id as usize], Reference::None) {
            return Range::fixed(price::STEP);
        }
        let cost = self.expr(operand);
        if access == Access::Test {
            return cost;
        }
        self.known(expr).path = self.below(operand, field);
        match self.ty(operand) {
            Type::Map(_) | Type::Object(_) | Type::Opaque(_) | Type::Param(_) => {
                cost.add(Range::fixed(price::STEP))
            }
            Type::Optional(_) => cost.add(Range::fixed(price::STEP)),
            _ if access == Access::Optional => cost.add(Range::fixed(price::STEP)),
            _ => cost,
        }
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, args: &[Expr]) -> Range {
        let Reference::Call { function, overloads, receiver } =
            &self.program.checked.references[expr.id as usize]
        else {
            return Range::fixed(0);
        };
        let (function, overloads) = (*function, *overloads);
        let all: Vec<&Expr> = target.filter(|_| *receiver).into_iter().chain(args).collect();
        let cost = all.iter().fold(Range::fixed(0), |sum, arg| sum.add(self.expr(arg)));
        if function.name == "dyn" {
            let (size, entry) = (self.maybe_size(all[0]), self.known(all[0]).entry);
            let of = Known { size, entry, ..Known::default() };
            *self.known(expr) = of;
            return cost.add(Range::fixed(1));
        }
        let mut own: Option<Range> = None;
        let mut size: Option<Range> = None;
        let fitting = function.overloads.iter().enumerate().filter(|(at, _)| overloads & (1 << at) != 0);
        for (_, overload) in fitting {
            let call = self.overload(function, overload, &all);
            own = Some(own.map_or(call.cost, |known| known.union(call.cost)));
            size = call.size.map_or(size, |new| Some(size.map_or(new, |known| known.union(new))));
            if matches!(function.name, "_[_]" | "_[?_]") {
                let step = if matches!(overload.args[0], Type::List(_)) { "@items" } else { "@values" };
                size = self.known(all[0]).entry.map(|entry| entry.value).or(size);
                self.known(expr).path = self.below(all[0], step);
            }
        }
        if function.name == "_+_"
            && let (Some(a), Some(b)) = (self.known(all[0]).entry, self.known(all[1]).entry)
        {
            self.known(expr).entry = Some(a.union(b));
        }
        if size.is_some() {
            self.known(expr).size = size;
        }
        cost.add(own.unwrap_or(Range::fixed(0)))
    }

    /// The size of a list's items, or nothing for what is no list.
    fn item_size(&self, list: &Expr) -> Option<Range> {
        let Type::List(ty) = self.ty(list) else { return None };
        let scalar =
            !matches!(ty.item, Type::String | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Dyn);
        let known = &self.known[list.id as usize];
        let by_path = || self.path(list).as_ref().and_then(|_| self.size_at(&self.below(list, "@items")));
        known.entry.map(|e| e.value).or_else(by_path).or(Some(if scalar {
            Range::fixed(1)
        } else {
            Range::UNKNOWN
        }))
    }

    fn overload(&self, function: &Function, overload: &Overload, args: &[&Expr]) -> Call {
        let size = |at: usize| args.get(at).map_or(Range::fixed(0), |arg| self.size(arg));
        let text = |at: usize| size(at).scaled(price::TEXT);
        let is_text = |at: usize| matches!(overload.args.get(at), Some(Type::String | Type::Bytes));
        let one = || Call::of(Range::fixed(1));
        match function.price {
            Price::One => one(),
            Price::Map => Call::sized(text(0), size(0)),
            Price::Read if overload.member => one(),
            Price::Quote => {
                let of = size(0);
                let long = of.max.saturating_mul(2).saturating_add(2);
                Call::sized(text(0), Range { min: of.min.saturating_add(2), max: long })
            }
            Price::Read | Price::Format => Call::of(text(0)),
            Price::ReadTwice => Call::of(size(0).scaled(2.0 * price::TEXT)),
            Price::Replace => Self::replace(size(0), size(1), size(2)),
            Price::Split => {
                let most = match args.get(2).map(|arg| &arg.node) {
                    Some(Node::Literal(Literal::Int(i))) => u64::try_from(*i).unwrap_or(u64::MAX),
                    _ => size(0).max,
                };
                Call::sized(size(0).scaled(2.0 * price::TEXT), Range { min: 0, max: most })
            }
            Price::Join => {
                let list = size(0);
                let items = self.item_size(args[0]).map_or(Range::fixed(0), |item| list.times(item));
                let between = Range { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                let joined = if args.len() > 1 { items.add(size(1).times(between)) } else { items };
                Call::sized(joined.scaled(price::TEXT), joined)
            }
            Price::Walk => {
                let list = size(0);
                match (self.ty(args[0]), self.item_size(args[0])) {
                    (Type::List(ty), item) => {
                        let texts = matches!(ty.item, Type::String | Type::Bytes);
                        let each = item.filter(|_| texts).map_or(Range::fixed(0), |i| i.scaled(price::TEXT));
                        Call::of(list.times(Range::fixed(1).add(each)))
                    }
                    _ if function.name == "includes" => Call::of(list),
                    _ => Call::of(list.scaled(price::TEXT)),
                }
            }
            Price::Find | Price::Matches => {
                let subject = size(0).add(Range::fixed(1)).scaled(price::TEXT);
                let cost = subject.times(size(1).scaled(price::REGEX));
                match function.price {
                    Price::Find => Call::sized(cost, Range { min: 0, max: size(0).max }),
                    _ => Call::of(cost),
                }
            }
            Price::Contains => Call::of(text(0).times(text(1))),
            Price::Affix => Call::of(text(1)),
            Price::StringToBytes if is_text(0) => {
                let of = size(0);
                Call::sized(text(0), Range { min: of.min, max: of.max.saturating_mul(4) })
            }
            Price::BytesToString if matches!(overload.args.first(), Some(Type::Bytes)) => {
                let of = size(0);
                Call::sized(text(0), Range { min: of.min / 4, max: of.max })
            }
            Price::StringToBytes | Price::BytesToString => one(),
            Price::In if matches!(overload.args.get(1), Some(Type::List(_))) => Call::of(size(1)),
            Price::In => one(),
            Price::Compare => {
                let equality = matches!(function.name, "_==_" | "_!=_");
                let plain = matches!(self.ty(args[0]), Type::Opaque(_));
                if plain || !(equality || is_text(0)) {
                    return one();
                }
                let max = size(0).max.min(size(1).max);
                Call::of(Range { min: u64::from(max > 0), max }.scaled(price::TEXT))
            }
            Price::Add if is_text(0) => {
                let sum = size(0).add(size(1));
                Call::sized(sum.scaled(price::TEXT), sum)
            }
            Price::Add if matches!(overload.args.first(), Some(Type::List(_))) => {
                Call::sized(Range::fixed(1), size(0).add(size(1)))
            }
            Price::Add => one(),
            Price::ContainsIp | Price::ContainsCidr => {
                let address = Range { min: 4, max: 16 };
                let mut cost = address.add(address).scaled(price::TEXT);
                if function.price == Price::ContainsCidr {
                    cost = cost.add(address.scaled(price::TEXT)).add(Range::fixed(1));
                }
                Call::of(if is_text(1) { cost.add(text(1)) } else { cost })
            }
            // 128 is what the pattern of a named format may take.
            Price::Validate => Call::of(text(1).scaled(128.0 * price::REGEX)),
            Price::Check => Call::of(Range::fixed(price::CHECK)),
            Price::Selector => {
                let of = size(1);
                Call::of(Range { min: price::selector(of.min), max: price::selector(of.max) })
            }
            Price::Output | Price::Flatten => {
                Call::sized(size(0).add(Range::fixed(price::LIST + 1)), Range { min: 0, max: size(0).max })
            }
            Price::Pairs => Call::sized(
                size(0).times(size(0)).scaled(2.0).add(Range::fixed(price::LIST + 1)),
                Range { min: 0, max: size(0).max },
            ),
            Price::Sets => Call::of(size(0).times(size(1)).add(Range::fixed(1))),
        }
    }

    /// The longest result replaces the shortest parts by the longest, the shortest the other way round.
    fn replace(of: Range, old: Range, new: Range) -> Call {
        let ends = |size: u64, old_other: u64, new: u64, grows: bool| {
            if old_other == 0 {
                size.saturating_add(1).saturating_mul(new).saturating_add(size)
            } else if !grows {
                size
            } else {
                size.div_ceil(old_other).saturating_mul(new)
            }
        };
        let max = ends(of.max, old.min, new.max, new.max > old.min);
        let min = ends(of.min, old.max, new.min, old.max > new.min);
        Call::sized(of.scaled(2.0 * price::TEXT), Range { min, max })
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let range = self.expr(&fold.range);
        let count = self.size(&fold.range);
        let entry = self.known(&fold.range).entry;
        let list = entry.map_or_else(|| matches!(self.ty(&fold.range), Type::List(_)), |e| e.list);
        let bound = |path: Path, size: Option<Range>| Known { path, size, ..Known::default() };
        let keys =
            bound(self.below(&fold.range, if list { "@indices" } else { "@keys" }), entry.map(|e| e.key));
        let values =
            bound(self.below(&fold.range, if list { "@items" } else { "@values" }), entry.map(|e| e.value));
        let depth = self.locals.len();
        match (fold.var2.is_some(), list) {
            (true, _) => self.locals.extend([keys, values]),
            (false, true) => self.locals.push(values),
            (false, false) => self.locals.push(keys),
        }
        let filter = fold.filter.as_ref().map(|filter| self.expr(filter));
        let body = self.expr(&fold.body);
        self.locals.truncate(depth);
        let item = self.size(&fold.body);
        let fixed = Range::fixed;
        // What the walk starts with, what noting an item costs, and what giving the result does.
        let (start, note, result) = match fold.kind {
            FoldKind::All | FoldKind::Exists => (0, Range { min: 1, max: body.max.saturating_add(1) }, 1),
            FoldKind::ExistsOne => (0, body.add(Range { min: 1, max: 2 }), 2),
            FoldKind::List | FoldKind::SortBy => (price::LIST, body.add(fixed(2 + price::LIST)), 1),
            FoldKind::TransformMap => (price::MAP, body.add(fixed(3)), 1),
            FoldKind::TransformMapEntry => (price::MAP, body.add(fixed(2)), 1),
        };
        let step = filter.map_or(note, |filter| filter.add(note.union(fixed(1))));
        let mut cost = range
            .add(fixed(start))
            .add(count.times(step.add(fixed(price::fold_condition(fold.kind)))))
            .add(fixed(result));
        if fold.kind == FoldKind::SortBy {
            cost = cost.add(count.times(count).scaled(2.0)).add(fixed(price::LIST + 1));
        }
        let known = self.known(expr);
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => known.size = Some(fixed(1)),
            FoldKind::List => {
                known.size = Some(count);
                known.entry = Some(Entry { list: true, key: fixed(1), value: fixed(0).union(item) });
            }
            FoldKind::SortBy => {
                known.size = Some(count);
                known.entry = entry;
            }
            FoldKind::TransformMap | FoldKind::TransformMapEntry => known.size = Some(count),
        }
        cost
    }
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
