//! Pausing one server of a process as SIGSTOP pauses a process: its threads stand still, its sockets stay open.
//!
//! A thread cannot be stopped from outside, so each of a server's threads comes by a point, between two pieces of work,
//! where it stands still while a pause is asked for. [`Pause::pause`] returns when all that could do something do so; a
//! disk thread that is within a system call ends it, as a stopped process' would.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// One server's pause.
#[derive(Debug, Default)]
pub struct Pause {
    /// The only thing that is looked at while the server runs.
    is_asked: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that stand still.
    held: usize,
    /// Killed: never again.
    is_over: bool,
}

impl Pause {
    /// Where a thread stands still while the server is paused.
    pub fn point(&self) {
        if self.is_asked.load(Ordering::Relaxed) {
            self.hold(1);
        }
    }

    /// As [`Pause::point`], for a thread that nobody waits for.
    pub fn point_aside(&self) {
        if self.is_asked.load(Ordering::Relaxed) {
            self.hold(0);
        }
    }

    #[cold]
    fn hold(&self, counted: usize) {
        let mut state = self.lock();
        state.held += counted;
        self.changed.notify_all();
        while self.is_asked.load(Ordering::Relaxed) {
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state.held -= counted;
        self.changed.notify_all();
    }

    /// Asks the threads to stand still, wakes them by `wake`, and waits until `threads` do; false: not within `limit`.
    pub fn pause(&self, threads: usize, limit: Duration, wake: impl FnOnce()) -> bool {
        {
            // Those that still stand from the last time go on first: one that is to wake others would not do so again.
            let is_going_on = |state: &mut State| state.held > 0 && !state.is_over && !self.is_paused();
            let state = self.changed.wait_while(self.lock(), is_going_on);
            let state = state.unwrap_or_else(|poisoned| poisoned.into_inner());
            if state.is_over {
                return true;
            }
            self.is_asked.store(true, Ordering::Relaxed);
        }
        wake();
        let state = self.lock();
        let wait = self.changed.wait_timeout_while(state, limit, |state| state.held < threads && !state.is_over);
        let state = wait.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        state.held >= threads || state.is_over
    }

    pub fn is_paused(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    /// All go on.
    pub fn resume(&self) {
        let _state = self.lock();
        self.is_asked.store(false, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// All go on, to their end.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.resume();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_paused_thread_does_nothing_until_it_is_resumed_or_ended() {
        let (pause, turns, stop) =
            (Arc::new(Pause::default()), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (pause, turns, stop) = (pause.clone(), turns.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::SeqCst) {
                    pause.point();
                    turns.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        for _ in 0..3 {
            assert!(pause.pause(1, Duration::from_secs(30), || ()));
            let at = turns.load(Ordering::SeqCst);
            std::thread::yield_now();
            assert_eq!((turns.load(Ordering::SeqCst), pause.is_paused()), (at, true));
            pause.resume();
            while turns.load(Ordering::SeqCst) == at {
                std::thread::yield_now();
            }
        }
        assert!(pause.pause(1, Duration::from_secs(30), || ()));
        stop.store(true, Ordering::SeqCst);
        pause.end();
        thread.join().unwrap();
        assert!(pause.pause(1, Duration::from_secs(30), || ()), "there is nothing left to pause");
        assert!(!pause.is_paused());
    }
}
