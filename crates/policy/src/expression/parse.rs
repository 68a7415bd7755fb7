//! Tokens to a tree.

use std::fmt;

use super::Value;
use super::pattern::Pattern;
use super::tokens::{Token, tokens};
use crate::limits::{DEEPEST_EXPRESSION, LONGEST_EXPRESSION};

/// Why a text is no expression that can be evaluated here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpressionError {
    /// Longer than anybody needs.
    TooLong,
    /// Brackets in brackets in brackets.
    TooDeep,
    /// A character that means nothing.
    Character(char),
    /// A quote without its end.
    Quote,
    /// Digits that are no number.
    Number,
    /// Something else was expected here.
    Unexpected(String),
    /// A function that is not known.
    Function(String),
    /// A regular expression that is none, or no literal text.
    Pattern(String),
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "is longer than {LONGEST_EXPRESSION} bytes"),
            Self::TooDeep => f.write_str("is nested too deeply"),
            Self::Character(c) => write!(f, "has a {c:?} that means nothing"),
            Self::Quote => f.write_str("has a quote without its end"),
            Self::Number => f.write_str("has digits that are no number"),
            Self::Unexpected(token) => write!(f, "has {token} where it cannot be"),
            Self::Function(name) => write!(f, "calls {name}, which is not known here"),
            Self::Pattern(why) => write!(f, "has a regular expression that cannot be used: {why}"),
        }
    }
}

impl std::error::Error for ExpressionError {}

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(pub(super) Node);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Value(Value),
    Path(Vec<String>),
    List(Vec<Node>),
    Not(Box<Node>),
    Both(Box<(Node, Node)>),
    Either(Box<(Node, Node)>),
    Compare(Comparison, Box<(Node, Node)>),
    Plus(Box<(Node, Node)>),
    In(Box<(Node, Node)>),
    Choose(Box<(Node, Node, Node)>),
    Has(Vec<String>),
    Call(Function, Box<(Node, Option<Node>)>),
    Matches(Box<Node>, Pattern),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    String,
    Int,
    Size,
    StartsWith,
    EndsWith,
    Contains,
}

impl Expression {
    /// Compiles a text.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > LONGEST_EXPRESSION {
            return Err(ExpressionError::TooLong);
        }
        let tokens = tokens(text)?;
        let mut parser = Parser {
            tokens: &tokens,
            at: 0,
            depth: 0,
        };
        let node = parser.choice()?;
        match parser.peek() {
            None => Ok(Self(node)),
            Some(_) => Err(parser.unexpected()),
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), ExpressionError> {
        if self.takes(sign) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn unexpected(&self) -> ExpressionError {
        ExpressionError::Unexpected(match self.peek() {
            None => "its end".to_owned(),
            Some(Token::Sign(sign)) => format!("{sign:?}"),
            Some(Token::Name(name)) => format!("{name:?}"),
            Some(Token::Text(text)) => format!("the text {text:?}"),
            Some(Token::Int(number)) => number.to_string(),
            Some(Token::Float(number)) => number.to_string(),
        })
    }

    /// `a ? b : c`, the loosest.
    fn choice(&mut self) -> Result<Node, ExpressionError> {
        self.depth += 1;
        if self.depth > DEEPEST_EXPRESSION {
            return Err(ExpressionError::TooDeep);
        }
        let condition = self.either()?;
        let node = if self.takes("?") {
            let yes = self.choice()?;
            self.expect(":")?;
            Node::Choose(Box::new((condition, yes, self.choice()?)))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(node)
    }

    fn either(&mut self) -> Result<Node, ExpressionError> {
        let mut node = self.both()?;
        while self.takes("||") {
            node = Node::Either(Box::new((node, self.both()?)));
        }
        Ok(node)
    }

    fn both(&mut self) -> Result<Node, ExpressionError> {
        let mut node = self.comparison()?;
        while self.takes("&&") {
            node = Node::Both(Box::new((node, self.comparison()?)));
        }
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, ExpressionError> {
        let left = self.sum()?;
        if self.peek() == Some(&Token::Name("in".to_owned())) {
            self.at += 1;
            return Ok(Node::In(Box::new((left, self.sum()?))));
        }
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Different),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        match comparisons.into_iter().find(|(sign, _)| self.takes(sign)) {
            Some((_, comparison)) => Ok(Node::Compare(comparison, Box::new((left, self.sum()?)))),
            None => Ok(left),
        }
    }

    fn sum(&mut self) -> Result<Node, ExpressionError> {
        let mut node = self.unary()?;
        while self.takes("+") {
            node = Node::Plus(Box::new((node, self.unary()?)));
        }
        Ok(node)
    }

    fn unary(&mut self) -> Result<Node, ExpressionError> {
        let mut negations = 0usize;
        while self.takes("!") {
            negations += 1;
        }
        let node = if self.takes("-") {
            self.negative()?
        } else {
            self.postfix()?
        };
        Ok(if negations % 2 == 1 {
            Node::Not(Box::new(node))
        } else {
            node
        })
    }

    fn negative(&mut self) -> Result<Node, ExpressionError> {
        let node = match self.peek() {
            Some(Token::Int(number)) => Node::Value(Value::Int(-number)),
            Some(Token::Float(number)) => Node::Value(Value::Float(-number)),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(node)
    }

    /// Something, then `.name`, `['name']` and `.method(x)`.
    fn postfix(&mut self) -> Result<Node, ExpressionError> {
        let mut node = self.primary()?;
        loop {
            if self.takes(".") {
                let Some(Token::Name(name)) = self.peek().cloned() else {
                    return Err(self.unexpected());
                };
                self.at += 1;
                if self.takes("(") {
                    if name == "matches" {
                        node = Node::Matches(Box::new(node), self.pattern()?);
                        continue;
                    }
                    let function = match name.as_str() {
                        "startsWith" => Function::StartsWith,
                        "endsWith" => Function::EndsWith,
                        "contains" => Function::Contains,
                        _ => return Err(ExpressionError::Function(name)),
                    };
                    let argument = self.choice()?;
                    self.expect(")")?;
                    node = Node::Call(function, Box::new((node, Some(argument))));
                    continue;
                }
                self.step(&mut node, name)?;
            } else if self.takes("[") {
                let Some(Token::Text(name)) = self.peek().cloned() else {
                    return Err(self.unexpected());
                };
                self.at += 1;
                self.expect("]")?;
                self.step(&mut node, name)?;
            } else {
                return Ok(node);
            }
        }
    }

    /// The argument of `matches`: a literal text, so that it is compiled once.
    fn pattern(&mut self) -> Result<Pattern, ExpressionError> {
        let Some(Token::Text(text)) = self.peek().cloned() else {
            return Err(ExpressionError::Pattern("a text is expected".to_owned()));
        };
        self.at += 1;
        self.expect(")")?;
        Pattern::new(&text).map_err(ExpressionError::Pattern)
    }

    fn step(&self, node: &mut Node, name: String) -> Result<(), ExpressionError> {
        match node {
            Node::Path(path) => {
                path.push(name);
                Ok(())
            }
            _ => Err(ExpressionError::Unexpected(format!("{name:?}"))),
        }
    }

    fn primary(&mut self) -> Result<Node, ExpressionError> {
        if self.takes("(") {
            let node = self.choice()?;
            self.expect(")")?;
            return Ok(node);
        }
        if self.takes("[") {
            let mut items = Vec::new();
            while !self.takes("]") {
                items.push(self.choice()?);
                if !self.takes(",") {
                    self.expect("]")?;
                    break;
                }
            }
            return Ok(Node::List(items));
        }
        let node = match self.peek().cloned() {
            Some(Token::Text(text)) => Node::Value(Value::Text(text)),
            Some(Token::Int(number)) => Node::Value(Value::Int(number)),
            Some(Token::Float(number)) => Node::Value(Value::Float(number)),
            Some(Token::Name(name)) => {
                self.at += 1;
                return self.name(name);
            }
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(node)
    }

    fn name(&mut self, name: String) -> Result<Node, ExpressionError> {
        match name.as_str() {
            "true" => return Ok(Node::Value(Value::Bool(true))),
            "false" => return Ok(Node::Value(Value::Bool(false))),
            _ => {}
        }
        if !self.takes("(") {
            return Ok(Node::Path(vec![name]));
        }
        let function = match name.as_str() {
            "has" => None,
            "string" => Some(Function::String),
            "int" => Some(Function::Int),
            "size" => Some(Function::Size),
            _ => return Err(ExpressionError::Function(name)),
        };
        let argument = self.choice()?;
        self.expect(")")?;
        match (function, argument) {
            (Some(function), argument) => Ok(Node::Call(function, Box::new((argument, None)))),
            (None, Node::Path(path)) => Ok(Node::Has(path)),
            (None, _) => Err(ExpressionError::Unexpected(
                "the argument of has".to_owned(),
            )),
        }
    }
}
