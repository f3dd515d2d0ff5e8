//! Reading JSON text, token by token, with the error texts of Go's scanner.
//!
//! Knows nothing of schemas. Invalid UTF-8 and lone surrogates become U+FFFD, as in Go.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::limits::NESTING_DEPTH_MAX;

/// Malformed JSON; the text is that of Go's `json.SyntaxError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(pub String);

const END: &str = "unexpected end of JSON input";

/// A position in JSON text.
pub(crate) struct Scanner<'a> {
    data: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, depth: 0 }
    }

    /// The next byte that is not white space, which stays unread.
    pub(crate) fn peek(&mut self) -> Result<u8, SyntaxError> {
        while let Some(byte) = self.data.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(SyntaxError(END.to_owned()))
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), SyntaxError> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(byte) => Err(invalid(byte, "after top-level value")),
        }
    }

    /// Enters `{` or `[`; true when it is empty, and then it is closed already.
    pub(crate) fn open(&mut self, close: u8) -> Result<bool, SyntaxError> {
        self.at += 1;
        self.depth += 1;
        if self.depth > NESTING_DEPTH_MAX {
            return Err(SyntaxError("exceeded max depth".to_owned()));
        }
        if self.peek()? != close {
            return Ok(false);
        }
        self.at += 1;
        self.depth -= 1;
        Ok(true)
    }

    /// After a value of an object or list: true when another follows, false when it is closed.
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, SyntaxError> {
        let byte = self.peek()?;
        if byte == b',' {
            self.at += 1;
            return Ok(true);
        }
        if byte == close {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        let context =
            if close == b'}' { "after object key:value pair" } else { "after array element" };
        Err(invalid(byte, context))
    }

    /// A key of an object and its colon.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let byte = self.peek()?;
        if byte != b'"' {
            return Err(invalid(byte, "looking for beginning of object key string"));
        }
        let key = self.string()?;
        let byte = self.peek()?;
        if byte != b':' {
            return Err(invalid(byte, "after object key"));
        }
        self.at += 1;
        Ok(key)
    }

    /// A string; the next byte is its quote.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        self.at += 1;
        let start = self.at;
        let rest = &self.data[start..];
        let special = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
        let Some(length) = special else { return Err(SyntaxError(END.to_owned())) };
        self.at += length;
        match rest[length] {
            b'"' => {
                self.at += 1;
                let bytes = &rest[..length];
                Ok(std::str::from_utf8(bytes)
                    .map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed))
            }
            b'\\' => self.escaped(start).map(Cow::Owned),
            control => Err(invalid(control, "in string literal")),
        }
    }

    fn escaped(&mut self, start: usize) -> Result<String, SyntaxError> {
        let mut out = self.data[start..self.at].to_vec();
        loop {
            match self.data.get(self.at).copied() {
                None => return Err(SyntaxError(END.to_owned())),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(String::from_utf8(out)
                        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()));
                }
                Some(b'\\') => {
                    self.at += 1;
                    let byte = self.data.get(self.at).copied();
                    self.at += 1;
                    match byte {
                        None => return Err(SyntaxError(END.to_owned())),
                        Some(c @ (b'"' | b'\\' | b'/')) => out.push(c),
                        Some(b'b') => out.push(8),
                        Some(b'f') => out.push(12),
                        Some(b'n') => out.push(b'\n'),
                        Some(b'r') => out.push(b'\r'),
                        Some(b't') => out.push(b'\t'),
                        Some(b'u') => {
                            let c = self.unicode_escape()?;
                            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                        Some(other) => return Err(invalid(other, "in string escape code")),
                    }
                }
                Some(byte) if byte < 0x20 => return Err(invalid(byte, "in string literal")),
                Some(byte) => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn unicode_escape(&mut self) -> Result<char, SyntaxError> {
        let high = self.hex4()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let mark = self.at;
        if self.data.get(self.at..self.at + 2) == Some(b"\\u") {
            self.at += 2;
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = mark;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let mut value = 0;
        for _ in 0..4 {
            let byte = *self.data.get(self.at).ok_or_else(|| SyntaxError(END.to_owned()))?;
            let digit = char::from(byte)
                .to_digit(16)
                .ok_or_else(|| invalid(byte, "in \\u hexadecimal character escape"))?;
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }

    /// A number, as its text; the next byte starts one.
    pub(crate) fn number(&mut self) -> Result<&'a str, SyntaxError> {
        let start = self.at;
        if self.data[self.at] == b'-' {
            self.at += 1;
        }
        match self.data.get(self.at) {
            None => return Err(SyntaxError(END.to_owned())),
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            Some(byte) => return Err(invalid(*byte, "in numeric literal")),
        }
        if self.data.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.one_digit("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.data.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.data.get(self.at) {
                self.at += 1;
            }
            self.one_digit("in exponent of numeric literal")?;
        }
        Ok(std::str::from_utf8(&self.data[start..self.at]).unwrap_or("0"))
    }

    fn digits(&mut self) {
        while self.data.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn one_digit(&mut self, context: &str) -> Result<(), SyntaxError> {
        match self.data.get(self.at) {
            None => Err(SyntaxError(END.to_owned())),
            Some(byte) if byte.is_ascii_digit() => {
                self.digits();
                Ok(())
            }
            Some(byte) => Err(invalid(*byte, context)),
        }
    }

    /// `true`, `false` or `null`; the next byte is its first.
    pub(crate) fn literal(&mut self, word: &'static str) -> Result<(), SyntaxError> {
        for (at, expected) in word.bytes().enumerate() {
            match self.data.get(self.at) {
                None => return Err(SyntaxError(END.to_owned())),
                Some(byte) if *byte == expected => self.at += 1,
                Some(byte) => {
                    let context = format!(
                        "in literal {word} (expecting {})",
                        quote_char(word.as_bytes()[at])
                    );
                    return Err(invalid(*byte, &context));
                }
            }
        }
        Ok(())
    }

    /// Any value as it stands; of duplicate keys the last wins.
    pub(crate) fn any(&mut self) -> Result<Value, SyntaxError> {
        match self.peek()? {
            b'{' => {
                let mut map = Map::new();
                if self.open(b'}')? {
                    return Ok(Value::Object(map));
                }
                loop {
                    let key = self.key()?;
                    let value = self.any()?;
                    map.insert(key.into_owned(), value);
                    if !self.more(b'}')? {
                        return Ok(Value::Object(map));
                    }
                }
            }
            b'[' => {
                let mut list = Vec::new();
                if self.open(b']')? {
                    return Ok(Value::Array(list));
                }
                loop {
                    list.push(self.any()?);
                    if !self.more(b']')? {
                        return Ok(Value::Array(list));
                    }
                }
            }
            b'"' => Ok(Value::String(self.string()?.into_owned())),
            b't' => self.literal("true").map(|()| Value::Bool(true)),
            b'f' => self.literal("false").map(|()| Value::Bool(false)),
            b'n' => self.literal("null").map(|()| Value::Null),
            b'-' | b'0'..=b'9' => Ok(any_number(self.number()?)),
            byte => Err(invalid(byte, "looking for beginning of value")),
        }
    }

    /// Skips any value, checking its syntax.
    pub(crate) fn skip(&mut self) -> Result<(), SyntaxError> {
        match self.peek()? {
            b'{' => {
                if self.open(b'}')? {
                    return Ok(());
                }
                loop {
                    self.key()?;
                    self.skip()?;
                    if !self.more(b'}')? {
                        return Ok(());
                    }
                }
            }
            b'[' => {
                if self.open(b']')? {
                    return Ok(());
                }
                loop {
                    self.skip()?;
                    if !self.more(b']')? {
                        return Ok(());
                    }
                }
            }
            _ => self.any().map(drop),
        }
    }
}

/// A number of an untyped value: an integer when it is one, else a float.
pub(crate) fn any_number(text: &str) -> Value {
    if let Ok(integer) = text.parse::<i64>() {
        return Value::from(integer);
    }
    if let Ok(integer) = text.parse::<u64>() {
        return Value::from(integer);
    }
    let float = text.parse::<f64>().unwrap_or(0.0);
    Number::from_f64(float).map_or(Value::Null, Value::Number)
}

fn invalid(byte: u8, context: &str) -> SyntaxError {
    SyntaxError(format!("invalid character {} {context}", quote_char(byte)))
}

fn quote_char(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        _ => {
            let quoted = crate::text::quote(&char::from(byte).to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}
