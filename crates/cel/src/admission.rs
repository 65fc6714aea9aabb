//! The variables that expressions of webhooks and admission policies have.

use std::sync::{Arc, LazyLock};

use tiphys_api::schema::{Scalar, Shape, TypeRef};

use crate::patch::patch_type;
use crate::program::Environment;
use crate::types::{Declared, Field, ListKind, ListType, ObjectType, Type};

/// Which variables there are besides `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    /// `params`
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`
    pub authorizer: bool,
    /// The type of `variables`.
    pub variables: Option<Arc<dyn ObjectType>>,
    /// The types of `object` and `oldObject`, and of `params`, where they are known. Requests are judged without:
    /// one policy may be about many kinds.
    pub object: Option<Type>,
    pub params_type: Option<Type>,
    /// Expressions may make objects and patches.
    pub patches: bool,
}

impl Declarations {
    /// The environment with these variables.
    pub fn environment(&self) -> Environment {
        let object = || self.object.clone().unwrap_or(Type::Dyn);
        let mut environment = Environment::new()
            .with("object", object())
            .with("oldObject", object())
            .with("request", REQUEST.clone())
            .with("namespaceObject", NAMESPACE.clone());
        if self.params {
            environment = environment.with("params", self.params_type.clone().unwrap_or(Type::Dyn));
        }
        if self.authorizer {
            environment = environment
                .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
                .with("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"));
        }
        if let Some(variables) = &self.variables {
            environment = environment.with("variables", Type::Object(Arc::clone(variables)));
        }
        if self.patches { environment.with_constructor(patch_type) } else { environment }
    }
}

/// `kubernetes.AdmissionRequest`, without the objects.
pub static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let kind = || {
        let fields = ["group", "version", "kind"].map(|name| (name, Type::String));
        Type::Object(Declared::plain("kubernetes.GroupVersionKind", fields))
    };
    let resource = || {
        let fields = ["group", "version", "resource"].map(|name| (name, Type::String));
        Type::Object(Declared::plain("kubernetes.GroupVersionResource", fields))
    };
    let user = Declared::plain(
        "kubernetes.UserInfo",
        [
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", Type::list(Type::String)),
            ("extra", Type::map(Type::String, Type::list(Type::String))),
        ],
    );
    Type::Object(Declared::plain(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", Type::String),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", Type::String),
            ("name", Type::String),
            ("namespace", Type::String),
            ("operation", Type::String),
            ("userInfo", Type::Object(user)),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    ))
});

/// `kubernetes.Namespace`
pub static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    let strings = || Type::map(Type::String, Type::String);
    let metadata = Declared::plain(
        "kubernetes.NamespaceMetadata",
        [
            ("name", Type::String),
            ("generateName", Type::String),
            ("labels", strings()),
            ("annotations", strings()),
            ("UID", Type::String),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::String),
            ("finalizers", Type::list(Type::String)),
        ],
    );
    let spec = Declared::plain("kubernetes.NamespaceSpec", [("finalizers", Type::list(Type::String))]);
    let condition = Declared::plain(
        "kubernetes.NamespaceCondition",
        [
            ("status", Type::String),
            ("type", Type::String),
            ("lastTransitionTime", Type::Timestamp),
            ("message", Type::String),
            ("reason", Type::String),
        ],
    );
    let status = Declared::plain(
        "kubernetes.NamespaceStatus",
        [("conditions", Type::list(Type::Object(condition))), ("phase", Type::String)],
    );
    Type::Object(Declared::plain(
        "kubernetes.Namespace",
        [
            ("metadata", Type::Object(metadata)),
            ("spec", Type::Object(spec)),
            ("status", Type::Object(status)),
        ],
    ))
});

/// The type of objects that the built-in schema describes.
pub fn builtin(ty: TypeRef<'static>) -> Type {
    match ty.shape() {
        Shape::Any => Type::Dyn,
        Shape::Scalar(scalar) => match scalar {
            Scalar::String | Scalar::Quantity => Type::String,
            Scalar::Int32 | Scalar::Int64 => Type::Int,
            Scalar::Bool => Type::Bool,
            Scalar::Double => Type::Double,
            Scalar::Bytes => Type::Bytes,
            Scalar::Time | Scalar::MicroTime => Type::Timestamp,
            Scalar::IntOrString => Type::Dyn,
        },
        Shape::Object(object) => Type::Object(Arc::new(Builtin(object))),
        Shape::Map(map) => Type::map(Type::String, builtin(map.value)),
        Shape::List(list) => {
            Type::List(Arc::new(ListType { item: builtin(list.item), kind: ListKind::Atomic }))
        }
    }
}

/// An object of the built-in schema; its fields are looked up when they are asked for.
#[derive(Debug)]
struct Builtin(tiphys_api::schema::Object<'static>);

impl ObjectType for Builtin {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn field(&self, name: &str) -> Option<Field> {
        let field = self.0.field(name)?;
        Some(Field { name: name.into(), ty: builtin(field.ty(self.0)) })
    }
}
