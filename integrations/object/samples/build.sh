#!/bin/sh
# Makes the objects that are checked in, on a Debian 12 with
#   apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross clang
# and with rustup's target aarch64-unknown-linux-musl. They are checked in because the tests run them
# in QEMU's user mode, where no compiler can be started.
set -eu
cd "$(dirname "$0")"
gcc="aarch64-linux-gnu-gcc -c -g0"
clang="clang --target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include -c -g0"
$gcc -O0 features.c -o aarch64-gcc-O0.o
$gcc -O2 features.c -o aarch64-gcc-O2.o
$gcc -O2 -fPIC -ffunction-sections features.c -o aarch64-gcc-O2-fPIC.o
$gcc -O2 -fpic features.c -o aarch64-gcc-O2-small-pic.o
$gcc -O2 -fno-pie features.c -o aarch64-gcc-O2-no-pie.o
$gcc -O2 -fno-pie -mcmodel=large features.c -o aarch64-gcc-O2-large.o
$gcc -O2 -fno-pie -mcmodel=tiny features.c -o aarch64-gcc-O2-tiny.o
$clang -O2 features.c -o aarch64-clang-O2.o
$clang -O2 -fPIC -fno-plt features.c -o aarch64-clang-O2-fPIC.o
$clang -O2 -fno-pie -mcmodel=large features.c -o aarch64-clang-O2-large.o

# With landing pads (BTI), and the same without.
$gcc -O2 -mbranch-protection=standard features.c -o aarch64-gcc-O2-standard.o
$clang -O2 -mbranch-protection=bti features.c -o aarch64-clang-O2-bti.o
$gcc -O2 -mbranch-protection=bti indirect.c -o aarch64-gcc-indirect.o
$gcc -O2 -mbranch-protection=bti pads.c -o aarch64-gcc-pads.o
$gcc -O2 pads.c -o aarch64-gcc-no-pads.o

rustc --edition 2024 -O -C panic=abort -C relocation-model=pic --target aarch64-unknown-linux-musl \
    --emit obj features.rs -o aarch64-rustc-O.o
rustc --edition 2024 -C opt-level=1 -C panic=abort -C relocation-model=static -C code-model=large \
    --target aarch64-unknown-linux-musl --emit obj features.rs -o aarch64-rustc-large.o

# For macOS on both processors, with rustup's targets for it.
for processor in aarch64 x86_64; do
    for level in O1 O; do
        case $level in O) optimise=-O ;; *) optimise="-C opt-level=1" ;; esac
        rustc --edition 2024 $optimise -C panic=abort --target $processor-apple-darwin --emit obj features.rs \
            -o macos-$processor-rustc-$level.o
    done
done
