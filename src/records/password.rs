//! The session password: a checksum of the id that every server can compute, so that sessions can move.

use super::SessionId;
use subtle::ConstantTimeEq;

/// Bytes of a session password.
pub const PASSWORD_LEN: usize = 16;

/// The password of `session`: four outputs of `java.util.Random` seeded with `id ^ 0xB3415C00`, each written low byte
/// first. It guards against mistakes, not against attackers. ZooKeeper: `ZooKeeperServer.generatePasswd`.
pub fn session_password(session: SessionId) -> [u8; PASSWORD_LEN] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = (session.0 as u64 ^ 0xB341_5C00 ^ MULTIPLIER) & MASK;
    let mut password = [0; PASSWORD_LEN];
    for word in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

/// Whether `given` is the password of `session`; how long it takes does not tell how much of it is.
pub fn is_session_password(session: SessionId, given: &[u8]) -> bool {
    session_password(session).ct_eq(given).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_those_of_java() {
        let hex = |id| session_password(SessionId(id)).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(0x0100_0000_0000_0000), "f22acd4a97e69d6d20a49bb638eadb38");
        assert_eq!(hex(1), "054cc74a37327db215e702e20c73f005");
    }

    #[test]
    fn a_password_is_right_only_as_a_whole() {
        let right = session_password(SessionId(7));
        assert!(is_session_password(SessionId(7), &right));
        assert!(!is_session_password(SessionId(8), &right));
        assert!(!is_session_password(SessionId(7), &right[..15]));
        assert!(!is_session_password(SessionId(7), &[]));
        let mut wrong = right;
        wrong[15] ^= 1;
        assert!(!is_session_password(SessionId(7), &wrong));
    }
}
