//! When memory goes back to the system: after a crowd of connections has gone.
//!
//! glibc keeps what is freed below anything that lives longer, so ten thousand connections that came and went would
//! leave their tens of megabytes resident for ever. It gives them back when it is asked to, which costs some
//! milliseconds; so it is asked when much was freed and the crowd is over, or after a while if it never is.

/// Freed bytes that are worth asking for.
const WORTH_BYTES: usize = 4 << 20;
/// How long a crowd that does not end is waited for.
const PATIENCE_MS: u64 = 30_000;
/// What a connection takes beside its buffers: its task, its tables' entries, its session's.
pub const CONNECTION_BYTES: usize = 8 << 10;

/// What connections have freed since the system got its memory back.
#[derive(Debug, Default)]
pub struct GivingBack {
    /// As it was when last looked at.
    freed: usize,
    asked_ms: u64,
}

impl GivingBack {
    /// Looks at how much was freed until `now_ms`; true: now is the time, and `freed` begins at 0 again.
    pub fn is_due(&mut self, freed: usize, now_ms: u64) -> bool {
        let is_over = freed == self.freed || now_ms.saturating_sub(self.asked_ms) >= PATIENCE_MS;
        self.freed = freed;
        if freed < WORTH_BYTES || !is_over {
            return false;
        }
        (self.freed, self.asked_ms) = (0, now_ms);
        true
    }
}

/// Asks the allocator to give back what is free.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // The only foreign function that is called by hand: no crate that we use has it. It takes no pointer, locks
        // what it touches, and may be called at any time by any thread.
        unsafe extern "C" {
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_much_was_freed_and_the_crowd_is_over_or_has_lasted() {
        let mut giving = GivingBack::default();
        assert!(!giving.is_due(WORTH_BYTES - 1, 1000) && !giving.is_due(WORTH_BYTES - 1, 2000), "too little");
        assert!(!giving.is_due(2 * WORTH_BYTES, 3000), "they are just going");
        assert!(giving.is_due(2 * WORTH_BYTES, 4000));
        assert!(!giving.is_due(0, 5000));
        for second in 6..34 {
            assert!(!giving.is_due(second as usize * WORTH_BYTES, second * 1000), "one crowd after another");
        }
        assert!(giving.is_due(99 * WORTH_BYTES, 34_000));
    }
}
