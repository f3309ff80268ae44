//! A complete JSON parser (RFC 8259), generic over where its tree is built.
//!
//! One pass over text that is known to be UTF-8. Finished values of open arrays and objects wait on two stacks; when the
//! bracket closes, they move into the tree as one slice. What recursion there is, is bounded by the depth limit.

use std::fmt;

/// Builds trees: in an arena, in boxes.
pub(crate) trait Build {
    type Text;
    type Value;

    fn text(&mut self, text: &str) -> Self::Text;
    fn scalar(&mut self, scalar: Scalar) -> Self::Value;
    fn string(&mut self, text: Self::Text) -> Self::Value;
    fn array(&mut self, values: impl ExactSizeIterator<Item = Self::Value>) -> Self::Value;
    fn object(&mut self, members: impl ExactSizeIterator<Item = (Self::Text, Self::Value)>) -> Self::Value;
}

/// A value without parts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
}

/// What is wrong, and where: lines and columns from 1, columns in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Error {
    pub(crate) reason: &'static str,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.reason)
    }
}

impl std::error::Error for Error {}

/// Arrays and objects inside of each other, at the most.
pub(crate) const DEPTH_LIMIT: usize = 128;

struct Parser<'t, B: Build> {
    bytes: &'t [u8],
    text: &'t str,
    at: usize,
    depth: usize,
    build: B,
    values: Vec<B::Value>,
    members: Vec<(B::Text, B::Value)>,
    /// A string with escapes, while it is being put together.
    unescaped: String,
}

type Result<T> = std::result::Result<T, &'static str>;

/// The tree of a text.
pub(crate) fn parse<B: Build>(input: &[u8], build: B) -> std::result::Result<B::Value, Error> {
    let text = match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(error) => return Err(located(input, error.valid_up_to(), "not UTF-8")),
    };
    let (values, members, unescaped) = (Vec::new(), Vec::new(), String::new());
    let mut parser = Parser { bytes: input, text, at: 0, depth: 0, build, values, members, unescaped };
    parser.document().map_err(|reason| located(input, parser.at, reason))
}

fn located(input: &[u8], at: usize, reason: &'static str) -> Error {
    let before = &input[..at.min(input.len())];
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    Error { reason, line, column: 1 + before.len() - line_start }
}

impl<B: Build> Parser<'_, B> {
    fn document(&mut self) -> Result<B::Value> {
        let value = self.value()?;
        match self.peek_token() {
            None => Ok(value),
            Some(_) => Err("something after the value"),
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek_token(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn value(&mut self) -> Result<B::Value> {
        match self.peek_token() {
            Some(b'"') => {
                let text = self.string()?;
                Ok(self.build.string(text))
            }
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                Ok(self.build.scalar(number))
            }
            Some(b't') => self.word("true", Scalar::Bool(true)),
            Some(b'f') => self.word("false", Scalar::Bool(false)),
            Some(b'n') => self.word("null", Scalar::Null),
            Some(_) => Err("expected a value"),
            None => Err("the text ends where a value must be"),
        }
    }

    fn word(&mut self, word: &str, scalar: Scalar) -> Result<B::Value> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err("expected a value");
        }
        self.at += word.len();
        Ok(self.build.scalar(scalar))
    }

    fn nested(&mut self, parse: fn(&mut Self) -> Result<B::Value>) -> Result<B::Value> {
        if self.depth == DEPTH_LIMIT {
            return Err("nested too deep");
        }
        self.depth += 1;
        self.at += 1;
        let value = parse(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self) -> Result<B::Value> {
        let first = self.values.len();
        if self.peek_token() == Some(b']') {
            self.at += 1;
            return Ok(self.build.array(std::iter::empty()));
        }
        loop {
            let value = self.value()?;
            self.values.push(value);
            match self.peek_token() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err("expected ',' or ']'"),
            }
        }
        self.at += 1;
        Ok(self.build.array(self.values.drain(first..)))
    }

    fn object(&mut self) -> Result<B::Value> {
        let first = self.members.len();
        if self.peek_token() == Some(b'}') {
            self.at += 1;
            return Ok(self.build.object(std::iter::empty()));
        }
        loop {
            if self.peek_token() != Some(b'"') {
                return Err("expected a name in quotes");
            }
            let name = self.string()?;
            if self.peek_token() != Some(b':') {
                return Err("expected ':'");
            }
            self.at += 1;
            let value = self.value()?;
            self.members.push((name, value));
            match self.peek_token() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err("expected ',' or '}'"),
            }
        }
        self.at += 1;
        Ok(self.build.object(self.members.drain(first..)))
    }

    fn string(&mut self) -> Result<B::Text> {
        self.at += 1;
        let start = self.at;
        self.skip_plain();
        if self.peek() == Some(b'"') {
            let text = &self.text[start..self.at];
            self.at += 1;
            return Ok(self.build.text(text));
        }
        self.unescaped.clear();
        let mut copied = start;
        loop {
            self.unescaped.push_str(&self.text[copied..self.at]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => return Err("a control character in a string"),
                None => return Err("the text ends inside of a string"),
            }
            copied = self.at;
            self.skip_plain();
        }
        self.at += 1;
        Ok(self.build.text(&self.unescaped))
    }

    /// Goes on to the next quote, backslash or control character, eight bytes at a time.
    #[inline]
    fn skip_plain(&mut self) {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGHS: u64 = ONES << 7;
        while let Some(word) = self.bytes.get(self.at..self.at + 8) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            // The lowest high bit that is set is exact; those above may be borrowed from it.
            let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
            let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            let found =
                control | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')));
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<()> {
        self.at += 1;
        let escaped = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let unit = self.unicode()?;
                self.unescaped.push(unit);
                return Ok(());
            }
            _ => return Err("no such escape"),
        };
        self.at += 1;
        self.unescaped.push(escaped);
        Ok(())
    }

    /// What `\uXXXX` stands for, or a pair of them.
    fn unicode(&mut self) -> Result<char> {
        let unit = self.hex4()?;
        let code = match unit {
            0xd800..=0xdbff => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err("half of a surrogate pair");
                }
                self.at += 2;
                match self.hex4()? {
                    low @ 0xdc00..=0xdfff => 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00),
                    _ => return Err("half of a surrogate pair"),
                }
            }
            unit => unit,
        };
        char::from_u32(code).ok_or("half of a surrogate pair")
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or("expected four hexadecimal digits")?;
            self.at += 1;
        }
        Ok(code)
    }

    fn digits(&mut self, mantissa: &mut Option<u64>) -> usize {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            let more = mantissa.and_then(|value| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            *mantissa = more;
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Scalar> {
        let start = self.at;
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        let leads_with_zero = self.peek() == Some(b'0');
        let mut mantissa = Some(0);
        match self.digits(&mut mantissa) {
            0 => return Err("expected a digit"),
            1 => {}
            _ if leads_with_zero => return Err("a number with a zero in front"),
            _ => {}
        }
        let (mut is_integer, mut exponent) = (true, 0_i32);
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            match self.digits(&mut mantissa) {
                0 => return Err("expected a digit"),
                decimals => exponent = -i32::try_from(decimals).unwrap_or(i32::MAX),
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_integer = false;
            self.at += 1;
            let sign = self.peek().filter(|byte| matches!(byte, b'+' | b'-'));
            self.at += usize::from(sign.is_some());
            let mut power = Some(0);
            if self.digits(&mut power) == 0 {
                return Err("expected a digit");
            }
            let power = power.and_then(|power| i32::try_from(power).ok()).unwrap_or(i32::MAX);
            exponent = exponent.saturating_add(if sign == Some(b'-') { -power } else { power });
        }
        match (mantissa, is_integer, is_negative) {
            (Some(value), true, false) => return Ok(Scalar::Unsigned(value)),
            (Some(value), true, true) if value > 0 && value <= 1 << 63 => {
                return Ok(Scalar::Negative(value.wrapping_neg().cast_signed()));
            }
            _ => {}
        }
        self.float(start, mantissa, exponent, is_negative)
    }

    fn float(&self, start: usize, mantissa: Option<u64>, exponent: i32, is_negative: bool) -> Result<Scalar> {
        const POWERS: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
            1e18, 1e19, 1e20, 1e21, 1e22,
        ];
        // Both factors are exact, so their product or quotient is rounded once, as it must be.
        let value = match (mantissa, POWERS.get(exponent.unsigned_abs() as usize)) {
            (Some(mantissa), Some(power)) if mantissa <= 1 << 53 => {
                let value = if exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power };
                if is_negative { -value } else { value }
            }
            _ => self.text[start..self.at].parse().map_err(|_| "no number")?,
        };
        if value.is_finite() { Ok(Scalar::Float(value)) } else { Err("a number out of range") }
    }
}
