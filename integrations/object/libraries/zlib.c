#include "sum.h"
#include <zlib.h>

static char data[300000], back[300000];
static unsigned char packed[400000];

long run(void)
{
    fill(data, sizeof data);
    for (int level = 0; level <= 9; level += 3) {
        uLongf size = sizeof packed, whole = sizeof back;
        see_number(compress2(packed, &size, (Bytef *)data, sizeof data, level));
        see(packed, size);
        see_number(uncompress((Bytef *)back, &whole, packed, size));
        see_number(whole == sizeof data && memcmp(data, back, whole) == 0);
        packed[size / 2] ^= 0x55;
        whole = sizeof back;
        see_number(uncompress((Bytef *)back, &whole, packed, size));
    }
    see_number(crc32(0, (Bytef *)data, sizeof data));
    see_number(adler32(1, (Bytef *)data, sizeof data));
    see(zlibVersion(), strlen(zlibVersion()));
    return (long)sum;
}
