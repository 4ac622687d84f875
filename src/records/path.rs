//! Which strings are paths of znodes. ZooKeeper: `PathUtils.validatePath`.

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not begin with '/'")]
    NotAbsolute,
    #[error("the path ends with '/'")]
    TrailingSlash,
    #[error("the path has an empty, '.' or '..' element")]
    BadElement,
    #[error("the path has the character U+{0:04X}, which paths may not hold")]
    BadCharacter(u32),
}

/// The full check, of writes: absolute, no empty or relative element, no control or private-use character.
pub fn validate_path(path: &str) -> Result<(), PathError> {
    if is_plain(path.as_bytes()) {
        return Ok(());
    }
    let Some(elements) = path.strip_prefix('/') else {
        return Err(PathError::NotAbsolute);
    };
    if elements.is_empty() {
        return Ok(()); // The root.
    }
    if elements.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    if elements.split('/').any(|element| matches!(element, "" | "." | "..")) {
        return Err(PathError::BadElement);
    }
    match path.chars().find(|&c| is_forbidden(c)) {
        Some(c) => Err(PathError::BadCharacter(c as u32)),
        None => Ok(()),
    }
}

/// Whether it is surely good: printable ASCII, no element that begins with a dot. Nearly all paths are, and each call
/// has one.
fn is_plain(path: &[u8]) -> bool {
    path.first() == Some(&b'/')
        && path.last() != Some(&b'/')
        && path.iter().all(|byte| (b' '..=b'~').contains(byte))
        && !path.windows(2).any(|pair| pair[0] == b'/' && matches!(pair[1], b'/' | b'.'))
}

/// Code points above U+FFFF are two surrogates in ZooKeeper's UTF-16, and surrogates are forbidden.
fn is_forbidden(c: char) -> bool {
    matches!(c as u32, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff | 0x1_0000..)
}

/// The parent's path (`""` for a top-level node, an alias of the root) and the last element; `None` without a `/`.
pub fn parent_and_name(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_judged_as_zookeeper_judges_them() {
        for good in
            ["/", "/a", "/a/b", "/...", "/..a", "/a..", "/.b", "/ ", "/\u{a0}", "/\u{d7ff}", "/\u{f900}", "/\u{ffef}"]
        {
            assert_eq!(validate_path(good), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/./a",
            "/a/..",
            "/a\0",
            "/\u{1}",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{fffd}",
            "/\u{1f600}",
        ] {
            assert!(validate_path(bad).is_err(), "{bad:?}");
            assert!(validate_path(&format!("/good{bad}/./")).is_err(), "{bad:?}");
        }
    }
}
