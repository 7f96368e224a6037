#include "sum.h"
#include <bzlib.h>

static char data[200000], back[200000], packed[300000];

long run(void)
{
    fill(data, sizeof data);
    for (int level = 1; level <= 9; level += 4) {
        unsigned size = sizeof packed, whole = sizeof back;
        see_number(BZ2_bzBuffToBuffCompress(packed, &size, data, sizeof data, level, 0, 0));
        see(packed, size);
        see_number(BZ2_bzBuffToBuffDecompress(back, &whole, packed, size, 0, 0));
        see_number(whole == sizeof data && memcmp(data, back, whole) == 0);
        packed[size / 2] ^= 1;
        whole = sizeof back;
        see_number(BZ2_bzBuffToBuffDecompress(back, &whole, packed, size, level == 1, 0));
    }
    return (long)sum;
}
