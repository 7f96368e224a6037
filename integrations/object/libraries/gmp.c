#include "sum.h"
#include <gmp.h>
#include <stdlib.h>

long run(void)
{
    mpz_t a, b, c;
    mpz_init(a);
    mpz_init(b);
    mpz_init(c);
    mpz_fac_ui(a, 2000);
    mpz_fib_ui(b, 5000);
    mpz_mul(c, a, b);
    mpz_gcd(b, c, b);
    mpz_powm_ui(a, c, 65537, b);
    mpz_nextprime(b, a);
    mpz_sqrt(c, c);
    char *text = mpz_get_str(NULL, 10, c);
    see(text, strlen(text));
    free(text);
    text = mpz_get_str(NULL, 16, b);
    see(text, strlen(text));
    free(text);
    mpf_t root;
    mpf_init2(root, 500);
    mpf_sqrt_ui(root, 2);
    long exponent;
    text = mpf_get_str(NULL, &exponent, 10, 100, root);
    see(text, strlen(text));
    free(text);
    mpf_clear(root);
    mpz_clear(a);
    mpz_clear(b);
    mpz_clear(c);
    return (long)sum;
}
