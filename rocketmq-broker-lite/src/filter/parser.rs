//! Reads SQL92 expressions, and refuses those that Java's parser refuses.

use super::FilterError;
use super::expression::{Constant, Node, Order, Place};
use super::lexer::{Keyword, Lexer, Located, Token};

/// Bytes that an expression may have.
pub(super) const MAX_LENGTH: usize = 64 * 1024;
/// How deep an expression may be nested: parentheses, signs, `NOT`, and one after the other `=`, `<>` and `IS NULL`. Java
/// refuses what exhausts its stack.
pub(super) const MAX_DEPTH: usize = 64;

pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    let mut parser = Parser { lexer: Lexer::new(text), next: None, depth: 0 };
    if text.len() > MAX_LENGTH {
        let reason = format!("it has {} bytes, the limit is {MAX_LENGTH}", text.len());
        return Err(parser.lexer.refuse(0, reason));
    }
    let whole = parser.or()?;
    parser.condition(whole)
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    /// Looked at, not taken yet.
    next: Option<Located<'s>>,
    /// Levels that are open.
    depth: usize,
}

/// A part of the expression, where it starts, and how deep it is.
struct Part {
    node: Node,
    at: usize,
    depth: usize,
}

impl Part {
    fn is_condition(&self) -> bool {
        match &self.node {
            Node::Constant(constant) => matches!(constant, None | Some(Constant::Boolean(_))),
            Node::Property(_) | Node::Negated(_) => false,
            _ => true,
        }
    }
}

impl<'s> Parser<'s> {
    fn or(&mut self) -> Result<Part, FilterError> {
        self.operands(Keyword::Or, Self::and, Node::Or)
    }

    fn and(&mut self) -> Result<Part, FilterError> {
        self.operands(Keyword::And, Self::equality, Node::And)
    }

    fn operands(
        &mut self,
        between: Keyword,
        operand: fn(&mut Self) -> Result<Part, FilterError>,
        joined: fn(Vec<Node>) -> Node,
    ) -> Result<Part, FilterError> {
        let first = operand(self)?;
        if !self.takes(Token::Keyword(between))? {
            return Ok(first);
        }
        let (at, mut depth) = (first.at, first.depth);
        let mut nodes = vec![self.condition(first)?];
        loop {
            let next = operand(self)?;
            depth = depth.max(next.depth);
            nodes.push(self.condition(next)?);
            if !self.takes(Token::Keyword(between))? {
                break;
            }
        }
        self.part(joined(nodes), at, depth)
    }

    fn equality(&mut self) -> Result<Part, FilterError> {
        let mut left = self.comparison()?;
        loop {
            let equal = self.takes(Token::Symbol("="))?;
            if equal || self.takes(Token::Symbol("<>"))? {
                let right = self.comparison()?;
                for side in [&left, &right] {
                    if matches!(side.node, Node::Constant(None)) {
                        return Err(self.lexer.refuse(side.at, "nothing equals NULL; use IS NULL"));
                    }
                }
                let is_boolean =
                    |part: &Part| matches!(part.node, Node::Constant(Some(Constant::Boolean(_))));
                if is_boolean(&left) && matches!(right.node, Node::Constant(_)) && !is_boolean(&right) {
                    return Err(self.lexer.refuse(right.at, "TRUE and FALSE equal no other constant"));
                }
                let (at, depth) = (left.at, left.depth.max(right.depth));
                let node = Node::Equal(Box::new([left.node, right.node]));
                left = self.part(if equal { node } else { Node::Not(Box::new(node)) }, at, depth)?;
            } else if self.takes(Token::Keyword(Keyword::Is))? {
                let not = self.takes(Token::Keyword(Keyword::Not))?;
                self.expect(Token::Keyword(Keyword::Null), "NULL or NOT NULL")?;
                let node = Node::IsNull(Box::new(left.node));
                left = self.part(if not { Node::Not(Box::new(node)) } else { node }, left.at, left.depth)?;
            } else {
                return Ok(left);
            }
        }
    }

    fn comparison(&mut self) -> Result<Part, FilterError> {
        let mut left = self.unary()?;
        loop {
            let orders = [
                (">", Order::Greater),
                (">=", Order::GreaterOrEqual),
                ("<", Order::Less),
                ("<=", Order::LessOrEqual),
            ];
            let next = self.peek()?.token;
            if let Some((_, order)) = orders.iter().find(|(symbol, _)| next == Token::Symbol(symbol)) {
                self.take()?;
                let right = self.unary()?;
                self.ordered(&left)?;
                self.ordered(&right)?;
                let (at, depth) = (left.at, left.depth.max(right.depth));
                left = self.part(Node::Order(Box::new([left.node, right.node]), *order), at, depth)?;
                continue;
            }
            let not = next == Token::Keyword(Keyword::Not);
            if not {
                self.take()?;
            }
            let located = self.peek()?;
            let Token::Keyword(keyword) = located.token else {
                if not {
                    return Err(self.unexpected(located, "BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH"));
                }
                return Ok(left);
            };
            left = match keyword {
                Keyword::Between => self.between(left, not)?,
                Keyword::In => self.within(left, not)?,
                Keyword::Contains => self.search(left, Place::Anywhere, not)?,
                Keyword::StartsWith => self.search(left, Place::Start, not)?,
                Keyword::EndsWith => self.search(left, Place::End, not)?,
                _ if not => {
                    return Err(self.unexpected(located, "BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH"));
                }
                _ => return Ok(left),
            };
        }
    }

    fn between(&mut self, value: Part, not: bool) -> Result<Part, FilterError> {
        self.take()?;
        let low = self.unary()?;
        self.expect(Token::Keyword(Keyword::And), "AND")?;
        let high = self.unary()?;
        for part in [&value, &low, &high] {
            self.ordered(part)?;
        }
        if let (false, Node::Constant(Some(least)), Node::Constant(Some(most))) = (not, &low.node, &high.node)
        {
            if most.value().compare(least.value()).is_ok_and(std::cmp::Ordering::is_lt) {
                return Err(self.lexer.refuse(low.at, "the lower bound is above the upper one"));
            }
        }
        let (at, depth) = (value.at, value.depth.max(low.depth).max(high.depth));
        let nodes = Box::new([value.node, low.node, high.node]);
        self.part(if not { Node::NotBetween(nodes) } else { Node::Between(nodes) }, at, depth)
    }

    fn within(&mut self, value: Part, not: bool) -> Result<Part, FilterError> {
        self.take()?;
        self.expect(Token::Symbol("("), "`(`")?;
        let mut among = vec![self.text()?];
        while self.takes(Token::Symbol(","))? {
            among.push(self.text()?);
        }
        self.expect(Token::Symbol(")"), "`)`")?;
        let Node::Property(property) = value.node else {
            return Err(self.lexer.refuse(value.at, "only a property can be IN a list"));
        };
        self.part(Node::In { property, among: among.into(), not }, value.at, value.depth)
    }

    fn search(&mut self, value: Part, place: Place, not: bool) -> Result<Part, FilterError> {
        self.take()?;
        let text = self.text()?;
        let node = Node::Search { value: Box::new(value.node), place, text, not };
        self.part(node, value.at, value.depth)
    }

    fn unary(&mut self) -> Result<Part, FilterError> {
        let located = self.peek()?;
        if !matches!(located.token, Token::Symbol("+" | "-") | Token::Keyword(Keyword::Not)) {
            return self.primary();
        }
        self.take()?;
        let operand = self.nested(located.at, Self::unary)?;
        let depth = operand.depth;
        let node = match located.token {
            Token::Symbol("+") => return Ok(Part { at: located.at, ..operand }),
            Token::Symbol(_) => Node::Negated(Box::new(operand.node)),
            _ => Node::Not(Box::new(self.condition(operand)?)),
        };
        self.part(node, located.at, depth)
    }

    fn primary(&mut self) -> Result<Part, FilterError> {
        let located = self.peek()?;
        let constant = match located.token {
            Token::Symbol("(") => {
                self.take()?;
                let inner = self.nested(located.at, Self::or)?;
                self.expect(Token::Symbol(")"), "`)`")?;
                return Ok(Part { at: located.at, ..inner });
            }
            Token::Name(name) => {
                self.take()?;
                return Ok(Part { node: Node::Property(name.into()), at: located.at, depth: 0 });
            }
            Token::Text(_) => Some(Constant::Text(self.text()?)),
            Token::Integer(digits) => {
                let out_of_range = || self.lexer.refuse(located.at, format!("{digits} is out of range"));
                let number: i64 = digits.parse().map_err(|_| out_of_range())?;
                Some(i32::try_from(number).map_or(Constant::Long(number), Constant::Integer))
            }
            Token::Float(digits) => {
                let number: f64 = digits.parse().unwrap_or(f64::INFINITY);
                // Java's parser takes Double.MIN_VALUE for the least number; nothing smaller passes, not even zero.
                if number.is_infinite() || number <= 0.0 {
                    let reason = format!("{digits} is out of range; as a zero, write 0");
                    return Err(self.lexer.refuse(located.at, reason));
                }
                Some(Constant::Double(number))
            }
            Token::Keyword(Keyword::True) => Some(Constant::Boolean(true)),
            Token::Keyword(Keyword::False) => Some(Constant::Boolean(false)),
            Token::Keyword(Keyword::Null) => None,
            _ => return Err(self.unexpected(located, "a value")),
        };
        if !matches!(located.token, Token::Text(_)) {
            self.take()?;
        }
        Ok(Part { node: Node::Constant(constant), at: located.at, depth: 0 })
    }

    fn text(&mut self) -> Result<Box<str>, FilterError> {
        let located = self.peek()?;
        let Token::Text(text) = located.token else {
            return Err(self.unexpected(located, "a text in single quotes"));
        };
        self.take()?;
        Ok(text.replace("''", "'").into())
    }

    /// As a condition: a property is cast to one.
    fn condition(&self, part: Part) -> Result<Node, FilterError> {
        match part.node {
            Node::Property(name) => Ok(Node::PropertyAsCondition(name)),
            _ if part.is_condition() => Ok(part.node),
            _ => Err(self.lexer.refuse(part.at, "a condition or property is expected here")),
        }
    }

    /// Refuses what `<` and its like cannot have on either side.
    fn ordered(&self, part: &Part) -> Result<(), FilterError> {
        let fits = match &part.node {
            Node::Constant(Some(constant)) => constant.value().is_number(),
            _ => !part.is_condition(),
        };
        if fits {
            return Ok(());
        }
        Err(self.lexer.refuse(part.at, "only numbers and properties can be ordered"))
    }

    /// Reads something that is a level deeper.
    fn nested(
        &mut self,
        at: usize,
        read: fn(&mut Self) -> Result<Part, FilterError>,
    ) -> Result<Part, FilterError> {
        self.depth += 1;
        self.check_depth(self.depth, at)?;
        let part = read(self);
        self.depth -= 1;
        part
    }

    /// A part above one of this depth.
    fn part(&self, node: Node, at: usize, depth: usize) -> Result<Part, FilterError> {
        self.check_depth(depth + 1, at)?;
        Ok(Part { node, at, depth: depth + 1 })
    }

    fn check_depth(&self, depth: usize, at: usize) -> Result<(), FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.lexer.refuse(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Located<'s>, FilterError> {
        let located = match self.next {
            Some(located) => located,
            None => self.lexer.next()?,
        };
        self.next = Some(located);
        Ok(located)
    }

    fn take(&mut self) -> Result<Located<'s>, FilterError> {
        let located = self.peek()?;
        self.next = None;
        Ok(located)
    }

    /// Takes the next word if it is this one.
    fn takes(&mut self, token: Token<'_>) -> Result<bool, FilterError> {
        let is = self.peek()?.token == token;
        if is {
            self.next = None;
        }
        Ok(is)
    }

    fn expect(&mut self, token: Token<'_>, name: &str) -> Result<(), FilterError> {
        let located = self.peek()?;
        if self.takes(token)? { Ok(()) } else { Err(self.unexpected(located, name)) }
    }

    fn unexpected(&self, found: Located<'_>, expected: &str) -> FilterError {
        let reason = match found.token {
            Token::End => format!("expected {expected}, found the end"),
            _ => format!("expected {expected}, found `{}`", found.text),
        };
        self.lexer.refuse(found.at, reason)
    }
}
