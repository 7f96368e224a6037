//! Tests that link objects of both architectures, whatever the machine, and those of damaged files. The tests in
//! `tests/` run what compilers make for this machine.

mod bounds;
mod damage;
mod formats;
mod landing_pads;
mod mach_o;
mod patch;
mod refusals;
