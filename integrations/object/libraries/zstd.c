#include "sum.h"
#include <zdict.h>
#include <zstd.h>

static char data[200000], back[200000], packed[300000], dictionary[4096];

long run(void)
{
    fill(data, sizeof data);
    size_t sizes[200];
    for (int i = 0; i < 200; i++)
        sizes[i] = 1000;
    for (int level = 1; level <= 19; level += 6) {
        size_t size = ZSTD_compress(packed, sizeof packed, data, sizeof data, level);
        see_number((long)size);
        see(packed, size);
        see_number((long)ZSTD_decompress(back, sizeof back, packed, size));
        see_number(memcmp(data, back, sizeof data));
        packed[size / 2] ^= 1;
        see_number(ZSTD_isError(ZSTD_decompress(back, sizeof back, packed, size)));
    }
    size_t trained = ZDICT_trainFromBuffer(dictionary, sizeof dictionary, data, sizes, 200);
    see_number((long)trained);
    see(ZSTD_getErrorName((size_t)-20), 10);
    return (long)sum;
}
