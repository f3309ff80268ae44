// A library that `capi` opens at run time: it allocates as it is loaded and as it is unloaded, and blocks go both ways.

#include <stdlib.h>
#include <string.h>

static char *made_on_load;

__attribute__((constructor)) static void load(void) {
    made_on_load = malloc(1000);
    if (made_on_load != NULL) {
        memset(made_on_load, 'p', 1000);
    }
}

__attribute__((destructor)) static void unload(void) {
    free(made_on_load);
    free(malloc(5000));
}

char *plugin_make(size_t size) {
    char *block = malloc(size);
    if (block != NULL) {
        memset(block, made_on_load[999], size);
    }
    return block;
}

void plugin_take(void *block) {
    free(block);
}
