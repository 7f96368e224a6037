//! Physical memory, frame by frame: how many pages show each of them.

/// The frames of a range of physical memory. A frame is free while no page shows it.
pub(crate) struct Frames {
    start: usize,
    frame_size: usize,
    /// For each frame, how many pages show it: two views of the same memory share their frames.
    pages: &'static mut [u8],
    free: usize,
    /// Where to look first: frames below were taken not long ago.
    next: usize,
}

impl Frames {
    /// Frames from the physical address `start` on, one for each counter. All are free.
    pub(crate) fn new(start: usize, frame_size: usize, pages: &'static mut [u8]) -> Self {
        pages.fill(0);
        let free = pages.len();
        Self { start, frame_size, pages, free, next: 0 }
    }

    /// How many frames are free.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// A frame for one page: its physical address.
    pub(crate) fn take(&mut self) -> Option<usize> {
        let is_free = |pages: &u8| *pages == 0;
        let behind = self.pages[self.next..].iter().position(is_free).map(|index| self.next + index);
        let index = behind.or_else(|| self.pages[..self.next].iter().position(is_free))?;
        self.pages[index] = 1;
        self.free -= 1;
        self.next = index + 1;
        Some(self.start + index * self.frame_size)
    }

    /// Notes that one more page shows a frame. False if so many already do that it can't be counted.
    pub(crate) fn share(&mut self, frame: usize) -> bool {
        let pages = self.pages_of(frame);
        match pages.checked_add(1) {
            Some(more) => *pages = more,
            None => return false,
        }
        true
    }

    /// Notes that one page less shows a frame.
    pub(crate) fn give_back(&mut self, frame: usize) {
        let pages = self.pages_of(frame);
        *pages -= 1;
        if *pages == 0 {
            self.free += 1;
        }
    }

    fn pages_of(&mut self, frame: usize) -> &mut u8 {
        &mut self.pages[(frame - self.start) / self.frame_size]
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
        Frames::new(START, 4096, Box::leak(vec![0xff; count].into_boxed_slice()))
    }

    #[test]
    fn every_frame_is_given_once_and_then_none() {
        let mut frames = frames(3);
        let taken: Vec<_> = (0..4).map(|_| frames.take()).collect();
        assert_eq!(taken, [Some(START), Some(START + 4096), Some(START + 8192), None]);
        assert_eq!(frames.free(), 0);
    }

    #[test]
    fn a_frame_is_free_again_when_the_last_page_that_shows_it_is_gone() {
        let mut frames = frames(1);
        let frame = frames.take().unwrap();
        assert!(frames.share(frame));
        frames.give_back(frame);
        assert_eq!((frames.free(), frames.take()), (0, None));
        frames.give_back(frame);
        assert_eq!((frames.free(), frames.take()), (1, Some(frame)));
    }

    #[test]
    fn a_frame_can_not_be_shared_more_often_than_is_counted() {
        let mut frames = frames(1);
        let frame = frames.take().unwrap();
        assert!((1..255).all(|_| frames.share(frame)));
        assert!(!frames.share(frame));
        (0..255).for_each(|_| frames.give_back(frame));
        assert_eq!(frames.free(), 1);
    }
}
