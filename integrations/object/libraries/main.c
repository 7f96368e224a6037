/* The native program of each driver, for comparison. */
#include <stdio.h>

long run(void);

int main(void)
{
    printf("run() = %ld\n", run());
    return 0;
}
