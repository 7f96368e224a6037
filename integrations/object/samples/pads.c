/* Functions without data: a small object, which lies in the code heap. build.sh makes it with landing pads and without. */
#define NOINLINE __attribute__((noinline))

/* Nobody takes its address. So compilers give it no landing pad. */
NOINLINE static long direct(long number) { return number * 3; }

long through(long number) { return direct(number) + 1; }

long plain(long number) { return number + 5; }
