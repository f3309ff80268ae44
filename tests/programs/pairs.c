// Takes and frees a small block as often as the second argument says, or has it reallocated to the size that it has, or
// does nothing, for comparison.

#include <stdlib.h>
#include <string.h>

int main(int count, char **words) {
    if (count != 3)
        return 1;
    long rounds = atol(words[2]);
    void *volatile block = malloc(64);
    void *volatile seen;
    if (!strcmp(words[1], "pairs")) {
        for (long i = 0; i < rounds; i++) {
            block = malloc(64);
            free(block);
        }
    } else if (!strcmp(words[1], "reallocs")) {
        for (long i = 0; i < rounds; i++)
            block = realloc(block, 64);
    } else {
        for (long i = 0; i < rounds; i++) {
            block = words;
            seen = block;
        }
    }
    (void)seen;
    return 0;
}
