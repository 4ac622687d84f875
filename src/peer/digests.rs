//! Step 5 of a write, beside it: whether the tree is what a transaction says that it is behind it.
//!
//! Here is only counted what was said of one tree since it was made; what follows from it decides
//! [`divergence`](super::divergence). A digest that fits settles all that was said before: two trees of one digest are equal.
//!
//! ZooKeeper: `DataTree.compareDigest`, which counts and logs.

use crate::records::{DIGEST_VERSION, Txn, Zxid};

/// More transactions than are committed while a large tree is sent: a digest should have fitted by then.
const TRIES_MAX: u32 = 100_000;

/// What the digests of transactions have said of a tree.
#[derive(Clone, Debug)]
pub struct Digests {
    due: Due,
    misfits: Option<Misfits>,
    fitted_at: Option<Zxid>,
    is_file_wrong: bool,
}

/// The transactions since the last one whose digest was that of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfits {
    pub first: Zxid,
    pub last: Zxid,
}

/// Which digests must fit.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// Those of transactions behind this one.
    Behind(Zxid),
    /// Those behind the first that fits. The tree was written while transactions went on, and holds some of them in part.
    /// So many digests have not fitted, the last one of this transaction. If none ever does, they say nothing: they are
    /// computed otherwise.
    BehindTheFirstThatFits { tries: u32, last: Zxid },
}

/// What one transaction says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// No digest, or one that need not fit.
    Nothing,
    Fits,
    Differs,
    /// None has fitted so far, and it is time that one had.
    NoneHasFitted,
}

impl Digests {
    /// Of a tree that is exactly that of a transaction: all must fit.
    pub fn exact() -> Digests {
        Digests::behind(Zxid(i64::MIN))
    }

    /// Of one that may hold effects of transactions up to the one behind `zxid`.
    pub fn behind(zxid: Zxid) -> Digests {
        Digests { due: Due::Behind(zxid), misfits: None, fitted_at: None, is_file_wrong: false }
    }

    /// Of one that may hold effects of later transactions, nobody says of how many.
    pub fn behind_the_first_that_fits() -> Digests {
        Digests { due: Due::BehindTheFirstThatFits { tries: 0, last: Zxid::NONE }, ..Digests::exact() }
    }

    /// The whole log has been applied: nothing of a later transaction can be in the tree.
    pub fn set_replayed(&mut self) {
        if let Due::BehindTheFirstThatFits { tries, last } = self.due {
            self.due = Due::Behind(Zxid(i64::MIN));
            self.misfits = (tries > 0).then_some(Misfits { first: last, last });
        }
    }

    /// The snapshot that the tree was read from is not what this server once wrote: its own digest is another.
    pub fn set_file_wrong(&mut self, zxid: Zxid) {
        self.is_file_wrong = true;
        self.misfits = Some(Misfits { first: zxid, last: zxid });
    }

    /// Whether the tree was read from a snapshot of our own that has changed since, and no transaction has said that it
    /// does not matter.
    pub fn is_file_wrong(&self) -> bool {
        self.is_file_wrong
    }

    /// Where the tree is not what the transactions say; `None`: it is.
    pub fn misfits(&self) -> Option<Misfits> {
        self.misfits
    }

    /// The last transaction that has said what the tree is.
    pub fn fitted_at(&self) -> Option<Zxid> {
        self.fitted_at
    }

    /// Behind `txn` the tree's digest is `actual`. A server that `is_own` author of the digest has said nothing by it that
    /// another would have, where it fits.
    pub fn compare(&mut self, txn: &Txn, actual: i64, is_own: bool) -> Said {
        let Some(told) = txn.digest.as_ref().filter(|told| told.version == DIGEST_VERSION) else {
            return Said::Nothing;
        };
        let fits = told.digest == actual;
        match &mut self.due {
            Due::Behind(exact) if txn.zxid <= *exact => Said::Nothing,
            _ if fits && is_own => Said::Nothing,
            _ if fits => {
                (self.due, self.misfits, self.is_file_wrong) = (Due::Behind(Zxid(i64::MIN)), None, false);
                self.fitted_at = Some(txn.zxid);
                Said::Fits
            }
            Due::BehindTheFirstThatFits { tries, last } => {
                (*tries, *last) = (tries.saturating_add(1), txn.zxid);
                match (*tries).cmp(&TRIES_MAX) {
                    std::cmp::Ordering::Less => Said::Nothing,
                    std::cmp::Ordering::Equal => Said::NoneHasFitted,
                    std::cmp::Ordering::Greater => Said::Differs,
                }
            }
            Due::Behind(_) => {
                let first = self.misfits.map_or(txn.zxid, |misfits| misfits.first);
                self.misfits = Some(Misfits { first, last: txn.zxid });
                Said::Differs
            }
        }
    }
}

impl Default for Digests {
    fn default() -> Self {
        Digests::exact()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Epoch, ErrorTxn, SessionId, TxnBody, TxnDigest};

    /// Transaction `counter` says that the digest is `digest`.
    fn says(digests: &mut Digests, counter: u32, digest: i64, actual: i64) -> Said {
        let body = TxnBody::Error(ErrorTxn { err: -101 });
        let digest = Some(TxnDigest { version: DIGEST_VERSION, digest });
        let zxid = Zxid::new(Epoch(1), counter);
        let txn = Txn { session: SessionId(1), cxid: 0, zxid, time_ms: 0, body, digest };
        digests.compare(&txn, actual, false)
    }

    #[test]
    fn a_digest_that_fits_settles_what_others_said_before() {
        let mut digests = Digests::exact();
        digests.set_file_wrong(Zxid(1));
        assert_eq!(says(&mut digests, 1, 7, 8), Said::Differs);
        assert_eq!(says(&mut digests, 2, 7, 8), Said::Differs);
        assert_eq!(digests.misfits(), Some(Misfits { first: Zxid(1), last: Zxid::new(Epoch(1), 2) }));
        assert!(digests.is_file_wrong());
        assert_eq!(says(&mut digests, 3, 8, 8), Said::Fits);
        assert_eq!((digests.misfits(), digests.is_file_wrong()), (None, false));
        assert_eq!(digests.fitted_at(), Some(Zxid::new(Epoch(1), 3)));
    }

    /// An Apache leader goes on while it sends a snapshot: the transactions behind it are in it in part.
    #[test]
    fn of_a_tree_that_was_sent_digests_count_from_the_first_that_fits() {
        let mut digests = Digests::behind_the_first_that_fits();
        assert_eq!(says(&mut digests, 1, 7, 8), Said::Nothing);
        assert_eq!(says(&mut digests, 2, 8, 8), Said::Fits);
        assert_eq!(says(&mut digests, 3, 7, 8), Said::Differs);
        assert!(digests.misfits().is_some());
    }

    #[test]
    fn of_a_tree_that_was_read_digests_count_behind_the_log_at_the_latest() {
        for told in [0, 1] {
            let mut digests = Digests::behind_the_first_that_fits();
            (1..=told).for_each(|counter| assert_eq!(says(&mut digests, counter, 7, 8), Said::Nothing));
            digests.set_replayed();
            assert_eq!(digests.misfits().is_some(), told > 0, "the last one is of the tree as it is now");
            assert_eq!(says(&mut digests, 2, 7, 8), Said::Differs);
        }
    }

    /// Apache's servers take a path's bytes in the charset of their machine for it.
    #[test]
    fn digests_of_which_none_ever_fits_are_told_of_and_say_nothing_of_the_tree() {
        let mut digests = Digests::behind_the_first_that_fits();
        let said: Vec<Said> = (1..=TRIES_MAX + 2).map(|counter| says(&mut digests, counter, 7, 8)).collect();
        let told = |what| said.iter().filter(|said| **said == what).count();
        assert_eq!((told(Said::NoneHasFitted), told(Said::Differs), said.last()), (1, 2, Some(&Said::Differs)));
        assert_eq!(digests.misfits(), None, "another tree of this leader would be no better");
    }

    #[test]
    fn what_a_leader_says_of_its_own_tree_settles_nothing() {
        let mut digests = Digests::exact();
        assert_eq!(says(&mut digests, 1, 7, 8), Said::Differs);
        let body = TxnBody::Error(ErrorTxn { err: -101 });
        let digest = Some(TxnDigest { version: DIGEST_VERSION, digest: 8 });
        let txn = Txn { session: SessionId(1), cxid: 0, zxid: Zxid::new(Epoch(2), 1), time_ms: 0, body, digest };
        assert_eq!(digests.compare(&txn, 8, true), Said::Nothing);
        assert!(digests.misfits().is_some());
    }
}
