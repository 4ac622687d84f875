//! Reads Rust source as far as `tests/tidy.rs` needs it: tokens without comments and strings, the paths that are
//! named, which lines are tests, and which lines carry a comment.

use std::collections::BTreeMap;

/// A word, number or single punctuation mark (`::` is one), with its line, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A source file taken apart. Strings become the token `""`.
#[derive(Debug)]
pub struct Source {
    pub tokens: Vec<Token>,
    /// The text of the comment of each line that has one.
    pub comments: BTreeMap<usize, String>,
}

/// A path such as `std::fs::read`, from a `use` or from code; a `use` of a group gives one for each of its leaves.
#[derive(Debug, PartialEq)]
pub struct NamedPath {
    pub parts: Vec<String>,
    pub line: usize,
}

impl Source {
    pub fn parse(text: &str) -> Source {
        let mut lexer = Lexer { rest: text, line: 1, tokens: Vec::new(), comments: BTreeMap::new() };
        while lexer.step() {}
        Source { tokens: lexer.tokens, comments: lexer.comments }
    }

    /// The file without what is only compiled for tests: items under `#[cfg(test)]`.
    pub fn without_tests(&self) -> Source {
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if starts_with(&self.tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
                at = end_of_item(&self.tokens, at + 7);
            } else {
                tokens.push(self.tokens[at].clone());
                at += 1;
            }
        }
        Source { tokens, comments: self.comments.clone() }
    }

    /// How many lines hold code.
    pub fn code_lines(&self) -> usize {
        let mut lines: Vec<_> = self.tokens.iter().map(|token| token.line).collect();
        lines.dedup();
        lines.len()
    }

    /// Every path of two parts or more, and every leaf of a `use`.
    pub fn paths(&self) -> Vec<NamedPath> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let continues = at > 0 && matches!(self.tokens[at - 1].text.as_str(), "." | "::");
            if is_word(&self.tokens[at].text) && !continues {
                at = self.path(at, &[], &mut found);
            } else {
                at += 1;
            }
        }
        found.retain(|path| path.parts.len() > 1);
        found
    }

    /// Reads the path that begins at `at` behind `prefix`; returns where it ends.
    fn path(&self, mut at: usize, prefix: &[String], found: &mut Vec<NamedPath>) -> usize {
        let mut parts = prefix.to_vec();
        let line = self.tokens[at].line;
        loop {
            match self.text(at) {
                "{" => {
                    at += 1;
                    while !matches!(self.text(at), "}" | "") {
                        at = if is_word(self.text(at)) || self.text(at) == "*" || self.text(at) == "{" {
                            self.path(at, &parts, found)
                        } else {
                            at + 1
                        };
                    }
                    return at + 1;
                }
                "*" => {
                    found.push(NamedPath { parts, line });
                    return at + 1;
                }
                word if is_word(word) => {
                    parts.push(word.to_owned());
                    at += 1;
                }
                _ => {
                    found.push(NamedPath { parts, line });
                    return at;
                }
            }
            if self.text(at) != "::" {
                found.push(NamedPath { parts, line });
                return at;
            }
            at += 1;
        }
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// The places where these tokens stand one after the other.
    pub fn find(&self, pattern: &[&str]) -> Vec<usize> {
        (0..self.tokens.len()).filter(|&at| starts_with(&self.tokens[at..], pattern)).collect()
    }
}

pub fn starts_with(tokens: &[Token], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len() && tokens.iter().zip(pattern).all(|(token, text)| token.text == *text)
}

pub fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Where the item that begins at `at` ends: behind its `;` or its braces.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 && token.text == "}" {
                    break;
                }
            }
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    at
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
    comments: BTreeMap<usize, String>,
}

impl Lexer<'_> {
    /// Takes one token, comment or space off the text; false at its end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else {
            return false;
        };
        if self.rest.starts_with("//") {
            let length = self.rest.find('\n').unwrap_or(self.rest.len());
            self.comments.entry(self.line).or_default().push_str(&self.rest[..length]);
            self.skip(length);
        } else if self.rest.starts_with("/*") {
            let length = block_comment(self.rest);
            self.comments.entry(self.line).or_default().push_str(&self.rest[..length]);
            self.skip(length);
        } else if let Some(length) = string(self.rest) {
            self.push("\"\"".into());
            self.skip(length);
        } else if first == '\'' {
            let length = char_or_lifetime(self.rest);
            self.skip(length); // Neither says anything that a rule asks for.
        } else if first.is_alphanumeric() || first == '_' {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
            self.push(self.rest[..length].into());
            self.skip(length);
        } else if self.rest.starts_with("::") {
            self.push("::".into());
            self.skip(2);
        } else {
            if !first.is_whitespace() {
                self.push(first.into());
            }
            self.skip(first.len_utf8());
        }
        true
    }

    fn push(&mut self, text: String) {
        self.tokens.push(Token { text, line: self.line });
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest[..length].matches('\n').count();
        self.rest = &self.rest[length..];
    }
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string literal at the beginning of `text`, raw and byte strings too.
fn string(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|length| *length <= 2)?;
    let raw = text[..prefix].contains('r');
    let hashes = if raw { text[prefix..].len() - text[prefix..].trim_start_matches('#').len() } else { 0 };
    let start = prefix + hashes;
    if !text[start..].starts_with('"') {
        return None;
    }
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(text[start + 1..].find(&end).map_or(text.len(), |at| start + 1 + at + end.len()));
    }
    let mut escaped = false;
    for (at, c) in text[start + 1..].char_indices() {
        match c {
            '"' if !escaped => return Some(start + 1 + at + 1),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    Some(text.len())
}

/// `'a'`, `'\n'`, `'\''` are characters; `'a` is a lifetime.
fn char_or_lifetime(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| 2 + at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}
