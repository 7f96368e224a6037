#include "sum.h"
#include <lz4.h>
#include <lz4hc.h>

static char data[200000], back[200000], packed[300000];

long run(void)
{
    fill(data, sizeof data);
    for (int level = 0; level <= 12; level += 4) {
        int size = level == 0 ? LZ4_compress_default(data, packed, sizeof data, sizeof packed)
                              : LZ4_compress_HC(data, packed, sizeof data, sizeof packed, level);
        see_number(size);
        see(packed, (size_t)size);
        see_number(LZ4_decompress_safe(packed, back, size, sizeof back));
        see_number(memcmp(data, back, sizeof data));
        see_number(LZ4_decompress_safe(packed, back, size / 2, sizeof back) < 0);
    }
    return (long)sum;
}
