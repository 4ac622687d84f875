//! Where the bytes of znodes lie: blocks in size classes of 16 bytes, carved from pages, named by 32-bit numbers.
//!
//! A znode's name and data share one block. A small block costs its size rounded up to 16, and no header, pointer or
//! call to the allocator; a data change that stays in its class reuses the block. What is larger than
//! [`SMALL_MAX`] has an allocation of its own.

/// Sizes are rounded up to a multiple of this, in bytes.
const GRAIN: usize = 16;
/// The largest block that lies in a page, in bytes.
const SMALL_MAX: usize = 1024;
/// Bytes of a page; those of a class are all used for its blocks, but for the rest of the division.
const PAGE_BYTES: usize = 64 * 1024;

/// Names a block within the class of its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockId(u32);

/// All blocks of a tree.
#[derive(Default)]
pub(super) struct Blocks {
    /// Class `n` has blocks of `(n + 1) * GRAIN` bytes.
    classes: Vec<Class>,
    large: Vec<Box<[u8]>>,
    large_free: Vec<u32>,
}

#[derive(Default)]
struct Class {
    pages: Vec<Box<[u8]>>,
    /// Blocks handed out so far, free ones included.
    used: u32,
    free: Vec<u32>,
}

/// Where the bytes of a block of a length lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Class(usize),
    Large,
}

fn place(length: usize) -> Place {
    match length {
        0 => Place::Nowhere,
        1..=SMALL_MAX => Place::Class((length - 1) / GRAIN),
        _ => Place::Large,
    }
}

/// The page of block `id` of class `class`, and the offset in it.
fn in_page(class: usize, id: BlockId) -> (usize, usize) {
    let size = (class + 1) * GRAIN;
    let blocks_a_page = PAGE_BYTES / size;
    (id.0 as usize / blocks_a_page, id.0 as usize % blocks_a_page * size)
}

impl Blocks {
    /// A block with room for `length` bytes; what is in it is not said.
    pub fn allocate(&mut self, length: usize) -> BlockId {
        match place(length) {
            Place::Nowhere => BlockId(0),
            Place::Class(class) => {
                if self.classes.len() <= class {
                    self.classes.resize_with(class + 1, Class::default);
                }
                BlockId(self.classes[class].take(class))
            }
            Place::Large => {
                let block = vec![0; length].into_boxed_slice();
                if let Some(id) = self.large_free.pop() {
                    self.large[id as usize] = block;
                    return BlockId(id);
                }
                self.large.push(block);
                BlockId(u32::try_from(self.large.len() - 1).expect("fewer large blocks than 32 bits can name"))
            }
        }
    }

    /// Gives the block `id` of `length` bytes back.
    pub fn release(&mut self, id: BlockId, length: usize) {
        match place(length) {
            Place::Nowhere => {}
            Place::Class(class) => self.classes[class].free.push(id.0),
            Place::Large => {
                self.large[id.0 as usize] = Box::default();
                self.large_free.push(id.0);
            }
        }
    }

    /// Whether a block of `from` bytes can hold `to` bytes as it is.
    pub fn can_stay(from: usize, to: usize) -> bool {
        match place(from) {
            Place::Large => from == to,
            small => small == place(to),
        }
    }

    /// The bytes of the block `id`, which was allocated for `length` bytes.
    pub fn get(&self, id: BlockId, length: usize) -> &[u8] {
        match place(length) {
            Place::Nowhere => &[],
            Place::Class(class) => {
                let (page, offset) = in_page(class, id);
                &self.classes[class].pages[page][offset..offset + length]
            }
            Place::Large => &self.large[id.0 as usize],
        }
    }

    /// As [`Blocks::get`], to be written.
    pub fn get_mut(&mut self, id: BlockId, length: usize) -> &mut [u8] {
        match place(length) {
            Place::Nowhere => &mut [],
            Place::Class(class) => {
                let (page, offset) = in_page(class, id);
                &mut self.classes[class].pages[page][offset..offset + length]
            }
            Place::Large => &mut self.large[id.0 as usize],
        }
    }
}

impl Class {
    fn take(&mut self, class: usize) -> u32 {
        if let Some(id) = self.free.pop() {
            return id;
        }
        let id = self.used;
        self.used = id.checked_add(1).expect("fewer blocks of a size than 32 bits can name");
        if in_page(class, BlockId(id)).0 == self.pages.len() {
            self.pages.push(vec![0; PAGE_BYTES].into_boxed_slice());
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_all_sizes_keep_their_bytes_beside_each_other() {
        let mut blocks = Blocks::default();
        let lengths: Vec<usize> = (0..2000).chain([70_000, 70_000]).collect();
        let ids: Vec<BlockId> = lengths.iter().map(|&length| blocks.allocate(length)).collect();
        for (n, (&id, &length)) in ids.iter().zip(&lengths).enumerate() {
            blocks.get_mut(id, length).fill(n as u8);
        }
        for (n, (&id, &length)) in ids.iter().zip(&lengths).enumerate() {
            assert_eq!(blocks.get(id, length), vec![n as u8; length], "block {n}");
        }
    }

    #[test]
    fn a_released_block_is_used_again() {
        let mut blocks = Blocks::default();
        for length in [10, 5000] {
            let first = blocks.allocate(length);
            blocks.release(first, length);
            assert_eq!(blocks.allocate(length), first);
        }
    }

    #[test]
    fn a_change_within_the_class_stays_in_its_block() {
        assert!(Blocks::can_stay(17, 32));
        assert!(!Blocks::can_stay(16, 17));
        assert!(!Blocks::can_stay(5000, 5001));
        assert!(!Blocks::can_stay(0, 1));
    }
}
