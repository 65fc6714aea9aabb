//! Which types fit where, with types that are being found out.

use crate::types::Type;

/// What the types that are being found out have been found to be, by their numbers.
#[derive(Default)]
pub(super) struct Unifier {
    found: Vec<Option<Type>>,
}

impl Unifier {
    /// A type to be found out.
    pub(super) fn variable(&mut self) -> Type {
        self.found.push(None);
        Type::Var(self.found.len() - 1)
    }

    /// A signature with types to be found out in the place of its letters.
    pub(super) fn fresh(&mut self, args: &[Type], result: &Type) -> (Vec<Type>, Type) {
        let mut letters = Vec::new();
        let args = args.iter().map(|arg| self.open(arg, &mut letters)).collect();
        (args, self.open(result, &mut letters))
    }

    fn open(&mut self, ty: &Type, letters: &mut Vec<(char, Type)>) -> Type {
        match ty {
            Type::Param(letter) => match letters.iter().find(|(l, _)| l == letter) {
                Some((_, var)) => var.clone(),
                None => {
                    let var = self.variable();
                    letters.push((*letter, var.clone()));
                    var
                }
            },
            Type::List(list) => Type::list(self.open(&list.item, letters)),
            Type::Map(map) => Type::map(self.open(&map.key, letters), self.open(&map.value, letters)),
            Type::Optional(of) => Type::optional(self.open(of, letters)),
            other => other.clone(),
        }
    }

    /// A type with all that has been found put in. `finally`, what is still open is dynamic.
    pub(super) fn substitute(&self, ty: &Type, finally: bool) -> Type {
        match ty {
            Type::Var(var) => match &self.found[*var] {
                Some(found) => self.substitute(found, finally),
                None if finally => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(list) if open(&list.item) => Type::list(self.substitute(&list.item, finally)),
            Type::Map(map) if open(&map.key) || open(&map.value) => {
                Type::map(self.substitute(&map.key, finally), self.substitute(&map.value, finally))
            }
            Type::Optional(of) if open(of) => Type::optional(self.substitute(of, finally)),
            other => other.clone(),
        }
    }

    /// Whether a value of a type may stand where another is wanted; what that finds out is kept only if so.
    pub(super) fn assignable(&mut self, ty: &Type, wanted: &Type) -> bool {
        self.all_assignable(std::slice::from_ref(ty), std::slice::from_ref(wanted))
    }

    pub(super) fn all_assignable(&mut self, types: &[Type], wanted: &[Type]) -> bool {
        if types.len() != wanted.len() {
            return false;
        }
        let before = self.found.clone();
        let fits = types.iter().zip(wanted).all(|(ty, wanted)| self.fits(ty, wanted));
        if !fits {
            self.found = before;
        }
        fits
    }

    fn fits(&mut self, ty: &Type, wanted: &Type) -> bool {
        match (ty, wanted) {
            (Type::Var(a), Type::Var(b)) if a == b => true,
            (_, Type::Var(var)) => self.bind(*var, ty),
            (Type::Var(var), _) => self.bind(*var, wanted),
            _ if ty.is_dyn() || wanted.is_dyn() => true,
            (
                Type::Null,
                Type::Object(_) | Type::Opaque(_) | Type::Timestamp | Type::Duration | Type::Optional(_),
            )
            | (
                Type::Object(_) | Type::Opaque(_) | Type::Timestamp | Type::Duration | Type::Optional(_),
                Type::Null,
            ) => true,
            (Type::List(a), Type::List(b)) => self.fits(&a.item, &b.item),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.key, &b.key) && self.fits(&a.value, &b.value),
            (Type::Optional(a), Type::Optional(b)) => self.fits(a, b),
            (a, b) => a.same(b),
        }
    }

    fn bind(&mut self, var: usize, ty: &Type) -> bool {
        match self.found[var].clone() {
            Some(known) => {
                let fits = self.fits(ty, &known);
                if fits {
                    let general = self.more_general(&known, ty);
                    if !self.mentions(&general, var) {
                        self.found[var] = Some(general);
                    }
                }
                fits
            }
            None if self.mentions(ty, var) => matches!(self.substitute(ty, false), Type::Var(v) if v == var),
            None => {
                self.found[var] = Some(ty.clone());
                true
            }
        }
    }

    fn mentions(&self, ty: &Type, var: usize) -> bool {
        match ty {
            Type::Var(v) => {
                *v == var || self.found[*v].as_ref().is_some_and(|found| self.mentions(found, var))
            }
            Type::List(list) => self.mentions(&list.item, var),
            Type::Map(map) => self.mentions(&map.key, var) || self.mentions(&map.value, var),
            Type::Optional(of) => self.mentions(of, var),
            _ => false,
        }
    }

    /// Of two types of which one fits the other, the one that says less.
    pub(super) fn more_general(&self, a: &Type, b: &Type) -> Type {
        let (a, b) = (self.substitute(a, false), self.substitute(b, false));
        let yields = match (&a, &b) {
            (_, Type::Dyn) | (Type::Null, _) => true,
            (Type::List(x), Type::List(y)) => self.more_general(&x.item, &y.item).same(&y.item),
            (Type::Optional(x), Type::Optional(y)) => self.more_general(x, y).same(y),
            (Type::Map(x), Type::Map(y)) => {
                self.more_general(&x.key, &y.key).same(&y.key)
                    && self.more_general(&x.value, &y.value).same(&y.value)
            }
            _ => false,
        };
        if yields { b } else { a }
    }
}

/// Whether something in a type is still to be found out.
fn open(ty: &Type) -> bool {
    match ty {
        Type::Var(_) => true,
        Type::List(list) => open(&list.item),
        Type::Map(map) => open(&map.key) || open(&map.value),
        Type::Optional(of) => open(of),
        _ => false,
    }
}
