//! Functions that compilers call without being told, for what a processor has no instruction for. C's come from libgcc,
//! which each program has its own copy of; Rust's come with `core`, and are those that are offered to objects here.

/// Declares functions, and finds them by their names.
macro_rules! builtins {
    ($find:ident: $($name:ident)*) => {
        fn $find(wanted: &str) -> Option<usize> {
            unsafe extern "C" {
                $(fn $name();)*
            }
            match wanted {
                $(stringify!($name) => Some($name as *const () as usize),)*
                _ => None,
            }
        }
    };
}

// Integers of 128 bits, and their conversions.
builtins!(wide:
    __divti3 __modti3 __udivti3 __umodti3 __multi3 __ashlti3 __ashrti3 __lshrti3
    __floattidf __floattisf __floatuntidf __floatuntisf __fixdfti __fixsfti __fixunsdfti __fixunssfti
);

// Atomic operations that choose between two kinds of instructions when they are called.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
builtins!(atomic:
    __aarch64_swp1_relax __aarch64_swp1_acq __aarch64_swp1_rel __aarch64_swp1_acq_rel
    __aarch64_swp2_relax __aarch64_swp2_acq __aarch64_swp2_rel __aarch64_swp2_acq_rel
    __aarch64_swp4_relax __aarch64_swp4_acq __aarch64_swp4_rel __aarch64_swp4_acq_rel
    __aarch64_swp8_relax __aarch64_swp8_acq __aarch64_swp8_rel __aarch64_swp8_acq_rel
    __aarch64_ldadd1_relax __aarch64_ldadd1_acq __aarch64_ldadd1_rel __aarch64_ldadd1_acq_rel
    __aarch64_ldadd2_relax __aarch64_ldadd2_acq __aarch64_ldadd2_rel __aarch64_ldadd2_acq_rel
    __aarch64_ldadd4_relax __aarch64_ldadd4_acq __aarch64_ldadd4_rel __aarch64_ldadd4_acq_rel
    __aarch64_ldadd8_relax __aarch64_ldadd8_acq __aarch64_ldadd8_rel __aarch64_ldadd8_acq_rel
    __aarch64_ldclr1_relax __aarch64_ldclr1_acq __aarch64_ldclr1_rel __aarch64_ldclr1_acq_rel
    __aarch64_ldclr2_relax __aarch64_ldclr2_acq __aarch64_ldclr2_rel __aarch64_ldclr2_acq_rel
    __aarch64_ldclr4_relax __aarch64_ldclr4_acq __aarch64_ldclr4_rel __aarch64_ldclr4_acq_rel
    __aarch64_ldclr8_relax __aarch64_ldclr8_acq __aarch64_ldclr8_rel __aarch64_ldclr8_acq_rel
    __aarch64_ldeor1_relax __aarch64_ldeor1_acq __aarch64_ldeor1_rel __aarch64_ldeor1_acq_rel
    __aarch64_ldeor2_relax __aarch64_ldeor2_acq __aarch64_ldeor2_rel __aarch64_ldeor2_acq_rel
    __aarch64_ldeor4_relax __aarch64_ldeor4_acq __aarch64_ldeor4_rel __aarch64_ldeor4_acq_rel
    __aarch64_ldeor8_relax __aarch64_ldeor8_acq __aarch64_ldeor8_rel __aarch64_ldeor8_acq_rel
    __aarch64_ldset1_relax __aarch64_ldset1_acq __aarch64_ldset1_rel __aarch64_ldset1_acq_rel
    __aarch64_ldset2_relax __aarch64_ldset2_acq __aarch64_ldset2_rel __aarch64_ldset2_acq_rel
    __aarch64_ldset4_relax __aarch64_ldset4_acq __aarch64_ldset4_rel __aarch64_ldset4_acq_rel
    __aarch64_ldset8_relax __aarch64_ldset8_acq __aarch64_ldset8_rel __aarch64_ldset8_acq_rel
    __aarch64_cas1_relax __aarch64_cas1_acq __aarch64_cas1_rel __aarch64_cas1_acq_rel
    __aarch64_cas2_relax __aarch64_cas2_acq __aarch64_cas2_rel __aarch64_cas2_acq_rel
    __aarch64_cas4_relax __aarch64_cas4_acq __aarch64_cas4_rel __aarch64_cas4_acq_rel
    __aarch64_cas8_relax __aarch64_cas8_acq __aarch64_cas8_rel __aarch64_cas8_acq_rel
    __aarch64_cas16_relax __aarch64_cas16_acq __aarch64_cas16_rel __aarch64_cas16_acq_rel
);

#[cfg(not(all(target_arch = "aarch64", target_os = "linux")))]
fn atomic(_: &str) -> Option<usize> {
    None
}

/// The address of such a function.
pub fn find(name: &str) -> Option<usize> {
    if !name.starts_with("__") {
        return None;
    }
    wide(name).or_else(|| atomic(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_division_of_128_bits_is_found_and_divides() {
        let address = find("__divti3").unwrap();
        // SAFETY: libgcc's documentation has such a function by that name.
        let divide: unsafe extern "C" fn(i128, i128) -> i128 = unsafe { std::mem::transmute(address) };
        // SAFETY: any two numbers will do whose quotient is one.
        assert_eq!(unsafe { divide(-(1 << 100), 1 << 60) }, -(1 << 40));
        assert_eq!(find("__nothing"), None);
        assert_eq!(
            find("__aarch64_cas8_acq_rel").is_some(),
            cfg!(all(target_arch = "aarch64", target_os = "linux"))
        );
    }
}
