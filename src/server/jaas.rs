//! The syntax of Java's login configuration, in which ZooKeeper keeps the users of SASL:
//!
//! ```text
//! Server {
//!     org.apache.zookeeper.server.auth.DigestLoginModule required
//!         user_bob="secret"
//!         user_eve="also secret";
//! };
//! ```
//!
//! Only syntax: what an option means is decided by who asks. ZooKeeper: the JDK's `sun.security.provider.ConfigFile`.

/// A named list of login modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub modules: Vec<Module>,
}

/// A login module: a class of Java's and its options, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub class: String,
    pub options: Vec<(String, String)>,
}

/// Where a file is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    pub expected: &'static str,
    pub found: String,
}

/// The sections of `text`, in their order.
pub fn parse(text: &str) -> Result<Vec<Section>, SyntaxError> {
    let mut tokens = Tokens { rest: text, line: 1 };
    let mut sections = Vec::new();
    while let Some(token) = tokens.next()? {
        let name = tokens.word(token, "the name of a section")?;
        tokens.expect(Token::Sign('{'), "{")?;
        let mut modules = Vec::new();
        loop {
            match tokens.some("a login module or }")? {
                Token::Sign('}') => break,
                token => modules.push(tokens.module(token)?),
            }
        }
        tokens.expect(Token::Sign(';'), "; behind }")?;
        sections.push(Section { name, modules });
    }
    Ok(sections)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// Quoted or not.
    Word(String),
    Sign(char),
}

struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl Tokens<'_> {
    fn module(&mut self, class: Token) -> Result<Module, SyntaxError> {
        let class = self.word(class, "the class of a login module")?;
        const FLAGS: &str = "required, requisite, sufficient or optional";
        let flag = self.some(FLAGS)?;
        let flag = self.word(flag, FLAGS)?;
        if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_ascii_lowercase().as_str()) {
            return Err(self.error(FLAGS, &flag));
        }
        let mut options = Vec::new();
        loop {
            match self.some("an option or ;")? {
                Token::Sign(';') => return Ok(Module { class, options }),
                token => {
                    let name = self.word(token, "the name of an option")?;
                    self.expect(Token::Sign('='), "= behind an option's name")?;
                    let value = self.some("the value of an option")?;
                    options.push((name, self.word(value, "the value of an option")?));
                }
            }
        }
    }

    fn error(&self, expected: &'static str, found: &str) -> SyntaxError {
        SyntaxError { line: self.line, expected, found: found.to_owned() }
    }

    fn word(&self, token: Token, expected: &'static str) -> Result<String, SyntaxError> {
        match token {
            Token::Word(word) => Ok(word),
            Token::Sign(sign) => Err(self.error(expected, &sign.to_string())),
        }
    }

    fn some(&mut self, expected: &'static str) -> Result<Token, SyntaxError> {
        self.next()?.ok_or_else(|| self.error(expected, "the end of the file"))
    }

    fn expect(&mut self, token: Token, expected: &'static str) -> Result<(), SyntaxError> {
        match self.some(expected)? {
            found if found == token => Ok(()),
            // Not what it is: it may be a password.
            Token::Word(_) => Err(self.error(expected, "a word")),
            Token::Sign(sign) => Err(self.error(expected, &sign.to_string())),
        }
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    /// Blanks, `//` and `/* */` and, as Java's tokenizer has it, whatever follows a single `/`.
    fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest.len() - self.rest.trim_start().len();
            self.skip(blanks);
            let end = if self.rest.starts_with("/*") {
                self.rest.find("*/").map_or(self.rest.len(), |at| at + 2)
            } else if self.rest.starts_with('/') {
                self.rest.find('\n').unwrap_or(self.rest.len())
            } else {
                return;
            };
            self.skip(end);
        }
    }

    fn next(&mut self) -> Result<Option<Token>, SyntaxError> {
        self.skip_blanks();
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        if matches!(first, '"' | '\'') {
            return self.quoted(first).map(|word| Some(Token::Word(word)));
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || "._-$*".contains(c) || !c.is_ascii();
        let len = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let token = match len {
            0 => Token::Sign(first),
            len => Token::Word(self.rest[..len].to_owned()),
        };
        self.skip(len.max(first.len_utf8()));
        Ok(Some(token))
    }

    /// A string up to the next `quote`, with the escapes of Java's tokenizer.
    fn quoted(&mut self, quote: char) -> Result<String, SyntaxError> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        let unterminated = |this: &Self| this.error("a quote at the end of a string", "the end of the line");
        loop {
            match chars.next() {
                None | Some((_, '\n')) => return Err(unterminated(self)),
                Some((at, c)) if c == quote => {
                    self.skip(at + 1);
                    return Ok(value);
                }
                Some((_, '\\')) => match chars.next().map(|(_, c)| c) {
                    None | Some('\n') => return Err(unterminated(self)),
                    Some('n') => value.push('\n'),
                    Some('t') => value.push('\t'),
                    Some('r') => value.push('\r'),
                    Some(first @ '0'..='7') => {
                        let mut code = first as u32 - '0' as u32;
                        let more = if first <= '3' { 2 } else { 1 };
                        for _ in 0..more {
                            let Some((_, digit)) = chars.next_if(|(_, c)| ('0'..='7').contains(c)) else { break };
                            code = code * 8 + (digit as u32 - '0' as u32);
                        }
                        value.extend(char::from_u32(code));
                    }
                    Some(c) => value.push(c),
                },
                Some((_, c)) => value.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sections_hold_modules_and_modules_options() {
        let text = "// for zookeeper\nServer {\n  a.b.DigestLoginModule required\n    user_bob=\"it's \\\"s\\\" \\101\"\n    \
                    /* two\n lines */ user_eve='x' debug=true;\n  C$D Optional;\n};\nClient { c.E required; };";
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let digest = Module {
            class: "a.b.DigestLoginModule".into(),
            options: vec![option("user_bob", "it's \"s\" A"), option("user_eve", "x"), option("debug", "true")],
        };
        let (other, client) = ("C$D", "c.E");
        let module = |class: &str| Module { class: class.to_owned(), options: Vec::new() };
        let server = Section { name: "Server".into(), modules: vec![digest, module(other)] };
        assert_eq!(parse(text).unwrap(), [server, Section { name: "Client".into(), modules: vec![module(client)] }]);
        assert_eq!(parse(" // nothing"), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z{};=\"'\\\\/*\n 0-9é]{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("Server {{ a.B required {text}"));
        }
    }

    #[test]
    fn errors_tell_the_line_and_no_password() {
        for (text, line, expected) in [
            ("Server\n{ a.B required }", 2, "the name of an option"),
            ("Server {\n a.B needed; };", 2, "required, requisite"),
            ("Server {\n a.B required user_bob \"secret\"; };", 2, "= behind"),
            ("Server {\n a.B required user_bob=\"secret; };\n", 2, "a quote at the end"),
            ("Server { a.B required; }\n", 2, "; behind }"),
            ("Server { a.B required user=;};", 1, "the value of an option"),
            ("{", 1, "the name of a section"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.expected.starts_with(expected)), (line, true), "{text}: {error}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
