//! The growth of a table: readers beside it find a record whole, or not yet.
//!
//! fault "a record is announced Relaxed" in memory.rs
//! - self.length.store(index + 1, Ordering::Release)
//! + self.length.store(index + 1, Ordering::Relaxed)
//!
//! fault "the length is read Relaxed" in memory.rs
//! - index >= self.length.load(Ordering::Acquire)
//! + index >= self.length.load(Ordering::Relaxed)

extern crate std;

use super::{Pool, Table};
use crate::models::System;
use crate::sync::{AtomicUsize, Ordering, explore};
use std::boxed::Box;

type Records = Table<AtomicUsize, 1>;

#[test]
fn a_reader_beside_the_growth_finds_whole_records() {
    let place = Box::into_raw(Box::new(Records::new())).expose_provenance();
    explore(3, move || {
        let table: *mut Records = core::ptr::with_exposed_provenance_mut(place);
        // SAFETY: leaked above, and the last execution is over.
        let table: &'static Records = unsafe {
            table.write(Table::new());
            &*table
        };
        // What the writer stores first, and the pieces that it makes.
        assert!(table.pieces.iter().take(3).all(|piece| piece.load(Ordering::Relaxed).is_null()));
        let noted: &'static AtomicUsize = &*Box::leak(Box::new(AtomicUsize::new(0)));
        let known = table.indexes().end + noted.load(Ordering::Relaxed) as u32;
        assert_eq!(known, 0);
        let reader = loom::thread::spawn(move || {
            for index in 0..2 {
                if let Some(record) = table.pointer(index) {
                    assert!(record.addr() > 4096, "the record's piece is not there yet");
                    let noted = noted.load(Ordering::Relaxed);
                    assert!(noted > index as usize, "what was stored before the record came is not seen");
                }
            }
        });
        let mut pool = Pool::new();
        for _ in 0..2 {
            noted.fetch_add(1, Ordering::Relaxed);
            // SAFETY: nobody else adds.
            unsafe { table.add(&mut pool, System, |index| AtomicUsize::new(index as usize)) }.unwrap();
        }
        reader.join().unwrap();
        assert_eq!(table.indexes(), 0..2);
    });
}
