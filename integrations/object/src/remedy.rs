//! What to do about a symbol that nobody defines.

/// Functions of libm, also with an `f` or `l` behind them.
const MATHEMATICAL: &[&str] = &[
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "copysign",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "fabs",
    "fdim",
    "floor",
    "fma",
    "fmax",
    "fmin",
    "fmod",
    "frexp",
    "hypot",
    "ilogb",
    "ldexp",
    "lgamma",
    "llrint",
    "llround",
    "log",
    "log10",
    "log1p",
    "log2",
    "logb",
    "lrint",
    "lround",
    "modf",
    "nan",
    "nearbyint",
    "nextafter",
    "pow",
    "remainder",
    "remquo",
    "rint",
    "round",
    "scalbln",
    "scalbn",
    "sin",
    "sincos",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "tgamma",
    "trunc",
    "cabs",
    "carg",
    "cexp",
    "clog",
    "cpow",
    "csqrt",
];

/// Beginnings of names, and what to do.
const BEGINNINGS: &[(&str, &str)] = &[
    ("__aarch64_", LIBGCC),
    ("__gcov_", "compile without --coverage"),
    ("__asan_", "compile without -fsanitize"),
    ("__tsan_", "compile without -fsanitize"),
    ("__ubsan_", "compile without -fsanitize"),
    ("__msan_", "compile without -fsanitize"),
    ("_gfortran", "load Fortran's library: -l gfortran"),
    ("GOMP_", "load OpenMP's library: -l gomp"),
    ("__kmpc_", "load OpenMP's library: -l omp"),
    ("__atomic_", "load libatomic: -l atomic"),
    ("__tls_get_addr", "thread-local storage isn't provided"),
    ("__start_", "sections with a start and an end symbol aren't provided"),
    ("__stop_", "sections with a start and an end symbol aren't provided"),
    ("_ZN10__cxxabiv1", CPLUSPLUS),
    ("_ZTVN10__cxxabiv1", CPLUSPLUS),
    ("_ZSt", CPLUSPLUS),
    ("_ZNSt", CPLUSPLUS),
    ("_ZNKSt", CPLUSPLUS),
    ("_Znw", CPLUSPLUS),
    ("_Zna", CPLUSPLUS),
    ("_Zdl", CPLUSPLUS),
    ("_Zda", CPLUSPLUS),
    ("__cxa_", CPLUSPLUS),
    ("__gxx_", CPLUSPLUS),
    ("_ZN4core", RUST),
    ("_ZN5alloc", RUST),
    ("_ZN3std", RUST),
    ("rust_", RUST),
    ("__rust", RUST),
];

const LIBGCC: &str =
    "the compiler's own library has it: link the archive that `cc -print-libgcc-file-name` names";
const CPLUSPLUS: &str = "load C++'s library: -l stdc++";
const MATH: &str = "the mathematical library isn't in this process: load it with -l m";
const RUST: &str = "link Rust's libraries: rustc --crate-type staticlib makes an archive with them";
const FORTIFIED: &str = "this C library lacks checked functions: compile with -U_FORTIFY_SOURCE";
const OTHER: &str = "link what defines it, or have the resolver offer it";

/// What to do about a symbol that is defined neither in what is linked nor by the resolver.
pub fn remedy(name: &str) -> &'static str {
    let beginning = BEGINNINGS.iter().find(|(start, _)| name.starts_with(start));
    if let Some((_, remedy)) = beginning {
        return remedy;
    }
    let plain = name.strip_suffix(['f', 'l']).unwrap_or(name);
    if MATHEMATICAL.contains(&name) || MATHEMATICAL.contains(&plain) {
        MATH
    } else if name.starts_with("__") && name.ends_with("_chk") {
        FORTIFIED
    } else if is_of_libgcc(name) {
        LIBGCC
    } else {
        OTHER
    }
}

/// Names like `__divti3`, `__floattidf`, `__addtf3`: an operation and the modes of its operands.
fn is_of_libgcc(name: &str) -> bool {
    let others = ["__clear_cache", "__cpu_model", "__cpu_indicator_init", "__enable_execute_stack"];
    let Some(rest) = name.strip_prefix("__") else { return false };
    let rest = rest.trim_end_matches(['2', '3', '4']);
    let modes = ["si", "di", "ti", "sf", "df", "xf", "tf", "hf", "bf", "sc", "dc", "xc", "tc"];
    others.contains(&name) || rest.len() > 2 && modes.iter().any(|mode| rest.ends_with(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_names_have_their_remedies() {
        let names = [
            ("pow", MATH),
            ("sqrtf", MATH),
            ("fmodl", MATH),
            ("__divti3", LIBGCC),
            ("__multc3", LIBGCC),
            ("__aarch64_ldadd8_acq_rel", LIBGCC),
            ("__cpu_model", LIBGCC),
            ("_ZNSt6vectorIiE", CPLUSPLUS),
            ("__cxa_throw", CPLUSPLUS),
            ("__memcpy_chk", FORTIFIED),
            ("deflate", OTHER),
            ("__init", OTHER),
        ];
        for (name, expected) in names {
            assert_eq!(remedy(name), expected, "{name}");
        }
    }
}
