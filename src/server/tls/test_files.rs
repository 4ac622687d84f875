//! The files of `tests/testdata/tls`.

/// Of every store there.
pub const PASSWORD: &str = "testpass";

pub fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/testdata/tls/{name}")).unwrap()
}
