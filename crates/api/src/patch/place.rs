//! What patching needs to know about one place in an object.

use crate::schema::{Field, ListKind, Object, Shape, TypeRef, Zero};

/// A type, and the field it is the type of, if it is a field's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'s> {
    ty: TypeRef<'s>,
    field: Option<&'s Field>,
}

impl<'s> From<TypeRef<'s>> for Place<'s> {
    fn from(ty: TypeRef<'s>) -> Self {
        Self { ty, field: None }
    }
}

impl<'s> Place<'s> {
    /// The struct field of that name. `None` if there is no such field: a map's key, an unknown field.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        let object = self.ty.object()?;
        object.field(name).map(|field| Self { ty: field.ty(object), field: Some(field) })
    }

    /// Whether this is a struct without such a field.
    pub(super) fn lacks(self, name: &str) -> bool {
        self.ty.object().is_some_and(|object| !object.open() && object.field(name).is_none())
    }

    /// A map's value, a list's item.
    pub(super) fn element(self) -> Option<Self> {
        match self.ty.shape() {
            Shape::Map(map) => Some(map.value.into()),
            Shape::List(list) => Some(list.item.into()),
            Shape::Any => Some(self.ty.into()),
            Shape::Object(_) | Shape::Scalar(_) => None,
        }
    }

    /// A struct's field or a map's value.
    pub(super) fn entry(self, name: &str) -> Option<Self> {
        self.field(name).or_else(|| self.element())
    }

    /// Whether a struct or map here is one value.
    pub(super) fn atomic(self) -> bool {
        match self.ty.shape() {
            Shape::Object(object) => object.atomic(),
            Shape::Map(map) => map.atomic,
            _ => false,
        }
    }

    /// The list here, if its items are owned one by one.
    pub(super) fn granular_list(self) -> Option<Granular<'s>> {
        let list = self.ty.list()?;
        let keys = match list.kind {
            ListKind::Atomic => return None,
            ListKind::Set => None,
            ListKind::Map(keys) => Some(keys),
        };
        Some(Granular { item: list.item.into(), object: list.item.object(), keys })
    }

    /// Whether the field is there, empty, in every object: a change inside it is no change of it, so a writer
    /// does not come to own it whole.
    pub(super) fn always_present(self) -> bool {
        self.field.is_some_and(|field| match self.ty.shape() {
            Shape::Object(_) => field.zero == Zero::Written,
            Shape::List(_) => field.zero == Zero::Kept && field.required,
            _ => false,
        })
    }

    /// Strategic merge patch merges lists here.
    pub(super) fn patch_merges(self) -> bool {
        self.field.is_some_and(|field| field.patch.merge)
    }

    /// Strategic merge patch replaces maps here.
    pub(super) fn patch_replaces(self) -> bool {
        self.field.is_some_and(|field| field.patch.replace)
    }

    /// The key by which strategic merge patch tells a list's items apart; `None` for scalars.
    pub(super) fn patch_merge_key(self) -> Option<&'s str> {
        self.field?.merge_key.as_deref()
    }
}

/// A list whose items are owned one by one: a set of scalars, or objects known by some of their fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granular<'s> {
    pub(super) item: Place<'s>,
    object: Option<Object<'s>>,
    /// `None`: a set.
    pub(super) keys: Option<&'s [crate::kind::Str]>,
}

impl<'s> Granular<'s> {
    /// What a key field is when an item leaves it out.
    pub(super) fn key_default(self, key: &str) -> Option<serde_json::Value> {
        self.object?.key_default(key)
    }
}
