//! Texts to tokens.

use super::parse::ExpressionError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Int(i64),
    Float(f64),
    /// One of the operators and brackets.
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: [&str; 20] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ".", ",", "?", ":", "+",
    "-", "%",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ExpressionError> {
    let mut tokens = Vec::new();
    let mut left = text;
    while let Some(first) = left.chars().next() {
        if first.is_whitespace() {
            left = left.trim_start();
        } else if first == '\'' || first == '"' {
            let (value, rest) = quoted(left, first)?;
            tokens.push(Token::Text(value));
            left = rest;
        } else if first.is_ascii_digit() {
            let (token, rest) = number(left)?;
            tokens.push(token);
            left = rest;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = left
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(left.len());
            let (name, rest) = left.split_at(end);
            tokens.push(Token::Name(name.to_owned()));
            left = rest;
        } else {
            let sign = SIGNS.iter().find(|sign| left.starts_with(**sign));
            let sign = sign.ok_or(ExpressionError::Character(first))?;
            tokens.push(Token::Sign(sign));
            left = left.strip_prefix(sign).unwrap_or_default();
        }
    }
    Ok(tokens)
}

fn quoted(text: &str, quote: char) -> Result<(String, &str), ExpressionError> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other)) => value.push(other),
                None => break,
            },
            c if c == quote => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            c => value.push(c),
        }
    }
    Err(ExpressionError::Quote)
}

fn number(text: &str) -> Result<(Token, &str), ExpressionError> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let token = match digits.parse::<i64>() {
        Ok(number) => Token::Int(number),
        Err(_) => Token::Float(digits.parse().map_err(|_| ExpressionError::Number)?),
    };
    // `200u` is an unsigned number.
    Ok((token, rest.strip_prefix('u').unwrap_or(rest)))
}
