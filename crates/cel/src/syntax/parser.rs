//! From tokens to a tree, by precedence climbing. Places are those that upstream reports: an operator's own, a
//! call's parenthesis, a selection's dot.

use std::sync::Arc;

use tiphys_api::names::CEL_RESERVED;

use super::ast::{Access, Expr, Literal, Node};
use super::lexer::{Spanned, Token, lex};
use super::macros;
use crate::error::Errors;

/// The most code points of a source.
pub(crate) const MAX_SOURCE: usize = 100_000;
/// The highest a tree may be: how deep checking and evaluation recurse.
const MAX_HEIGHT: u32 = 250;
/// The most brackets in brackets: how deep this parser recurses, whose steps need more stack.
const MAX_NESTING: u32 = 100;

const PRIMARY: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                       BYTES, IDENTIFIER}";

/// A tree and how many nodes it has.
pub(crate) struct Parsed {
    pub(crate) expr: Expr,
    pub(crate) nodes: u32,
}

pub(crate) fn parse(source: &str, binds: bool) -> Result<Parsed, Errors> {
    let mut errors = Errors::of(if source.len() > MAX_SOURCE * 4 { "" } else { source });
    let size = source.chars().count();
    if size > MAX_SOURCE {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_SOURCE}");
        errors.add(0, message);
        return Err(errors);
    }
    let chars: Vec<char> = source.chars().collect();
    let tokens = lex(&chars, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut parser = Parser { chars: &chars, tokens: &tokens, at: 0, nodes: 0, errors, binds };
    let expr = parser.expr(0).and_then(|(expr, _)| match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("<EOF>")),
    });
    match expr {
        Ok(expr) if parser.errors.is_empty() => Ok(Parsed { expr, nodes: parser.nodes }),
        _ => Err(parser.errors.sorted()),
    }
}

/// The mistake has been noted.
pub(super) struct Noted;

/// Terms with the same logical operator between them, and where the first of these stands.
#[derive(Default)]
struct Chain {
    terms: Vec<Expr>,
    height: u32,
    place: Option<u32>,
}

impl Chain {
    fn push(&mut self, (term, height): (Expr, u32)) {
        self.terms.push(term);
        self.height = self.height.max(height);
    }
}

/// An operator between two operands. Those of a higher level bind more tightly.
struct Operator {
    symbol: &'static str,
    name: &'static str,
    level: u8,
}

const OPERATORS: [Operator; 12] = [
    Operator { symbol: "<=", name: "_<=_", level: 1 },
    Operator { symbol: "<", name: "_<_", level: 1 },
    Operator { symbol: ">=", name: "_>=_", level: 1 },
    Operator { symbol: ">", name: "_>_", level: 1 },
    Operator { symbol: "==", name: "_==_", level: 1 },
    Operator { symbol: "!=", name: "_!=_", level: 1 },
    Operator { symbol: "in", name: "@in", level: 1 },
    Operator { symbol: "+", name: "_+_", level: 2 },
    Operator { symbol: "-", name: "_-_", level: 2 },
    Operator { symbol: "*", name: "_*_", level: 3 },
    Operator { symbol: "/", name: "_/_", level: 3 },
    Operator { symbol: "%", name: "_%_", level: 3 },
];

/// A tree and its height.
type Tree = Result<(Expr, u32), Noted>;

pub(super) struct Parser<'t> {
    chars: &'t [char],
    tokens: &'t [Spanned],
    at: usize,
    nodes: u32,
    errors: Errors,
    /// There is `cel.bind`.
    pub(super) binds: bool,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    /// Where the next token starts.
    fn place(&self) -> u32 {
        self.tokens[self.at].at
    }

    fn take(&mut self, symbol: &str) -> Option<u32> {
        let place = self.place();
        let found = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        found.then(|| {
            self.at += 1;
            place
        })
    }

    fn expect(&mut self, symbol: &str) -> Result<u32, Noted> {
        self.take(symbol).ok_or_else(|| self.unexpected(&format!("'{symbol}'")))
    }

    fn unexpected(&mut self, expected: &str) -> Noted {
        let token = &self.tokens[self.at];
        let text = match token.token {
            Token::End => "<EOF>".to_owned(),
            _ => self.chars[token.at as usize..token.end as usize].iter().collect(),
        };
        self.fail(token.at, format!("Syntax error: mismatched input '{text}' expecting {expected}"))
    }

    pub(super) fn fail(&mut self, at: u32, message: String) -> Noted {
        self.errors.add(at, message);
        Noted
    }

    pub(super) fn node(&mut self, at: u32, node: Node) -> Expr {
        let id = self.nodes;
        self.nodes += 1;
        Expr { id, at, node }
    }

    fn within(&mut self, depth: u32, limit: u32) -> Result<(), Noted> {
        if depth < limit {
            return Ok(());
        }
        let at = self.place();
        Err(self.fail(at, format!("expression recursion limit exceeded: {limit}")))
    }

    fn expr(&mut self, depth: u32) -> Tree {
        self.within(depth, MAX_NESTING)?;
        let (condition, height) = self.logic(depth)?;
        let Some(at) = self.take("?") else { return Ok((condition, height)) };
        let (yes, a) = self.logic(depth + 1)?;
        self.expect(":")?;
        let (no, b) = self.expr(depth + 1)?;
        let node = Node::Conditional(Box::new([condition, yes, no]));
        self.higher(at, node, height.max(a).max(b))
    }

    /// A node above trees of a height.
    fn higher(&mut self, at: u32, node: Node, below: u32) -> Tree {
        self.within(below, MAX_HEIGHT)?;
        Ok((self.node(at, node), below + 1))
    }

    /// A chain of `||` over chains of `&&`.
    fn logic(&mut self, depth: u32) -> Tree {
        let mut any = Chain::default();
        loop {
            let mut all = Chain::default();
            loop {
                all.push(self.operators(depth)?);
                let Some(at) = self.take("&&") else { break };
                all.place.get_or_insert(at);
            }
            any.push(self.chain(true, all)?);
            let Some(at) = self.take("||") else { return self.chain(false, any) };
            any.place.get_or_insert(at);
        }
    }

    fn chain(&mut self, and: bool, mut chain: Chain) -> Tree {
        match (chain.place, chain.terms.pop()) {
            (None, Some(only)) => Ok((only, chain.height)),
            (at, last) => {
                chain.terms.extend(last);
                self.higher(at.unwrap_or(0), Node::Logic { and, terms: chain.terms }, chain.height)
            }
        }
    }

    /// Operands with operators between them, all of which group to the left; without recursion, so that nesting
    /// costs little stack.
    fn operators(&mut self, depth: u32) -> Tree {
        let mut operands = vec![self.unary(depth)?];
        let mut waiting: Vec<(&Operator, u32)> = Vec::new();
        loop {
            let next = OPERATORS.iter().find_map(|op| Some((op, self.take(op.symbol)?)));
            let level = next.map_or(0, |(op, _)| op.level);
            while let Some((op, at)) = waiting.pop_if(|(op, _)| op.level >= level) {
                let (Some((right, a)), Some((left, b))) = (operands.pop(), operands.pop()) else { break };
                let node = Node::Call { function: op.name.into(), target: None, args: vec![left, right] };
                operands.push(self.higher(at, node, a.max(b))?);
            }
            let Some(next) = next else { break };
            waiting.push(next);
            operands.push(self.unary(depth)?);
        }
        operands.pop().ok_or(Noted)
    }

    fn unary(&mut self, depth: u32) -> Tree {
        self.within(depth, MAX_NESTING)?;
        for (symbol, name) in [("!", "!_"), ("-", "-_")] {
            let negated = symbol == "-"
                && matches!(self.peek(), Token::Symbol("-"))
                && matches!(self.tokens.get(self.at + 1).map(|t| &t.token), Some(Token::Literal(l)) if l.value(true).is_ok() && number(l));
            if negated {
                break;
            }
            let mut place = None;
            let mut count = 0_usize;
            while let Some(at) = self.take(symbol) {
                place.get_or_insert(at);
                count += 1;
            }
            let Some(at) = place else { continue };
            let (operand, height) = self.member(depth + 1)?;
            if count.is_multiple_of(2) {
                return Ok((operand, height));
            }
            let node = Node::Call { function: name.into(), target: None, args: vec![operand] };
            return self.higher(at, node, height);
        }
        self.member(depth)
    }

    fn member(&mut self, depth: u32) -> Tree {
        let (mut left, mut height) = self.primary(depth)?;
        loop {
            if let Some(at) = self.take(".") {
                let optional = self.take("?").is_some();
                let (field, called) = match self.peek().clone() {
                    Token::Ident(name) => (name, true),
                    Token::Quoted(name) => (name, false),
                    _ => return Err(self.unexpected("IDENTIFIER")),
                };
                self.at += 1;
                if called && !optional && matches!(self.peek(), Token::Symbol("(")) {
                    let open = self.place();
                    self.at += 1;
                    let (args, h) = self.args(depth)?;
                    let below = height.max(h) + macros::hidden_levels(&field, &args);
                    let node = macros::member(self, open, &field, left, args)?;
                    (left, height) = self.higher(open, node, below)?;
                    continue;
                }
                let access = if optional { Access::Optional } else { Access::Plain };
                let node = Node::Select { operand: Box::new(left), field, access };
                (left, height) = self.higher(at, node, height)?;
            } else if let Some(at) = self.take("[") {
                let optional = self.take("?").is_some();
                let (index, h) = self.expr(depth + 1)?;
                self.expect("]")?;
                let function = if optional { "_[?_]" } else { "_[_]" };
                let node = Node::Call { function: function.into(), target: None, args: vec![left, index] };
                (left, height) = self.higher(at, node, height.max(h))?;
            } else {
                return Ok((left, height));
            }
        }
    }

    fn args(&mut self, depth: u32) -> Result<(Vec<Expr>, u32), Noted> {
        let (mut args, mut height) = (Vec::new(), 0);
        if self.take(")").is_some() {
            return Ok((args, height));
        }
        loop {
            let (arg, h) = self.expr(depth + 1)?;
            args.push(arg);
            height = height.max(h);
            if self.take(")").is_some() {
                return Ok((args, height));
            }
            if self.take(",").is_none() {
                return Err(self.unexpected("{',', ')'}"));
            }
        }
    }

    fn primary(&mut self, depth: u32) -> Tree {
        let at = self.place();
        let token = self.peek().clone();
        match token {
            Token::Literal(literal) => {
                self.at += 1;
                self.literal(at, &literal, false)
            }
            Token::Symbol("-") => {
                let next = self.tokens.get(self.at + 1).map(|t| t.token.clone());
                match next {
                    Some(Token::Literal(literal)) if number(&literal) => {
                        self.at += 2;
                        self.literal(at, &literal, true)
                    }
                    _ => Err(self.unexpected(PRIMARY)),
                }
            }
            Token::Symbol(word @ ("true" | "false" | "null")) => {
                self.at += 1;
                let literal = if word == "null" { Literal::Null } else { Literal::Bool(word == "true") };
                Ok((self.node(at, Node::Literal(literal)), 1))
            }
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.expr(depth + 1)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => self.list(depth, at),
            Token::Symbol("{") => self.map(depth, at),
            Token::Symbol(".") | Token::Ident(_) => self.name(depth, at),
            _ => Err(self.unexpected(PRIMARY)),
        }
    }

    fn literal(&mut self, at: u32, literal: &super::lexer::TokenLiteral, negative: bool) -> Tree {
        match literal.value(negative) {
            Ok(value) => Ok((self.node(at, Node::Literal(value)), 1)),
            Err(message) => Err(self.fail(at, message.to_owned())),
        }
    }

    /// A variable, a call of a function, or an object's construction.
    fn name(&mut self, depth: u32, at: u32) -> Tree {
        // A leading dot asks for the outermost scope; there is but one.
        self.take(".");
        let Token::Ident(name) = self.peek().clone() else { return Err(self.unexpected("IDENTIFIER")) };
        self.at += 1;
        if CEL_RESERVED.contains(&name.as_ref()) {
            return Err(self.fail(at, format!("reserved identifier: {name}")));
        }
        if matches!(self.peek(), Token::Symbol("(")) {
            let open = self.place();
            self.at += 1;
            let (args, height) = self.args(depth)?;
            let node = macros::global(self, &name, args)?;
            return self.higher(open, node, height);
        }
        if let Some((name, open)) = self.message(&name) {
            return self.fields(depth, name, open);
        }
        Ok((self.node(at, Node::Ident(name)), 1))
    }

    /// The qualified name before a `{`, where that follows.
    fn message(&mut self, first: &str) -> Option<(Arc<str>, u32)> {
        let mut name = first.to_owned();
        let mut ahead = self.at;
        loop {
            match (&self.tokens[ahead].token, self.tokens.get(ahead + 1).map(|t| &t.token)) {
                (Token::Symbol("{"), _) => break,
                (Token::Symbol("."), Some(Token::Ident(part))) => {
                    name.push('.');
                    name.push_str(part);
                    ahead += 2;
                }
                _ => return None,
            }
        }
        let open = self.tokens[ahead].at;
        self.at = ahead + 1;
        Some((name.into(), open))
    }

    fn fields(&mut self, depth: u32, name: Arc<str>, open: u32) -> Tree {
        let (mut fields, mut height) = (Vec::new(), 0);
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let (Token::Ident(field) | Token::Quoted(field)) = self.peek().clone() else {
                return Err(self.unexpected("IDENTIFIER"));
            };
            self.at += 1;
            self.expect(":")?;
            let (value, h) = self.expr(depth + 1)?;
            height = height.max(h);
            fields.push((field, value, optional));
            if self.take(",").is_none() && !matches!(self.peek(), Token::Symbol("}")) {
                return Err(self.unexpected("{'}', ','}"));
            }
        }
        self.higher(open, Node::Struct { name, fields }, height)
    }

    fn list(&mut self, depth: u32, at: u32) -> Tree {
        self.at += 1;
        let (mut items, mut height) = (Vec::new(), 0);
        while self.take("]").is_none() {
            let optional = self.take("?").is_some();
            let (item, h) = self.expr(depth + 1)?;
            height = height.max(h);
            items.push((item, optional));
            if self.take(",").is_none() && !matches!(self.peek(), Token::Symbol("]")) {
                return Err(self.unexpected("{']', ','}"));
            }
        }
        self.higher(at, Node::List(items), height)
    }

    fn map(&mut self, depth: u32, at: u32) -> Tree {
        self.at += 1;
        let (mut entries, mut height) = (Vec::new(), 0);
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let (key, a) = self.expr(depth + 1)?;
            self.expect(":")?;
            let (value, b) = self.expr(depth + 1)?;
            height = height.max(a).max(b);
            entries.push((key, value, optional));
            if self.take(",").is_none() && !matches!(self.peek(), Token::Symbol("}")) {
                return Err(self.unexpected("{'}', ','}"));
            }
        }
        self.higher(at, Node::Map(entries), height)
    }
}

fn number(literal: &super::lexer::TokenLiteral) -> bool {
    use super::lexer::TokenLiteral as L;
    matches!(literal, L::Int(_) | L::Double(_))
}
