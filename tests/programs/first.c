// Threads whose first call to the allocator is for the class of the block that setting a key makes, after others have left
// full magazines of it. What is out after each hundred is printed.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *first(void *unused) {
    (void)unused;
    void *block = malloc(500);
    memset(block, 1, 500);
    free(block);
    return 0;
}

static void *fill(void *unused) {
    (void)unused;
    static void *blocks[4000];
    for (int i = 0; i < 4000; i++) blocks[i] = malloc(500);
    for (int i = 0; i < 4000; i++) free(blocks[i]);
    return 0;
}

static void run(void *(*body)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, 0, body, 0) || pthread_join(thread, 0)) abort();
}

int main(void) {
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            run(first);
            if (i % 2 == 0) run(fill);
        }
        malloc_trim(0);
        printf("%zu\n", mallinfo2().uordblks);
    }
}
