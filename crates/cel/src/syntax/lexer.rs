//! From text to tokens.

use std::sync::Arc;

use super::ast::Literal;
use crate::error::Errors;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Literal(TokenLiteral),
    Ident(Arc<str>),
    /// A field's name in backticks.
    Quoted(Arc<str>),
    /// An operator, or one of the words `in`, `true`, `false` and `null`.
    Symbol(&'static str),
    End,
}

/// A literal whose digits are not yet a number, because a minus before them belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenLiteral {
    Int(String),
    Uint(String),
    Double(String),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// A token with the place where it starts and where it ends, in code points.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub(super) token: Token,
    pub(super) at: u32,
    pub(super) end: u32,
}

const SYMBOLS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%",
];

pub(super) fn lex(chars: &[char], errors: &mut Errors) -> Vec<Spanned> {
    Lexer { chars, at: 0 }.run(errors)
}

struct Lexer<'c> {
    chars: &'c [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn run(mut self, errors: &mut Errors) -> Vec<Spanned> {
        let mut tokens = Vec::new();
        loop {
            self.blank();
            let start = self.at;
            let token = match self.peek(0) {
                None => {
                    tokens.push(Spanned { token: Token::End, at: start as u32, end: start as u32 });
                    return tokens;
                }
                Some(c) => self.token(c),
            };
            match token {
                Ok(token) => tokens.push(Spanned { token, at: start as u32, end: self.at as u32 }),
                Err(()) => {
                    self.at = self.at.max(start + 1).min(self.chars.len());
                    let text: String = self.chars[start..self.at].iter().collect();
                    errors.add(start as u32, format!("Syntax error: token recognition error at: '{text}'"));
                }
            }
        }
    }

    fn blank(&mut self) {
        while let Some(c) = self.peek(0) {
            if matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}') {
                self.at += 1;
            } else if c == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn token(&mut self, c: char) -> Result<Token, ()> {
        let digit_next = self.peek(1).is_some_and(|d| d.is_ascii_digit());
        if c.is_ascii_digit() || c == '.' && digit_next {
            return Ok(self.number());
        }
        if let Some((bytes, raw, skip)) = self.string_prefix(c) {
            self.at += skip;
            return self.string(bytes, raw);
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let word: String = self.chars[self.at..]
                .iter()
                .take_while(|c| c.is_ascii_alphanumeric() || **c == '_')
                .collect();
            self.at += word.len();
            return Ok(match word.as_str() {
                "in" => Token::Symbol("in"),
                "true" => Token::Symbol("true"),
                "false" => Token::Symbol("false"),
                "null" => Token::Symbol("null"),
                _ => Token::Ident(word.into()),
            });
        }
        if c == '`' {
            let name: String = self.chars[self.at + 1..]
                .iter()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '))
                .collect();
            self.at += 1 + name.len();
            if self.peek(0) != Some('`') || name.is_empty() {
                return Err(());
            }
            self.at += 1;
            return Ok(Token::Quoted(name.into()));
        }
        let symbol =
            SYMBOLS.iter().find(|s| s.chars().enumerate().all(|(i, c)| self.peek(i) == Some(c))).ok_or(())?;
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }

    fn digits(&mut self, of: fn(char) -> bool) -> String {
        let text: String = self.chars[self.at..].iter().take_while(|c| of(**c)).collect();
        self.at += text.len();
        text
    }

    fn number(&mut self) -> Token {
        let decimal = |c: char| c.is_ascii_digit();
        if self.peek(0) == Some('0')
            && self.peek(1) == Some('x')
            && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit())
        {
            self.at += 2;
            let digits = format!("0x{}", self.digits(|c| c.is_ascii_hexdigit()));
            return self.whole(digits);
        }
        let mut text = self.digits(decimal);
        let mut float = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(decimal) {
            self.at += 1;
            text.push('.');
            text.push_str(&self.digits(decimal));
            float = true;
        }
        let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
        if matches!(self.peek(0), Some('e' | 'E')) && self.peek(1 + sign).is_some_and(decimal) {
            text.push('e');
            if sign == 1 {
                text.extend(self.peek(1));
            }
            self.at += 1 + sign;
            text.push_str(&self.digits(decimal));
            float = true;
        }
        if float { Token::Literal(TokenLiteral::Double(text)) } else { self.whole(text) }
    }

    fn whole(&mut self, digits: String) -> Token {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return Token::Literal(TokenLiteral::Uint(digits));
        }
        Token::Literal(TokenLiteral::Int(digits))
    }

    /// Whether a string of bytes or of raw text starts here, and how long the letters before its quote are.
    fn string_prefix(&self, c: char) -> Option<(bool, bool, usize)> {
        let quote = |ahead| matches!(self.peek(ahead), Some('"' | '\''));
        match c {
            '"' | '\'' => Some((false, false, 0)),
            'r' | 'R' if quote(1) => Some((false, true, 1)),
            'b' | 'B' if quote(1) => Some((true, false, 1)),
            'b' | 'B' if matches!(self.peek(1), Some('r' | 'R')) && quote(2) => Some((true, true, 2)),
            _ => None,
        }
    }

    fn string(&mut self, bytes: bool, raw: bool) -> Result<Token, ()> {
        let quote = self.peek(0).ok_or(())?;
        let long = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let width = if long { 3 } else { 1 };
        self.at += width;
        let mut out = Vec::new();
        loop {
            let c = self.peek(0).ok_or(())?;
            if (0..width).all(|i| self.peek(i) == Some(quote)) {
                self.at += width;
                break;
            }
            if !long && matches!(c, '\n' | '\r') {
                return Err(());
            }
            self.at += 1;
            if c == '\\' && !raw {
                self.escape(bytes, &mut out)?;
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(Token::Literal(if bytes {
            TokenLiteral::Bytes(out.into())
        } else {
            TokenLiteral::String(String::from_utf8(out).map_err(|_| ())?.into())
        }))
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), ()> {
        let c = self.peek(0).ok_or(())?;
        self.at += 1;
        let plain = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '"' | '\'' | '\\' | '?' | '`' => c as u8,
            'x' | 'X' => return self.code(2, 16, bytes, out),
            'u' if !bytes => return self.code(4, 16, false, out),
            'U' if !bytes => return self.code(8, 16, false, out),
            '0'..='3' => {
                self.at -= 1;
                return self.code(3, 8, bytes, out);
            }
            _ => return Err(()),
        };
        out.push(plain);
        Ok(())
    }

    /// A code point, or in bytes a byte, of so many digits.
    fn code(&mut self, digits: usize, radix: u32, byte: bool, out: &mut Vec<u8>) -> Result<(), ()> {
        let mut code = 0_u32;
        for _ in 0..digits {
            let digit = self.peek(0).and_then(|c| c.to_digit(radix)).ok_or(())?;
            code = code.checked_mul(radix).and_then(|c| c.checked_add(digit)).ok_or(())?;
            self.at += 1;
        }
        if byte {
            out.push(u8::try_from(code).map_err(|_| ())?);
        } else {
            out.extend_from_slice(char::from_u32(code).ok_or(())?.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }
}

impl TokenLiteral {
    /// The value, with the minus before it.
    pub(super) fn value(&self, negative: bool) -> Result<Literal, &'static str> {
        let sign = if negative { "-" } else { "" };
        Ok(match self {
            Self::Int(digits) => Literal::Int(
                match digits.strip_prefix("0x") {
                    Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16),
                    None => format!("{sign}{digits}").parse(),
                }
                .map_err(|_| "invalid int literal")?,
            ),
            Self::Uint(digits) => Literal::Uint(
                match digits.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16),
                    None => digits.parse(),
                }
                .map_err(|_| "invalid uint literal")?,
            ),
            Self::Double(digits) => {
                let number: f64 = format!("{sign}{digits}").parse().map_err(|_| "invalid double literal")?;
                if number.is_infinite() {
                    return Err("invalid double literal");
                }
                Literal::Double(number)
            }
            Self::String(text) => Literal::String(Arc::clone(text)),
            Self::Bytes(bytes) => Literal::Bytes(Arc::clone(bytes)),
        })
    }
}
