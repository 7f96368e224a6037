/* What drivers have in common: a number for all that they have seen (FNV-1a), and data to work on. */
#include <stddef.h>
#include <string.h>

static unsigned long sum = 0xcbf29ce484222325ul;

static void see(const void *bytes, size_t size)
{
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ byte[i]) * 0x100000001b3ul;
}

static inline void see_number(long number)
{
    see(&number, sizeof number);
}

/* Text that can be compressed, but not to nothing. */
static inline void fill(char *data, size_t size)
{
    static const char *const words[] = {"page ", "region ", "block ", "view ", "publish ", "policy ", "0123", "\n"};
    unsigned long state = 88172645463325252ul;
    size_t at = 0;
    while (at < size) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const char *word = words[state % 8];
        size_t length = strlen(word);
        for (size_t i = 0; i < length && at < size; i++)
            data[at++] = word[i];
    }
}
