// Takes 40 keys before anybody else gets one, so that a thread which sets the heap's makes glibc allocate its block for
// more than 32: a second call into the allocator, from within the first of the thread.
#include <pthread.h>

extern int __pthread_key_create(pthread_key_t *, void (*)(void *));

int pthread_key_create(pthread_key_t *key, void (*destructor)(void *)) {
    static int done;
    if (!done) {
        done = 1;
        pthread_key_t other;
        for (int i = 0; i < 40; i++) __pthread_key_create(&other, 0);
    }
    return __pthread_key_create(key, destructor);
}
