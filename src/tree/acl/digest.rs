//! Ids of scheme `digest`: a user, and the hash of user and password.
//!
//! ZooKeeper: `DigestAuthenticationProvider`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;
use subtle::ConstantTimeEq;

/// The hash of an id; all servers of an ensemble must agree on it. The default is SHA-1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestAlgorithm {
    Md5,
    #[default]
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_224,
    Sha512_256,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

impl DigestAlgorithm {
    /// The algorithm of this name among those of Java's `MessageDigest`, in any case; but MD2.
    pub fn parse(name: &str) -> Option<DigestAlgorithm> {
        Some(match name.to_ascii_uppercase().as_str() {
            "MD5" => DigestAlgorithm::Md5,
            "SHA1" | "SHA-1" | "SHA" => DigestAlgorithm::Sha1,
            "SHA-224" | "SHA224" => DigestAlgorithm::Sha224,
            "SHA-256" | "SHA256" => DigestAlgorithm::Sha256,
            "SHA-384" | "SHA384" => DigestAlgorithm::Sha384,
            "SHA-512" | "SHA512" => DigestAlgorithm::Sha512,
            "SHA-512/224" | "SHA512/224" => DigestAlgorithm::Sha512_224,
            "SHA-512/256" | "SHA512/256" => DigestAlgorithm::Sha512_256,
            "SHA3-224" => DigestAlgorithm::Sha3_224,
            "SHA3-256" => DigestAlgorithm::Sha3_256,
            "SHA3-384" => DigestAlgorithm::Sha3_384,
            "SHA3-512" => DigestAlgorithm::Sha3_512,
            _ => return None,
        })
    }

    /// The id for the authentication text `user:password`: `user:base64(hash(text))`.
    pub fn id(self, text: &str) -> String {
        fn hash<D: Digest>(text: &str) -> String {
            STANDARD.encode(D::digest(text))
        }
        let hash = match self {
            DigestAlgorithm::Md5 => hash::<md5::Md5>(text),
            DigestAlgorithm::Sha1 => hash::<sha1::Sha1>(text),
            DigestAlgorithm::Sha224 => hash::<sha2::Sha224>(text),
            DigestAlgorithm::Sha256 => hash::<sha2::Sha256>(text),
            DigestAlgorithm::Sha384 => hash::<sha2::Sha384>(text),
            DigestAlgorithm::Sha512 => hash::<sha2::Sha512>(text),
            DigestAlgorithm::Sha512_224 => hash::<sha2::Sha512_224>(text),
            DigestAlgorithm::Sha512_256 => hash::<sha2::Sha512_256>(text),
            DigestAlgorithm::Sha3_224 => hash::<sha3::Sha3_224>(text),
            DigestAlgorithm::Sha3_256 => hash::<sha3::Sha3_256>(text),
            DigestAlgorithm::Sha3_384 => hash::<sha3::Sha3_384>(text),
            DigestAlgorithm::Sha3_512 => hash::<sha3::Sha3_512>(text),
        };
        format!("{}:{hash}", user_of(text))
    }
}

/// The id with SHA-1, Apache's default: `user:base64(sha1("user:password"))`.
pub fn digest_id(text: &str) -> String {
    DigestAlgorithm::Sha1.id(text)
}

/// Whether two ids are equal; how long it takes does not tell how much of them is.
pub fn digest_ids_equal(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The part that is no secret.
pub(super) fn user_of(text: &str) -> &str {
    text.split(':').next().unwrap_or_default()
}

/// Two parts, as Java's `split` sees them: empty ones at the end do not count.
pub(super) fn is_valid(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Java's `MessageDigest` and `Base64` make of `user:pass`.
    #[test]
    fn ids_are_those_of_zookeeper_with_each_algorithm() {
        for (name, expected) in JAVA {
            assert_eq!(DigestAlgorithm::parse(name).expect(name).id("user:pass"), *expected, "{name}");
        }
        for name in ["MD2", "SHA-0", "", "CRC32"] {
            assert_eq!(DigestAlgorithm::parse(name), None, "{name}");
        }
    }

    const JAVA: &[(&str, &str)] = &[
        ("MD5", "user:IaOShYhKJo1kWOP96wi+rA=="),
        ("SHA1", "user:smGaoVKd/cQkjm7b88GyorAUz20="),
        ("SHA", "user:smGaoVKd/cQkjm7b88GyorAUz20="),
        ("SHA-1", "user:smGaoVKd/cQkjm7b88GyorAUz20="),
        ("sha-1", "user:smGaoVKd/cQkjm7b88GyorAUz20="),
        ("SHA-224", "user:PkKzWnuMzJ0rpktz4O5hvSZFw/3yZFIfOizv2Q=="),
        ("SHA224", "user:PkKzWnuMzJ0rpktz4O5hvSZFw/3yZFIfOizv2Q=="),
        ("SHA-256", "user:70yRTFkWmLJo2zxkFj6v2nIJpjDyNuvw7r8EVGDfcjo="),
        ("SHA256", "user:70yRTFkWmLJo2zxkFj6v2nIJpjDyNuvw7r8EVGDfcjo="),
        ("sha-256", "user:70yRTFkWmLJo2zxkFj6v2nIJpjDyNuvw7r8EVGDfcjo="),
        ("SHA-384", "user:HCMIuQnSVR4Ge6EqefZYDR5jDoZgKCFDqLIj+NFPNcMCWoRCnlIHxYGRib8lxoES"),
        ("SHA384", "user:HCMIuQnSVR4Ge6EqefZYDR5jDoZgKCFDqLIj+NFPNcMCWoRCnlIHxYGRib8lxoES"),
        ("SHA-512", "user:byB8hNs+LzOYofjeMGiIfR/jKrcms8i5ls17owJgMPc/97CxZ1nTVHmKawnszYHC8bu9VMh6GIu6lFZ1BXBL3Q=="),
        ("SHA512", "user:byB8hNs+LzOYofjeMGiIfR/jKrcms8i5ls17owJgMPc/97CxZ1nTVHmKawnszYHC8bu9VMh6GIu6lFZ1BXBL3Q=="),
        ("SHA-512/224", "user:L1glB9gK73x7aeL8CvbDYSbBR0KA0VVYa4N+Qg=="),
        ("SHA512/224", "user:L1glB9gK73x7aeL8CvbDYSbBR0KA0VVYa4N+Qg=="),
        ("SHA-512/256", "user:htaDe+W52JZuBc/SaAa/Dg0Gkh4PRC+urDUOsga/86s="),
        ("SHA512/256", "user:htaDe+W52JZuBc/SaAa/Dg0Gkh4PRC+urDUOsga/86s="),
        ("SHA3-224", "user:V0DUUIgATD5glpGlu3E/zUW5JQct3OS4WSPfcA=="),
        ("SHA3-256", "user:MKfo05p7nYw1Yb/bzA4GEyZLUt02iFpxN0ASiDBnsjw="),
        ("SHA3-384", "user:tJjZMH1SIBQQtXUh+Rc24S0RVOcCO9mLplyYFS9vdFluhH2azpF4eDdC1BnT7QVl"),
        ("SHA3-512", "user:FWUrHsnpIuI/wA7/wScJDJ8ZlRBU2B3y7nG9wKifhaEpJvvEuDgXE5mhpNHdcvZzjwkNue7X1em4rs5s2IiDdw=="),
    ];

    #[test]
    fn the_whole_text_is_hashed_and_the_user_is_what_is_before_the_first_colon() {
        assert_eq!(digest_id("user:pass"), "user:smGaoVKd/cQkjm7b88GyorAUz20=");
        assert!(digest_id("no colon").starts_with("no colon:"));
        assert_ne!(digest_id("user:pa:ss"), digest_id("user:pa"));
        assert!(digest_id("user:pa:ss").starts_with("user:"));
    }

    #[test]
    fn ids_are_equal_only_as_a_whole() {
        assert!(digest_ids_equal("a:b", "a:b"));
        assert!(!digest_ids_equal("a:b", "a:c"));
        assert!(!digest_ids_equal("a:b", "a:bc"));
        assert!(!digest_ids_equal("a:b", ""));
    }
}
