use super::TemplateError;
use super::functions;
use super::lex::{Piece, Placed, Token, error, split};

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    Branch { kind: Branch, pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    If,
    With,
    Range,
}

/// Commands, each of which gets what the one before it gives.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    /// The variables are there already.
    pub(super) assign: bool,
    /// Each is a list of operands.
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) kind: Kind,
    /// Fields after it: `.A.B`.
    pub(super) fields: Vec<String>,
    /// Where errors say it is.
    pub(super) at: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// The dot, or a field of it.
    Dot,
    Variable(String),
    Function(String),
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
    Nil,
    Pipe(Pipe),
}

/// How a list of nodes ended.
enum Ended {
    Source,
    End,
    Else(Option<(Branch, Pipe)>),
}

pub(super) fn parse(source: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser =
        Parser { source, pieces: split(source)?.into_iter(), scope: vec!["$".to_owned()], ranges: 0 };
    let (nodes, ended) = parser.list()?;
    match ended {
        Ended::Source => Ok(nodes),
        Ended::End => Err(error(source, source.len(), "unexpected {{end}}")),
        Ended::Else(_) => Err(error(source, source.len(), "unexpected {{else}}")),
    }
}

struct Parser<'a> {
    source: &'a str,
    pieces: std::vec::IntoIter<Piece>,
    /// Variables that are there.
    scope: Vec<String>,
    ranges: usize,
}

impl Parser<'_> {
    fn list(&mut self) -> Result<(Vec<Node>, Ended), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let Some(first) = tokens.first() else {
                return Err(self.error(0, "missing value for command"));
            };
            let (at, rest) = (first.at, &tokens[1..]);
            let Token::Word(word) = &first.token else {
                nodes.push(Node::Action(self.pipe(&tokens, at, "command")?));
                continue;
            };
            match word.as_str() {
                "if" => nodes.push(self.branch(Branch::If, rest, at)?),
                "with" => nodes.push(self.branch(Branch::With, rest, at)?),
                "range" => nodes.push(self.branch(Branch::Range, rest, at)?),
                "end" if rest.is_empty() => return Ok((nodes, Ended::End)),
                "else" => return Ok((nodes, Ended::Else(self.else_branch(rest, at)?))),
                "break" if self.ranges > 0 => nodes.push(Node::Break),
                "continue" if self.ranges > 0 => nodes.push(Node::Continue),
                word @ ("break" | "continue") => {
                    return Err(self.error(at, &format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                word @ ("define" | "template" | "block") => {
                    return Err(self.error(at, &format!("{{{{{word}}}}} is not supported")));
                }
                _ => nodes.push(Node::Action(self.pipe(&tokens, at, "command")?)),
            }
        }
        Ok((nodes, Ended::Source))
    }

    fn else_branch(&mut self, rest: &[Placed], at: usize) -> Result<Option<(Branch, Pipe)>, TemplateError> {
        let kind = match rest.first().map(|placed| &placed.token) {
            None => return Ok(None),
            Some(Token::Word(word)) if word == "if" => Branch::If,
            Some(Token::Word(word)) if word == "with" => Branch::With,
            Some(_) => return Err(self.error(at, "unexpected token in else")),
        };
        Ok(Some((kind, self.pipe(&rest[1..], at, keyword(kind))?)))
    }

    fn branch(&mut self, kind: Branch, tokens: &[Placed], at: usize) -> Result<Node, TemplateError> {
        let known = self.scope.len();
        let pipe = self.pipe(tokens, at, keyword(kind))?;
        self.branch_of(kind, pipe, known)
    }

    fn branch_of(&mut self, kind: Branch, pipe: Pipe, known: usize) -> Result<Node, TemplateError> {
        self.ranges += usize::from(kind == Branch::Range);
        let (then, ended) = self.list()?;
        self.ranges -= usize::from(kind == Branch::Range);
        let otherwise = match ended {
            Ended::End => Vec::new(),
            Ended::Source => return Err(self.error(self.source.len(), "unexpected EOF")),
            // `else if` closes with the same end.
            Ended::Else(Some((kind, pipe))) => vec![self.branch_of(kind, pipe, known)?],
            Ended::Else(None) => match self.list()? {
                (nodes, Ended::End) => nodes,
                (_, Ended::Source) => return Err(self.error(self.source.len(), "unexpected EOF")),
                (_, Ended::Else(_)) => {
                    return Err(self.error(self.source.len(), "expected end; found {{else}}"));
                }
            },
        };
        self.scope.truncate(known);
        Ok(Node::Branch { kind, pipe, then, otherwise })
    }

    /// Reads `$a, $b := command | command`.
    fn pipe(&mut self, tokens: &[Placed], at: usize, context: &str) -> Result<Pipe, TemplateError> {
        let (variables, assign, rest) = declared(tokens);
        if assign && let Some(unknown) = variables.iter().find(|name| !self.scope.contains(name)) {
            return Err(self.error(at, &format!("undefined variable {unknown:?}")));
        }
        let mut commands = Vec::new();
        let mut rest = rest;
        loop {
            let (operands, after) = self.command(rest)?;
            if operands.is_empty() {
                return Err(self.error(at, &format!("missing value for {context}")));
            }
            commands.push(operands);
            match after.first().map(|placed| &placed.token) {
                Some(Token::Pipe) => rest = &after[1..],
                None => break,
                Some(_) => return Err(self.error(after[0].at, "unexpected token in operand")),
            }
        }
        let later = commands.iter().skip(1);
        if let Some(at) = later.filter(|c| !callable(&c[0])).map(|c| c[0].at).next() {
            return Err(self.error(at, "non executable command in pipeline"));
        }
        if !assign {
            self.scope.extend(variables.iter().cloned());
        }
        Ok(Pipe { variables, assign, commands })
    }

    /// Reads operands up to a bar or a closing parenthesis.
    fn command<'t>(&mut self, tokens: &'t [Placed]) -> Result<(Vec<Operand>, &'t [Placed]), TemplateError> {
        let (mut operands, mut rest) = (Vec::new(), tokens);
        while let Some(placed) = rest.first() {
            if matches!(placed.token, Token::Pipe | Token::Close) {
                break;
            }
            let (operand, after) = self.operand(rest)?;
            operands.push(operand);
            rest = after;
        }
        Ok((operands, rest))
    }

    fn operand<'t>(&mut self, tokens: &'t [Placed]) -> Result<(Operand, &'t [Placed]), TemplateError> {
        let (placed, mut rest) = (&tokens[0], &tokens[1..]);
        let (mut at, mut fields) = (placed.at, Vec::new());
        let kind = match &placed.token {
            Token::Dot => Kind::Dot,
            Token::Field(name) => {
                fields.push(name.clone());
                Kind::Dot
            }
            Token::Variable(name) if self.scope.contains(name) => Kind::Variable(name.clone()),
            Token::Variable(name) => {
                return Err(self.error(placed.at, &format!("undefined variable {name:?}")));
            }
            Token::Text(text) => Kind::Text(text.clone()),
            Token::Number(number) => Kind::Number(number.clone()),
            Token::Word(word) => match word.as_str() {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "nil" => Kind::Nil,
                name if functions::is_known(name) => Kind::Function(name.to_owned()),
                name => return Err(self.error(placed.at, &format!("function {name:?} not defined"))),
            },
            Token::Open => {
                let (end, inside) = (closing(rest), rest);
                let Some(end) = end else { return Err(self.error(placed.at, "unclosed left paren")) };
                rest = &rest[end + 1..];
                Kind::Pipe(self.pipe(&inside[..end], placed.at, "parenthesized pipeline")?)
            }
            Token::Comma | Token::Declare | Token::Assign | Token::Pipe | Token::Close => {
                return Err(self.error(placed.at, "unexpected token in operand"));
            }
        };
        let first = fields.len();
        while let Some(Placed { token: Token::Field(name), spaced: false, at: place }) = rest.first() {
            if fields.len() == first && !matches!(kind, Kind::Dot if first == 0) {
                at = *place;
            }
            fields.push(name.clone());
            rest = &rest[1..];
        }
        Ok((Operand { kind, fields, at }, rest))
    }

    fn error(&self, at: usize, what: &str) -> TemplateError {
        error(self.source, at, what)
    }
}

fn keyword(kind: Branch) -> &'static str {
    match kind {
        Branch::If => "if",
        Branch::With => "with",
        Branch::Range => "range",
    }
}

/// The variables that a pipe sets, whether they are there already, and the rest of it.
fn declared(tokens: &[Placed]) -> (Vec<String>, bool, &[Placed]) {
    let kinds: Vec<&Token> = tokens.iter().take(4).map(|placed| &placed.token).collect();
    match kinds.as_slice() {
        [Token::Variable(a), Token::Declare, ..] => (vec![a.clone()], false, &tokens[2..]),
        [Token::Variable(a), Token::Assign, ..] => (vec![a.clone()], true, &tokens[2..]),
        [Token::Variable(a), Token::Comma, Token::Variable(b), Token::Declare] => {
            (vec![a.clone(), b.clone()], false, &tokens[4..])
        }
        _ => (Vec::new(), false, tokens),
    }
}

/// Whether something may come before it in a pipe.
fn callable(operand: &Operand) -> bool {
    !operand.fields.is_empty() || matches!(operand.kind, Kind::Function(_))
}

/// Where the parenthesis that was opened before these tokens is closed.
fn closing(tokens: &[Placed]) -> Option<usize> {
    let mut depth = 0_usize;
    for (n, placed) in tokens.iter().enumerate() {
        match placed.token {
            Token::Open => depth += 1,
            Token::Close if depth == 0 => return Some(n),
            Token::Close => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Whether a field of the outermost dot is shown.
pub(super) fn uses(nodes: &[Node], field: &str) -> bool {
    fn in_pipe(pipe: &Pipe, field: &str) -> bool {
        pipe.commands.iter().flatten().any(|operand| {
            let inner = matches!(&operand.kind, Kind::Pipe(pipe) if in_pipe(pipe, field));
            inner || operand.fields.first().is_some_and(|name| name == field)
        })
    }
    nodes.iter().any(|node| match node {
        Node::Action(pipe) => in_pipe(pipe, field),
        Node::Branch { pipe, then, otherwise, .. } => {
            in_pipe(pipe, field) || uses(then, field) || uses(otherwise, field)
        }
        Node::Text(_) | Node::Break | Node::Continue => false,
    })
}
