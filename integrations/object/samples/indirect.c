/* An indirect function (IFUNC): what others call is code of the loader's. build.sh makes it with landing pads. */
static long chosen(long number) { return number + 7; }

static void *choose(void) { return (void *)chosen; }

long indirect(long number) __attribute__((ifunc("choose")));
