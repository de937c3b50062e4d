/* Counts the edges that compiled modules take (-fsanitize-coverage=trace-pc), and tells when a run took new ones. */

#include <stdint.h>
#include <string.h>

#define CELLS 65536

static uint8_t counts[CELLS], known[CELLS];
static uintptr_t previous;

void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    here = (here >> 4) ^ (here << 8);
    uint8_t *cell = &counts[(here ^ previous) % CELLS];
    if (*cell < 255)
        ++*cell;
    previous = here >> 1;
}

void coverage_clear(void)
{
    memset(counts, 0, sizeof counts);
    previous = 0;
}

/* How many cells were reached for the first time, or so much more often than before: 1, 2, 4, 16, 128 times. */
int coverage_new(void)
{
    int found = 0;
    for (int i = 0; i < CELLS; i++) {
        uint8_t n = counts[i], bit;
        if (!n)
            continue;
        bit = n < 2 ? 1 : n < 4 ? 2 : n < 16 ? 4 : n < 128 ? 8 : 16;
        if (!(known[i] & bit)) {
            known[i] |= bit;
            found++;
        }
    }
    return found;
}

int coverage_cells(void)
{
    int found = 0;
    for (int i = 0; i < CELLS; i++)
        found += known[i] != 0;
    return found;
}
