//! Expressions as trees. Macros are nodes of their own; what upstream expands them to shows only in their price.

use std::sync::Arc;

/// A node. `id` counts the nodes of a program from zero, `at` is its place in the source in code points.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: u32,
    pub(crate) at: u32,
    pub(crate) node: Node,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Literal(Literal),
    Ident(Arc<str>),
    /// `operand.field`, `operand.?field`; with `test`, `has(operand.field)`.
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        access: Access,
    },
    /// Operators are functions with the names that upstream gives them.
    Call {
        function: Arc<str>,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    /// All terms of a chain of `&&` or of `||`.
    Logic {
        and: bool,
        terms: Vec<Expr>,
    },
    Conditional(Box<[Expr; 3]>),
    /// Items; the second says that one which is an empty optional is left out.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    Struct {
        name: Arc<str>,
        fields: Vec<(Arc<str>, Expr, bool)>,
    },
    Fold(Box<Fold>),
    /// `target.optMap(var, body)`, or `optFlatMap`.
    OptMap {
        target: Box<Expr>,
        var: Arc<str>,
        body: Box<Expr>,
        flat: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Plain,
    Test,
    Optional,
}

#[derive(Clone, Debug)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// `map`, `filter` and `transformList`: a list of the bodies.
    List,
    TransformMap,
    TransformMapEntry,
    SortBy,
}

/// A walk over a list or a map.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) kind: FoldKind,
    pub(crate) range: Expr,
    pub(crate) var: Arc<str>,
    /// With it, `var` is the index or the key, and this the item or the value.
    pub(crate) var2: Option<Arc<str>>,
    pub(crate) filter: Option<Expr>,
    pub(crate) body: Expr,
}
