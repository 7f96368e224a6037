//! Physical memory, frame by frame: how many pages show each of them.

use crate::tables::PAGE_SIZE;

/// The frames of a range of physical memory. A frame is free while no page shows it.
pub(crate) struct Frames {
    start: usize,
    /// For each frame, how many pages show it (two views of the same memory share their frames), and
    /// [`DROPPABLE`].
    pages: &'static mut [u8],
    free: usize,
    /// Where to look first: frames below were taken not long ago.
    next: usize,
}

/// Whether the contents may be dropped when the caller says that it doesn't need them.
const DROPPABLE: u8 = 1 << 7;

impl Frames {
    /// Frames from the physical address `start` on, one for each counter. All are free.
    pub(crate) fn new(start: usize, pages: &'static mut [u8]) -> Self {
        pages.fill(0);
        let free = pages.len();
        Self { start, pages, free, next: 0 }
    }

    /// How many frames are free.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// A frame for one page: its physical address.
    pub(crate) fn take(&mut self, droppable: bool) -> Option<usize> {
        let (before, behind) = self.pages.split_at_checked(self.next)?;
        let first_free = |pages: &[u8]| pages.iter().position(|pages| *pages == 0);
        let index = match first_free(behind) {
            Some(index) => self.next + index,
            None => first_free(before)?,
        };
        *self.pages.get_mut(index)? = if droppable { 1 | DROPPABLE } else { 1 };
        self.free -= 1;
        self.next = index + 1;
        Some(self.start + index * PAGE_SIZE)
    }

    /// Whether the contents of a frame in use may be dropped.
    pub(crate) fn is_droppable(&mut self, frame: usize) -> bool {
        self.pages_of(frame).is_some_and(|pages| *pages & DROPPABLE != 0)
    }

    /// Notes that one more page shows a frame. False if so many already do that it can't be counted.
    pub(crate) fn share(&mut self, frame: usize) -> bool {
        let Some(pages) = self.pages_of(frame) else { return false };
        let is_countable = *pages & !DROPPABLE < !DROPPABLE;
        if is_countable {
            *pages += 1;
        }
        is_countable
    }

    /// Notes that one page less shows a frame.
    pub(crate) fn give_back(&mut self, frame: usize) {
        let Some(pages) = self.pages_of(frame) else { return };
        *pages -= 1;
        if *pages & !DROPPABLE == 0 {
            *pages = 0;
            self.free += 1;
        }
    }

    fn pages_of(&mut self, frame: usize) -> Option<&mut u8> {
        self.pages.get_mut((frame - self.start) / PAGE_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    const START: usize = 0x4800_0000;

    fn frames(count: usize) -> Frames {
        Frames::new(START, Box::leak(vec![0xff; count].into_boxed_slice()))
    }

    #[test]
    fn every_frame_is_given_once_and_then_none() {
        let mut frames = frames(3);
        let taken: Vec<_> = (0..4).map(|_| frames.take(false)).collect();
        assert_eq!(taken, [Some(START), Some(START + 4096), Some(START + 8192), None]);
        assert_eq!(frames.free(), 0);
    }

    #[test]
    fn a_frame_is_free_again_when_the_last_page_that_shows_it_is_gone() {
        let mut frames = frames(1);
        let frame = frames.take(false).unwrap();
        assert!(frames.share(frame));
        frames.give_back(frame);
        assert_eq!((frames.free(), frames.take(false)), (0, None));
        frames.give_back(frame);
        assert_eq!((frames.free(), frames.take(false)), (1, Some(frame)));
    }

    #[test]
    fn a_frame_can_not_be_shared_more_often_than_is_counted() {
        let mut frames = frames(1);
        let frame = frames.take(false).unwrap();
        assert!((1..127).all(|_| frames.share(frame)));
        assert!(!frames.share(frame));
        (0..127).for_each(|_| frames.give_back(frame));
        assert_eq!(frames.free(), 1);
    }

    #[test]
    fn a_frame_is_droppable_as_it_was_taken_until_it_is_free() {
        let mut frames = frames(1);
        for droppable in [true, false, true] {
            let frame = frames.take(droppable).unwrap();
            assert!(frames.share(frame));
            assert_eq!(frames.is_droppable(frame), droppable);
            frames.give_back(frame);
            assert_eq!((frames.is_droppable(frame), frames.free()), (droppable, 0));
            frames.give_back(frame);
            assert_eq!(frames.free(), 1);
        }
    }
}
