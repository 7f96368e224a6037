/* What C asks of a loader. `run` gives 42 if all of it is right. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"zero", "one", "two"};
static const double halves[] = {0.5, 1.5, 2.5};
long counter = 7;
static int zeroed[5000];
int common[3];
extern char **environ;
extern void nobody(void) __attribute__((weak));
__attribute__((weak)) int weak(void) { return 3; }
static int constructed;
__attribute__((constructor)) static void start(void) { constructed++; }

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

__attribute__((noinline)) static const char *choose(int n)
{
    switch (n) {
    case 0: return "a";
    case 1: return "bc";
    case 2: return "def";
    case 3: return "ghij";
    case 4: return "klmno";
    case 5: return "pqrstu";
    default: return "";
    }
}

__attribute__((noinline)) static int format(char *to, const char *how, ...)
{
    va_list list;
    va_start(list, how);
    int written = vsprintf(to, how, list);
    va_end(list);
    return written;
}

int (*volatile pointer)(const void *, const void *) = compare;

long run(void)
{
    int numbers[] = {5, 3, 9, 1};
    char text[100];
    volatile double two = 2;
    long right = 0;
    qsort(numbers, 4, sizeof *numbers, compare);
    right += numbers[0] == 1 && numbers[3] == 9;
    right += constructed == 1 && pointer == compare;
    right += format(text, "%s %.2f %d", names[2], halves[1] * two, 42) == 11 && !strcmp(text, "two 3.00 42");
    counter++;
    zeroed[4999]++;
    common[2]++;
    right += counter == 8 && zeroed[4999] + zeroed[0] == 1 && common[2] == 1;
    right += environ != NULL && &nobody == NULL && weak() == 3;
    for (int i = 0; i < 6; i++)
        right += strlen(choose(i)) == (size_t)i + 1;
    return right == 11 ? 42 : right;
}
