//! The syntax of `zoo.cfg`: Java properties, as `java.util.Properties.load` reads them.
//!
//! Comments begin with `#` or `!`; `key=value`, `key: value` and `key value` are the same; a backslash escapes the next
//! character and, at a line's end, joins the next line (a comment is never joined). Only syntax: what a key means is
//! decided in [`config`](super::config).

/// One key with its value, trimmed, and the line (from 1) where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub key: String,
    pub value: String,
    pub line: usize,
}

/// The properties of `text` in the order of the file. A repeated key is there twice: the last one counts.
pub fn parse(text: &str) -> Vec<Property> {
    let mut properties = Vec::new();
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_with_escape(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_blank)),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        properties.push(Property { key, value, line: index + 1 });
    }
    properties
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// An odd number of backslashes at the end: the last one escapes the line end.
fn ends_with_escape(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or blank that is not escaped.
fn split(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.char_indices().find(|&(_, c)| {
        let is_end = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        is_end
    });
    let Some((end, _)) = end else {
        return (unescape(line).trim().to_owned(), String::new());
    };
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank);
    (unescape(key).trim().to_owned(), unescape(rest).trim().to_owned())
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).into_iter().map(|property| (property.key, property.value)).collect()
    }

    #[test]
    fn all_three_separators_and_comments_are_understood() {
        let text = "# c\n! c\n\n  a=1\nb : 2\r\nc 3\nd\ne=x=y\n";
        let expected =
            [("a", "1"), ("b", "2"), ("c", "3"), ("d", ""), ("e", "x=y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn backslashes_escape_and_join_lines() {
        let text = "path=C:\\\\data\\\\zk\nlong=one,\\\n   two\nk\\=ey=\\u0041\\tb\nend=x\\";
        let expected = [("path", "C:\\data\\zk"), ("long", "one,two"), ("k=ey", "A\tb"), ("end", "x")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn the_line_of_a_joined_property_is_its_first() {
        let lines: Vec<usize> = parse("a=1\\\n2\nb=3\n").into_iter().map(|property| property.line).collect();
        assert_eq!(lines, [1, 3]);
    }
}
