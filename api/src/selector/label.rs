//! Label selectors as query parameters carry them, with upstream's grammar and error texts
//! (apimachinery `pkg/labels`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Error;
use crate::field;
use crate::validation::names;

/// What a requirement demands of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The value is in the set (`=`, `==`, `in`).
    In,
    /// The value is not in the set, or the label is not there (`!=`, `notin`).
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The value is an integer greater than the one given.
    GreaterThan,
    /// The value is an integer less than the one given.
    LessThan,
}

/// One demand on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
    number: i64,
    single: bool,
}

impl Requirement {
    /// A requirement; the caller has checked key and values.
    pub(crate) fn new(key: String, operator: Operator, mut values: Vec<String>) -> Requirement {
        values.sort();
        values.dedup();
        let number = values.first().and_then(|v| v.parse().ok()).unwrap_or(0);
        Requirement { key, operator, values, number, single: false }
    }

    /// The label's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operator.
    #[must_use]
    pub const fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, sorted.
    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values
    }

    fn matches_value(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| match self.values.as_slice() {
            [one] => one == v,
            many => many.binary_search_by(|x| x.as_str().cmp(v)).is_ok(),
        };
        match (self.operator, value) {
            (Operator::In, Some(v)) => listed(v),
            (Operator::NotIn, Some(v)) => !listed(v),
            (Operator::NotIn | Operator::DoesNotExist, None) | (Operator::Exists, Some(_)) => true,
            (Operator::GreaterThan, Some(v)) => v.parse::<i64>().is_ok_and(|n| n > self.number),
            (Operator::LessThan, Some(v)) => v.parse::<i64>().is_ok_and(|n| n < self.number),
            (
                Operator::In | Operator::Exists | Operator::GreaterThan | Operator::LessThan,
                None,
            )
            | (Operator::DoesNotExist, Some(_)) => false,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::In if self.single => write!(f, "{key}={values}"),
            Operator::NotIn if self.single => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// Labels in whatever form the caller has them.
pub trait Labels {
    /// The value of the label `key`.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for [(String, String)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

impl Labels for serde_json::Map<String, serde_json::Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(serde_json::Value::as_str)
    }
}

/// A conjunction of requirements. The empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Selects every object.
    #[must_use]
    pub const fn everything() -> Selector {
        Selector { requirements: Vec::new(), nothing: false }
    }

    /// Selects no object.
    #[must_use]
    pub const fn nothing() -> Selector {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// Selects what fulfils all of `requirements`.
    pub(crate) fn all(mut requirements: Vec<Requirement>) -> Selector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements, nothing: false }
    }

    /// Reads the text of a selector. The error is the message of the 400.
    pub fn parse(text: &str) -> Result<Selector, Error> {
        let mut parser = Parser { tokens: scan(text), position: 0 };
        parser.selector().map(Selector::all)
    }

    /// Whether it selects every object.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// What it demands.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches_value(labels.label(&r.key)))
    }

    /// Whether an object without any label is selected.
    #[must_use]
    pub fn matches_none(&self) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches_value(None))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Identifier,
    In,
    NotIn,
    Comma,
    Open,
    Close,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    End,
    Error,
}

impl Token {
    fn of(text: &str) -> Option<Token> {
        Some(match text {
            ")" => Token::Close,
            "," => Token::Comma,
            "!" => Token::Not,
            "==" => Token::DoubleEquals,
            "=" => Token::Equals,
            ">" => Token::Greater,
            "in" => Token::In,
            "<" => Token::Less,
            "!=" => Token::NotEquals,
            "notin" => Token::NotIn,
            "(" => Token::Open,
            _ => return None,
        })
    }
}

fn scan(text: &str) -> Vec<(Token, String)> {
    let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(blank);
        let Some(first) = rest.chars().next() else {
            tokens.push((Token::End, String::new()));
            return tokens;
        };
        if special(first) {
            // Symbols are ASCII. The longest known prefix is the token.
            let end = rest.find(|c| !special(c)).unwrap_or(rest.len());
            let known = (1..=end).take_while(|n| Token::of(&rest[..*n]).is_some()).last();
            let Some(length) = known else {
                let message = format!("error expected: keyword found '{}'", &rest[..end]);
                tokens.push((Token::Error, message));
                return tokens;
            };
            let token = Token::of(&rest[..length]).unwrap_or(Token::Error);
            tokens.push((token, rest[..length].to_owned()));
            rest = &rest[length..];
        } else {
            let end = rest.find(|c| special(c) || blank(c)).unwrap_or(rest.len());
            let word = &rest[..end];
            tokens.push((Token::of(word).unwrap_or(Token::Identifier), word.to_owned()));
            rest = &rest[end..];
        }
    }
}

struct Parser {
    tokens: Vec<(Token, String)>,
    position: usize,
}

impl Parser {
    /// The next token where a key or value may stand: `in` and `notin` are plain words there.
    fn peek(&self) -> (Token, &str) {
        let (token, text) = self.peek_operator();
        match token {
            Token::In | Token::NotIn => (Token::Identifier, text),
            other => (other, text),
        }
    }

    fn peek_operator(&self) -> (Token, &str) {
        let last = self.tokens.len() - 1;
        let (token, text) = &self.tokens[self.position.min(last)];
        (*token, text)
    }

    fn next(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let out = (token, text.to_owned());
        self.position += 1;
        out
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, Error> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Identifier | Token::Not, _) => {
                    let requirement = self
                        .requirement()
                        .map_err(|e| Error(format!("unable to parse requirement: {}", e.0)))?;
                    requirements.push(requirement);
                }
                (Token::End, _) => return Ok(requirements),
                (_, found) => {
                    return Err(Error(format!(
                        "found '{found}', expected: !, identifier, or 'end of string'"
                    )));
                }
            }
            match self.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {
                    let (token, found) = self.peek();
                    if token != Token::Identifier && token != Token::Not {
                        return Err(Error(format!(
                            "found '{found}', expected: identifier after ','"
                        )));
                    }
                }
                (_, found) => {
                    return Err(Error(format!(
                        "found '{found}', expected: ',' or 'end of string'"
                    )));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(Error(format!("found '{key}', expected: identifier")));
        }
        check_key(&key)?;
        if matches!(self.peek().0, Token::End | Token::Comma) {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Ok(Requirement::new(key, operator, Vec::new()));
        }
        if negated {
            return Ok(Requirement::new(key, Operator::DoesNotExist, Vec::new()));
        }
        let (token, found) = self.peek_operator();
        let found = found.to_owned();
        self.position += 1;
        let (operator, single) = match token {
            Token::In => (Operator::In, false),
            Token::NotIn => (Operator::NotIn, false),
            Token::Equals | Token::DoubleEquals => (Operator::In, true),
            Token::NotEquals => (Operator::NotIn, true),
            Token::Greater => (Operator::GreaterThan, true),
            Token::Less => (Operator::LessThan, true),
            _ => {
                return Err(Error(format!(
                    "found '{found}', expected: in, notin, =, ==, !=, gt, lt"
                )));
            }
        };
        let values = if single { vec![self.exact_value()?] } else { self.values()? };
        check_values(&key, operator, &values)?;
        let mut requirement = Requirement::new(key, operator, values);
        requirement.single = single;
        Ok(requirement)
    }

    fn exact_value(&mut self) -> Result<String, Error> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Identifier, value) => Ok(value),
            (_, found) => Err(Error(format!("found '{found}', expected: identifier"))),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, Error> {
        if let (token, found) = self.next()
            && token != Token::Open
        {
            return Err(Error(format!("found '{found}' expected: '('")));
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, first) => {
                let first = first.to_owned();
                let values = self.value_list()?;
                if self.next().0 != Token::Close {
                    return Err(Error(format!("found '{first}', expected: ')'")));
                }
                Ok(values.into_iter().collect())
            }
            (Token::Close, _) => {
                self.position += 1;
                Ok(Vec::new())
            }
            (_, found) => Err(Error(format!("found '{found}', expected: ',', ')' or identifier"))),
        }
    }

    fn value_list(&mut self) -> Result<BTreeSet<String>, Error> {
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                (Token::Identifier, value) => {
                    values.insert(value);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, found) => {
                            return Err(Error(format!("found '{found}', expected: ',' or ')'")));
                        }
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            self.position += 1;
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, found) => {
                    return Err(Error(format!("found '{found}', expected: ',', or identifier")));
                }
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    let problems = names::qualified_name(key);
    if problems.is_empty() {
        return Ok(());
    }
    let error = field::Error::invalid(&field::Path::new(""), key, problems.join("; "));
    Err(Error(error.to_string()))
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), Error> {
    let path = field::Path::new("values");
    let invalid = |error: field::Error| Err(Error(error.to_string()));
    if matches!(operator, Operator::In | Operator::NotIn) && values.is_empty() {
        let detail = "for 'in', 'notin' operators, values set can't be empty";
        return invalid(field::Error::invalid(&path, Vec::<String>::new(), detail));
    }
    for (i, value) in values.iter().enumerate() {
        let number = matches!(operator, Operator::GreaterThan | Operator::LessThan);
        if number && value.parse::<i64>().is_err() {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            return invalid(field::Error::invalid(&path.index(i), value.as_str(), detail));
        }
        let problems = names::label_value(value);
        if !problems.is_empty() {
            let item = path.index(i);
            let path = item.key(key);
            return invalid(field::Error::invalid(&path, value.as_str(), problems.join("; ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    #[test]
    fn selectors_read_back_in_canonical_form() {
        for (input, want) in [
            ("", ""),
            ("x=a,y=b,z=c", "x=a,y=b,z=c"),
            ("x==a", "x=a"),
            ("x!=a", "x!=a"),
            ("b=1,a=2", "a=2,b=1"),
            ("x in (b,a)", "x in (a,b)"),
            ("x notin (a)", "x notin (a)"),
            ("x,!y", "x,!y"),
            ("x=", "x="),
            ("x= ,z= ", "x=,z="),
            ("x in ()", "ERR"),
            ("x in (,a)", "x in (,a)"),
            ("x in (a,)", "x in (,a)"),
            ("x>1", "x>1"),
            ("x<7", "x<7"),
            ("in in (notin)", "in in (notin)"),
            ("example.com/x=1", "example.com/x=1"),
        ] {
            let got = Selector::parse(input).map_or_else(|_| "ERR".to_owned(), |s| s.to_string());
            assert_eq!(got, want, "{input}");
        }
    }

    #[test]
    fn bad_selectors_say_what_was_expected() {
        for (input, want) in [
            ("x=a||y=b", "values[0][x]: Invalid value: \"a||y\": "),
            ("x==a==b", "found '==', expected: ',' or 'end of string'"),
            ("!x=a", "found '=', expected: ',' or 'end of string'"),
            ("x<a", "for 'Gt', 'Lt' operators, the value must be an integer"),
            ("x in a", "unable to parse requirement: found 'a' expected: '('"),
            ("x,", "found '', expected: identifier after ','"),
            ("x a", "found 'a', expected: in, notin, =, ==, !=, gt, lt"),
            (",x", "found ',', expected: !, identifier, or 'end of string'"),
            ("x in (a b)", "found 'b', expected: ',' or ')'"),
            ("_x=1", "unable to parse requirement: <nil>: Invalid value: \"_x\": name part must"),
            ("x in ()", "values set can't be empty"),
            ("!", "found '', expected: identifier"),
        ] {
            let error = Selector::parse(input).expect_err(input).to_string();
            assert!(error.contains(want), "{input}: {error}");
        }
    }

    #[test]
    fn matching() {
        for (selector, object, want) in [
            ("", "x=y", true),
            ("x=y", "x=y", true),
            ("x=y", "x=z", false),
            ("x=y", "", false),
            ("x!=y", "", true),
            ("x!=y", "x=z", true),
            ("x in (a,b)", "x=b", true),
            ("x in (a,b)", "x=c", false),
            ("x notin (a,b)", "x=c", true),
            ("x", "x=", true),
            ("!x", "x=", false),
            ("!x", "y=1", true),
            ("x>5", "x=6", true),
            ("x>5", "x=5", false),
            ("x<5", "x=four", false),
            ("x=1,y=2", "x=1,y=2,z=3", true),
            ("x=1,y=2", "x=1", false),
        ] {
            let selector = Selector::parse(selector).unwrap();
            assert_eq!(selector.matches(&labels(object)), want, "{selector} on {object}");
        }
        assert!(!Selector::nothing().matches(&labels("x=y")));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,60}") {
            let _ = Selector::parse(&text);
        }

        #[test]
        fn canonical_text_means_the_same(text in "[a-c](=|!=|==)[a-c](,[d-f] (in|notin) \\([a-c](,[a-c])?\\))?") {
            let selector = Selector::parse(&text).unwrap();
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
