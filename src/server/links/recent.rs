//! What memory has of the history that a learner lacks, encoded as its socket takes it. All of it at once would be a
//! copy for each learner, and of large transactions more than a link may have waiting.

use super::{Chunk, ChunkSource};
use crate::peer::io::Proposal;

/// PROPOSAL and COMMIT of each.
pub struct Recent {
    proposals: std::vec::IntoIter<Proposal>,
}

impl Recent {
    pub fn new(proposals: Vec<Proposal>) -> Recent {
        Recent { proposals: proposals.into_iter() }
    }
}

impl ChunkSource for Recent {
    fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk {
        let full = out.len() + bytes_max;
        while out.len() < full
            && let Some(proposal) = self.proposals.next()
        {
            proposal.packets().iter().for_each(|packet| packet.write(out));
        }
        if self.proposals.len() == 0 { Chunk::Last } else { Chunk::More }
    }
}
