//! Reading expressions.

pub(crate) mod ast;
mod lexer;
mod macros;
mod parser;

pub(crate) use parser::parse;

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
