//! Reading what may be one of two things, as Go reads it: with a method of the type's own, in which unknown and
//! duplicate fields go unnoticed.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Context, Error, Seed};
use crate::schema::{Either, TypeRef};

pub(super) struct OneOf<'c, 's> {
    pub context: &'c mut Context<'s>,
    pub either: Either<'s>,
}

impl<'s> OneOf<'_, 's> {
    fn unjudged<T>(self, ty: TypeRef<'s>, read: impl FnOnce(Seed<'_, 's>) -> T) -> T {
        self.context.unjudged += 1;
        let value = read(Seed { context: &mut *self.context, ty });
        self.context.unjudged -= 1;
        value
    }

    /// Where a list might have been, anything else is nothing.
    fn neither<E: de::Error>(self) -> Result<Option<Value>, E> {
        if self.either.list.is_some() { Ok(None) } else { Err(self.context.fail(Error::OneOf)) }
    }
}

impl<'de> Visitor<'de> for OneOf<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.either.list.is_some() { "object or list" } else { "object or boolean" })
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(self.either.list.is_none().then_some(value.into()))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        self.neither()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        self.neither()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        self.neither()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        self.neither()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, source: A) -> Result<Self::Value, A::Error> {
        match self.either.list {
            Some(list) => self.unjudged(list, |seed| seed.visit_seq(source)),
            None => self.neither(),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<Self::Value, A::Error> {
        let object = self.either.object;
        self.unjudged(object, |seed| seed.visit_map(source))
    }
}
