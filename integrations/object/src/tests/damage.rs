//! Damaged objects: up to the first call, every damage is an error, never a panic or a crash.

use super::patch::prepare;
use execmem_object_samples as samples;

/// Every how many bytes. Emulated (the musl target), all of them would take minutes, and nothing here depends on the
/// machine.
const STRIDE: usize = if cfg!(target_env = "musl") { 17 } else { 1 };

#[test]
fn the_bundled_objects_are_sound() {
    for (name, file) in samples::BUNDLED.iter().chain([&samples::RISCV64_BUNDLED]) {
        prepare(file).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    for (name, file) in samples::BUNDLED.iter().chain([&samples::RISCV64_BUNDLED]) {
        for length in 0..file.len() {
            assert!(prepare(&file[..length]).is_err(), "{name} of {length} bytes");
        }
    }
}

/// Not every change is an error: an instruction may be any other. All values of all bytes would take minutes. These
/// turn small numbers into large ones, and large ones into small ones.
#[test]
fn a_changed_byte_anywhere_never_panics() {
    let mut refused = 0;
    for (_, file) in samples::BUNDLED {
        let mut file = file.to_vec();
        for at in (0..file.len()).step_by(STRIDE) {
            let sound = file[at];
            for changed in [sound ^ 1, sound ^ 0x80, 0, 0xff] {
                file[at] = changed;
                refused += usize::from(prepare(&file).is_err());
            }
            file[at] = sound;
        }
    }
    // Checks that did nothing would refuse nothing.
    assert!(refused > 1000 / STRIDE, "only {refused} damaged files were refused");
}

/// Several bytes or words at once. The generator (xorshift) gives the same numbers in each run. The words are near
/// those at which sums and differences overflow.
#[test]
fn many_changed_bytes_and_words_never_panic() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    let (mut accepted, mut refused) = (0, 0);
    let elf = samples::BUNDLED.iter().chain([&samples::RISCV64_BUNDLED]);
    for (_, sound) in elf.chain(samples::MACOS_BUNDLED).chain(samples::MACOS_X86_64) {
        for _ in 0..5000 / STRIDE {
            let mut file = sound.to_vec();
            for _ in 0..1 + random(6) {
                let at = random(file.len());
                let edge = [0, 1 << 31, 1 << 63, u64::MAX][random(4)];
                let word = u64::wrapping_add(edge, random(32) as u64).wrapping_sub(16).to_le_bytes();
                match [1, 4, 8][random(3)] {
                    1 => file[at] = random(256) as u8,
                    width => {
                        let place = file[at & !(width - 1)..].iter_mut();
                        place.zip(&word[..width]).for_each(|(byte, changed)| *byte = *changed);
                    }
                }
            }
            match prepare(&file) {
                Ok(_) => accepted += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(accepted.min(refused) > 1000 / STRIDE, "{accepted} accepted, {refused} refused");
}
