//! The Common Expression Language as Kubernetes 1.37 uses it: for rules of custom resources, for admission
//! policies, for the match conditions of webhooks. Pure: no I/O, no clock.
//!
//! An [`Environment`] names the variables and their types, a [`Program`] is a checked expression, [`Bindings`] are
//! the variables' values, a [`Budget`] bounds what evaluation may cost:
//!
//! ```
//! use serde_json::json;
//! use tiphys_cel::{Bindings, Budget, Environment, Program, RUNTIME_BUDGET, Type, Value};
//!
//! let environment = Environment::new().with("object", Type::Dyn);
//! let program = Program::compile("object.spec.replicas <= 5", &environment).unwrap();
//! let object = json!({"spec": {"replicas": 3}});
//! let bindings = Bindings::new().with("object", Value::from_json(&object, &Type::Dyn));
//! let value = program.evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)).unwrap();
//! assert!(matches!(value, Value::Bool(true)));
//! ```
//!
//! Sources, depths, lists, patterns and steps are bounded; matching a pattern takes linear time.

pub mod admission;
mod check;
pub mod device;
mod duration;
mod error;
mod estimate;
mod eval;
mod library;
mod patch;
mod price;
mod program;
pub mod structural;
mod syntax;
mod time;
mod types;
mod value;

pub use duration::parse as duration;
pub use error::{Errors, EvalError, Issue};
pub use estimate::{Range, Sizes};
pub use library::{Ask, Authorizer, Decision, Opaque};
pub use patch::patch_type;
pub use program::{
    Bindings, Budget, Constructor, Environment, MATCH_CONDITIONS_BUDGET, PER_CALL_LIMIT, Program,
    RUNTIME_BUDGET,
};
pub use types::{Declared, Field, ListKind, ListType, MapType, ObjectType, Type, escape};
pub use value::{Fields, Key, List, Map, Shape, Str, Struct, Value};
