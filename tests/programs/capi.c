// C's semantics of the allocation functions, one check per name: `capi NAME` prints which library malloc is bound to
// and «ok NAME», or says what did not hold and exits with 1. `capi` alone prints the names.
//
// What the C standard and POSIX leave open is asked as glibc answers it, as programs have come to expect.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

// An errno that none of the calls sets by itself.
#define UNTOUCHED 4711

#define CHECK(condition)                                                                            \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            dprintf(STDERR_FILENO, "capi.c:%d: does not hold: %s (errno %d)\n", __LINE__, #condition, errno); \
            _exit(1);                                                                               \
        }                                                                                           \
    } while (0)

// `expression` gives null and sets errno to `expected`.
#define REFUSES(expected, expression)   \
    do {                                \
        errno = UNTOUCHED;              \
        CHECK((expression) == NULL);    \
        CHECK(errno == (expected));     \
    } while (0)

extern char **environ;

static const char *self;

// Sizes that no compiler knows.
static volatile size_t zero = 0;
static volatile size_t most = PTRDIFF_MAX;

static bool is_aligned(const void *block, size_t alignment) {
    return (uintptr_t)block % alignment == 0;
}

// A word that depends on its place, so that a shifted copy shows.
static uint64_t word_at(uint64_t seed, size_t index) {
    uint64_t word = (seed + index) * 0x9e3779b97f4a7c15u;
    return word ^ (word >> 29);
}

static void fill(void *block, size_t size, uint64_t seed) {
    unsigned char *bytes = block;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = word_at(seed, at);
        memcpy(bytes + at, &word, size - at < sizeof word ? size - at : sizeof word);
    }
}

static bool holds(const void *block, size_t size, uint64_t seed) {
    const unsigned char *bytes = block;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = word_at(seed, at);
        if (memcmp(bytes + at, &word, size - at < sizeof word ? size - at : sizeof word) != 0) {
            return false;
        }
    }
    return true;
}

static bool is_zero(const unsigned char *bytes, size_t size) {
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

// A small generator, so that threads draw without sharing.
static uint32_t draw(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

// From 1 byte to 64 MiB in steps of about a third, odd sizes included.
static size_t next_size(size_t size) {
    return size + size / 3 + 1;
}

static void *checked_malloc(size_t size) {
    void *block = malloc(size);
    CHECK(block != NULL);
    return block;
}

static void child_succeeds(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static size_t resident_peak(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (size_t)usage.ru_maxrss * KIB;
}

static void limit_address_space(size_t bytes) {
    struct rlimit limit = {bytes, bytes};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// malloc, calloc and their sizes

static void malloc_zero(void) {
    void *blocks[100];
    for (int i = 0; i < 100; i++) {
        blocks[i] = checked_malloc(zero);
        CHECK(is_aligned(blocks[i], 16));
        for (int j = 0; j < i; j++) {
            CHECK(blocks[i] != blocks[j]);
        }
    }
    for (int i = 0; i < 100; i++) {
        free(blocks[i]);
    }
    void *block = calloc(zero, 8);
    CHECK(block != NULL);
    free(block);
    block = calloc(8, zero);
    CHECK(block != NULL);
    free(block);
}

static void malloc_alignment(void) {
    for (int round = 0; round < 3; round++) {
        static void *blocks[4096];
        for (size_t size = 1; size <= 4096; size++) {
            void *block = blocks[size - 1] = checked_malloc(size);
            CHECK(is_aligned(block, _Alignof(max_align_t)));
            fill(block, size, size);
        }
        for (size_t size = 1; size <= 4096; size++) {
            CHECK(holds(blocks[size - 1], size, size));
            free(blocks[size - 1]);
        }
    }
    for (size_t size = 4096; size <= 64 * MIB; size = next_size(size)) {
        void *block = checked_malloc(size);
        CHECK(is_aligned(block, 16));
        fill(block, size, size);
        CHECK(holds(block, size, size));
        free(block);
    }
}

static void absurd_sizes(void) {
    size_t sizes[] = {most - 4096, most - 16, most - 1, most, most + 1, most + 17, -4096 + zero, -64 + zero, -1 + zero};
    char *kept = checked_malloc(100);
    fill(kept, 100, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        REFUSES(ENOMEM, malloc(size));
        REFUSES(ENOMEM, calloc(1, size));
        REFUSES(ENOMEM, calloc(size, 1));
        REFUSES(ENOMEM, realloc(NULL, size));
        REFUSES(ENOMEM, realloc(kept, size));
        REFUSES(ENOMEM, reallocarray(kept, size, 1));
        REFUSES(ENOMEM, reallocarray(kept, 1, size));
        REFUSES(ENOMEM, valloc(size));
        REFUSES(ENOMEM, pvalloc(size));
        for (size_t alignment = 8; alignment <= 64 * MIB; alignment *= 8) {
            REFUSES(ENOMEM, memalign(alignment, size));
            REFUSES(ENOMEM, aligned_alloc(alignment, size));
            void *untouched = kept;
            CHECK(posix_memalign(&untouched, alignment, size) == ENOMEM);
            CHECK(untouched == kept);
        }
        CHECK(holds(kept, 100, 1));
    }
    free(kept);
}

static void calloc_zeroes(void) {
    for (int round = 0; round < 3; round++) {
        for (size_t size = 1; size <= 64 * MIB; size = size < 2048 ? size + 7 : next_size(size)) {
            // Dirty memory of this size first, so that it may come back.
            void *dirty = checked_malloc(size);
            memset(dirty, 0xa5, size);
            free(dirty);
            unsigned char *block = round == 1 ? calloc(size, 1) : calloc(1, size);
            CHECK(block != NULL);
            CHECK(is_aligned(block, 16));
            CHECK(is_zero(block, size));
            memset(block, 0x5a, size);
            free(block);
        }
    }
    unsigned char *table = calloc(1000, 123);
    CHECK(table != NULL && is_zero(table, 123000));
    free(table);
}

static void calloc_overflow(void) {
    size_t half = (size_t)1 << 32;
    REFUSES(ENOMEM, calloc(half + zero, half));
    REFUSES(ENOMEM, calloc(half + zero, half + 1));
    REFUSES(ENOMEM, calloc(SIZE_MAX - zero, 2));
    REFUSES(ENOMEM, calloc(2, SIZE_MAX - zero));
    REFUSES(ENOMEM, calloc(SIZE_MAX / 3 + 2 + zero, 3));
    REFUSES(ENOMEM, calloc(SIZE_MAX - zero, SIZE_MAX - zero));
}

// ---------------------------------------------------------------------------------------------------------------------
// realloc

static void realloc_null(void) {
    for (size_t size = 1; size <= 64 * MIB; size *= 4) {
        void *block = realloc(NULL, size);
        CHECK(block != NULL && is_aligned(block, 16));
        fill(block, size, size);
        CHECK(holds(block, size, size));
        free(block);
    }
    void *block = realloc(NULL, zero);
    CHECK(block != NULL);
    free(block);
}

static void realloc_zero(void) {
    // glibc's way: the block is freed and null says no error. Kept blocks would run into the limit.
    limit_address_space(2 * GIB);
    for (int i = 0; i < 20000; i++) {
        void *block = checked_malloc(i % 2 == 0 ? MIB : 200);
        errno = UNTOUCHED;
        CHECK(realloc(block, zero) == NULL);
        CHECK(errno == UNTOUCHED);
    }
    for (int i = 0; i < 20000; i++) {
        CHECK(reallocarray(checked_malloc(MIB), i % 2, zero) == NULL);
        CHECK(reallocarray(checked_malloc(MIB), zero, i % 2) == NULL);
    }
}

static void realloc_keeps_contents(void) {
    // Each size against its neighbours, with blocks between that catch a copy that runs over.
    for (size_t size = 1; size <= 64 * MIB; size = next_size(size)) {
        unsigned char *block = checked_malloc(size);
        unsigned char *guard = checked_malloc(64);
        fill(block, size, size);
        fill(guard, 64, 3);
        size_t larger = next_size(size);
        block = realloc(block, larger);
        CHECK(block != NULL && is_aligned(block, 16));
        CHECK(holds(block, size, size));
        fill(block, larger, larger);
        size_t smaller = size / 2 + 1;
        block = realloc(block, smaller);
        CHECK(block != NULL && is_aligned(block, 16));
        CHECK(holds(block, smaller, larger));
        CHECK(holds(guard, 64, 3));
        free(guard);
        free(block);
    }
    // One block all the way up and down.
    unsigned char *block = checked_malloc(1);
    size_t size = 1;
    fill(block, size, 9);
    while (size < 64 * MIB) {
        size_t larger = next_size(size);
        block = realloc(block, larger);
        CHECK(block != NULL && holds(block, size, 9));
        fill(block, larger, 9);
        size = larger;
    }
    while (size > 1) {
        size = size * 3 / 4;
        block = realloc(block, size);
        CHECK(block != NULL && holds(block, size, 9));
    }
    free(block);
}

static void realloc_of_aligned(void) {
    for (size_t alignment = 16; alignment <= 4 * MIB; alignment *= 4) {
        for (size_t size = 1; size <= 8 * MIB; size *= 7) {
            void *block = aligned_alloc(alignment, size);
            CHECK(block != NULL && is_aligned(block, alignment));
            fill(block, size, size);
            block = realloc(block, size * 2);
            CHECK(block != NULL && is_aligned(block, 16) && holds(block, size, size));
            block = realloc(block, size / 2 + 1);
            CHECK(block != NULL && is_aligned(block, 16) && holds(block, size / 2 + 1, size));
            free(block);
        }
    }
}

static void reallocarray_overflow(void) {
    size_t half = (size_t)1 << 32;
    char *block = reallocarray(NULL, 10, 10);
    CHECK(block != NULL);
    fill(block, 100, 5);
    REFUSES(ENOMEM, reallocarray(block, half + zero, half));
    REFUSES(ENOMEM, reallocarray(block, SIZE_MAX - zero, 2));
    REFUSES(ENOMEM, reallocarray(block, 3, SIZE_MAX / 3 + 2 + zero));
    REFUSES(ENOMEM, reallocarray(NULL, half + zero, half));
    CHECK(holds(block, 100, 5));
    block = reallocarray(block, 1000, 1000);
    CHECK(block != NULL && holds(block, 100, 5));
    free(block);
}

// ---------------------------------------------------------------------------------------------------------------------
// Alignment

static void *by_posix_memalign(size_t alignment, size_t size) {
    void *block = NULL;
    int error = posix_memalign(&block, alignment, size);
    CHECK(error == 0);
    return block;
}

static void every_alignment(void) {
    for (size_t alignment = 1; alignment <= 64 * MIB; alignment *= 2) {
        size_t sizes[] = {1, 24, alignment / 2 + 1, alignment, alignment + 1, 3 * alignment};
        enum { SIZES = sizeof sizes / sizeof *sizes };
        void *blocks[3 * SIZES];
        for (int i = 0; i < SIZES; i++) {
            blocks[3 * i] = memalign(alignment, sizes[i]);
            blocks[3 * i + 1] = aligned_alloc(alignment, sizes[i]);
            blocks[3 * i + 2] = by_posix_memalign(alignment < sizeof(void *) ? sizeof(void *) : alignment, sizes[i]);
            for (int j = 3 * i; j < 3 * i + 3; j++) {
                CHECK(blocks[j] != NULL);
                CHECK(is_aligned(blocks[j], alignment));
                CHECK(malloc_usable_size(blocks[j]) >= sizes[i]);
                // The large ones by their ends: every byte of them would be gigabytes.
                size_t part = sizes[i] < MIB ? sizes[i] : MIB;
                fill(blocks[j], part, (uint64_t)j);
                ((char *)blocks[j])[sizes[i] - 1] = 'e';
            }
        }
        for (int j = 0; j < 3 * SIZES; j++) {
            size_t size = sizes[j / 3];
            size_t part = size < MIB ? size : MIB;
            CHECK(((char *)blocks[j])[size - 1] == 'e');
            CHECK(holds(blocks[j], part - 1, (uint64_t)j) || part - 1 < sizeof(uint64_t));
            free(blocks[j]);
        }
    }
}

static void alignment_of_nothing(void) {
    for (size_t alignment = sizeof(void *); alignment <= MIB; alignment *= 2) {
        void *first = by_posix_memalign(alignment, zero);
        void *second = aligned_alloc(alignment, zero);
        void *third = memalign(alignment, zero);
        CHECK(first != NULL && second != NULL && third != NULL);
        CHECK(first != second && second != third && first != third);
        CHECK(is_aligned(first, alignment) && is_aligned(second, alignment) && is_aligned(third, alignment));
        free(first);
        free(second);
        free(third);
    }
}

static void posix_memalign_refuses(void) {
    size_t bad[] = {zero, 1, 2, 4, 3, 9, 12, 24, 48, 100, 4095, 4097, SIZE_MAX - zero};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *untouched = &untouched;
        CHECK(posix_memalign(&untouched, bad[i], 64) == EINVAL);
        CHECK(untouched == &untouched);
    }
    // The highest power of two is a right alignment that no memory has.
    void *untouched = &untouched;
    CHECK(posix_memalign(&untouched, SIZE_MAX / 2 + 1 + zero, 64) == ENOMEM);
    CHECK(untouched == &untouched);
}

static void aligned_alloc_refuses(void) {
    size_t bad[] = {zero, 3, 9, 12, 24, 48, 100, 4095, 4097, SIZE_MAX - zero};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        REFUSES(EINVAL, aligned_alloc(bad[i], 64));
    }
    REFUSES(ENOMEM, aligned_alloc(SIZE_MAX / 2 + 1 + zero, 64));
}

static void memalign_rounds_up(void) {
    for (size_t alignment = zero; alignment < 5000; alignment += 7) {
        void *block = memalign(alignment, 100);
        CHECK(block != NULL);
        size_t rounded = 1;
        while (rounded < alignment) {
            rounded *= 2;
        }
        CHECK(is_aligned(block, rounded) && is_aligned(block, 16));
        fill(block, 100, 1);
        free(block);
    }
    REFUSES(EINVAL, memalign(SIZE_MAX / 2 + 2 + zero, 1));
}

static void page_aligned(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t size = zero; size <= 8 * MIB; size = next_size(size)) {
        void *block = valloc(size);
        CHECK(block != NULL && is_aligned(block, page));
        fill(block, size, size);
        void *pages = pvalloc(size);
        CHECK(pages != NULL && is_aligned(pages, page));
        size_t whole = (size + page - 1) / page * page;
        CHECK(malloc_usable_size(pages) >= whole);
        fill(pages, whole, size + 1);
        CHECK(holds(block, size, size) && holds(pages, whole, size + 1));
        free(block);
        free(pages);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What lies round a block

static void usable_size(void) {
    CHECK(malloc_usable_size(NULL) == 0);
    enum { BLOCKS = 3 };
    for (size_t size = zero; size <= 64 * MIB; size = size < 4096 ? size + 1 : next_size(size)) {
        void *blocks[BLOCKS];
        size_t usable[BLOCKS];
        for (int i = 0; i < BLOCKS; i++) {
            blocks[i] = i == 1 ? calloc(1, size) : malloc(size);
            CHECK(blocks[i] != NULL);
            usable[i] = malloc_usable_size(blocks[i]);
            CHECK(usable[i] >= size);
            fill(blocks[i], usable[i], size + (size_t)i);
        }
        for (int i = 0; i < BLOCKS; i++) {
            CHECK(holds(blocks[i], usable[i], size + (size_t)i));
            CHECK(malloc_usable_size(blocks[i]) == usable[i]);
            // The whole of it counts as contents.
            blocks[i] = realloc(blocks[i], usable[i] + 100);
            CHECK(blocks[i] != NULL && holds(blocks[i], usable[i], size + (size_t)i));
            free(blocks[i]);
        }
    }
}

static void free_null(void) {
    errno = UNTOUCHED;
    for (int i = 0; i < 1000; i++) {
        free(NULL);
    }
    CHECK(errno == UNTOUCHED);
}

static void free_keeps_errno(void) {
    for (int round = 0; round < 20; round++) {
        for (size_t size = 1; size <= 64 * MIB; size = next_size(size)) {
            void *blocks[8];
            int count = size <= MIB ? 8 : 1;
            for (int i = 0; i < count; i++) {
                blocks[i] = checked_malloc(size);
                *(char *)blocks[i] = 1;
            }
            errno = UNTOUCHED;
            for (int i = 0; i < count; i++) {
                free(blocks[i]);
            }
            CHECK(errno == UNTOUCHED);
        }
    }
}

// As free_keeps_errno where giving memory back fails: the program has as many mappings as the kernel allows, so that a
// hole cannot be made.
static void free_keeps_errno_when_unmapping_fails(void) {
    enum { BLOCKS = 64 };
    void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = checked_malloc(3 * MIB);
        memset(blocks[i], 1, 3 * MIB);
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *last = NULL;
    FILE *limits = fopen("/proc/sys/vm/max_map_count", "r");
    long most_maps = 65530;
    CHECK(limits == NULL || fscanf(limits, "%ld", &most_maps) == 1);
    if (limits != NULL) {
        fclose(limits);
    }
    // Pages of two protections in turn cannot be one mapping. Where the limit is out of reach, this is the plain check.
    if (most_maps <= 1 << 20) {
        last = valloc((size_t)most_maps * 2 * page);
        CHECK(last != NULL);
        for (long i = 0; i < most_maps; i++) {
            if (mprotect(last + (size_t)i * 2 * page, page, PROT_READ) != 0) {
                break;
            }
        }
    }
    errno = UNTOUCHED;
    for (int i = 0; i < BLOCKS; i += 2) {
        free(blocks[i]);
    }
    for (int i = 1; i < BLOCKS; i += 2) {
        free(blocks[i]);
    }
    CHECK(errno == UNTOUCHED);
    // No tidying up: the block with the protected pages is not the allocator's any more.
}

// C23's frees with a size, where the library has them; glibc does since 2.43 only.
static void sized_frees(void) {
    void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    CHECK(free_sized != NULL && free_aligned_sized != NULL);
    limit_address_space(2 * GIB);
    errno = UNTOUCHED;
    for (int round = 0; round < 300; round++) {
        for (size_t size = 1; size <= 16 * MIB; size = next_size(size)) {
            free_sized(checked_malloc(size), size);
            free_aligned_sized(aligned_alloc(4096, size), 4096, size);
        }
    }
    free_sized(checked_malloc(zero), 0);
    free_sized(calloc(10, 10), 100);
    free_sized(NULL, 0);
    free_aligned_sized(NULL, 16, 0);
    CHECK(errno == UNTOUCHED);
}

// Every function of the family comes from one library: a block of one allocator must not reach another's free.
static void one_owner(void) {
    static const char *names[] = {
        "malloc", "calloc", "realloc", "reallocarray", "free", "free_sized", "free_aligned_sized", "cfree",
        "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc", "malloc_usable_size", "malloc_trim",
        "malloc_stats", "malloc_info", "mallopt", "mallinfo", "mallinfo2",
        "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_free", "__libc_memalign", "__libc_valloc",
        "__libc_pvalloc",
    };
    Dl_info owner;
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &owner) != 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Dl_info info = {0};
        void *function = dlsym(RTLD_DEFAULT, names[i]);
        if (function == NULL || dladdr(function, &info) == 0 || strcmp(info.dli_fname, owner.dli_fname) != 0) {
            dprintf(STDERR_FILENO, "%s comes from %s\n", names[i], info.dli_fname ? info.dli_fname : "nowhere");
            _exit(1);
        }
    }
}

// Blocks that the C library allocates and the program frees, and the other way round.
static void blocks_of_libc(void) {
    free(strdup("a copy"));
    free(strndup("a copy", 3));
    free(realpath("/", NULL));
    free(getcwd(NULL, 0));
    char *text = NULL;
    CHECK(asprintf(&text, "%0*d", 100000, 7) == 100000);
    free(text);
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    CHECK(stream != NULL);
    for (int i = 0; i < 100000; i++) {
        fprintf(stream, "%d ", i);
    }
    CHECK(fclose(stream) == 0 && strlen(text) == size);
    free(text);
    // getline grows a buffer of the program's.
    FILE *file = fopen(self, "r");
    CHECK(file != NULL);
    char *line = checked_malloc(1);
    size = 1;
    while (getline(&line, &size, file) >= 0) {
    }
    free(line);
    fclose(file);
    struct dirent **entries;
    int count = scandir("/", &entries, NULL, alphasort);
    CHECK(count > 0);
    while (count-- > 0) {
        free(entries[count]);
    }
    free(entries);
    CHECK(setenv("CAPI", "a value", 1) == 0 && unsetenv("CAPI") == 0);
}

static void out_of_memory(void) {
    limit_address_space(GIB);
    static void *blocks[1 << 20];
    size_t sizes[] = {100, 3000, 40 * KIB, 700 * KIB, 5 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t count = 0;
        // Small sizes end with the table, the others with memory.
        while (count < sizeof blocks / sizeof *blocks) {
            errno = UNTOUCHED;
            void *block = i % 2 == 0 ? malloc(sizes[i]) : calloc(1, sizes[i]);
            if (block == NULL) {
                CHECK(errno == ENOMEM);
                break;
            }
            *(size_t *)block = count;
            blocks[count++] = block;
        }
        CHECK(count * sizes[i] > 32 * MIB);
        if (count > 0 && count < sizeof blocks / sizeof *blocks) {
            REFUSES(ENOMEM, realloc(blocks[0], 900 * MIB));
        }
        for (size_t j = 0; j < count; j++) {
            CHECK(*(size_t *)blocks[j] == j);
            free(blocks[j]);
        }
    }
    // All of it came back: a third of the limit in one piece.
    free(checked_malloc(GIB / 3));
}

static void reports(void) {
    void *block = checked_malloc(10 * MIB);
    memset(block, 1, 10 * MIB);
    free(block);
    int trimmed = malloc_trim(0);
    CHECK(trimmed == 0 || trimmed == 1);
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    CHECK(mallopt(M_ARENA_MAX, 1) == 1);
    struct mallinfo2 info = mallinfo2();
    CHECK(info.uordblks <= GIB);
    malloc_stats();
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    CHECK(stream != NULL);
    CHECK(malloc_info(0, stream) == 0);
    CHECK(fclose(stream) == 0);
    CHECK(strncmp(text, "<malloc ", 8) == 0 && strstr(text, "</malloc>") != NULL);
    free(text);
    CHECK(malloc_info(1, stdout) == EINVAL);
}

// ---------------------------------------------------------------------------------------------------------------------
// Threads

static void start(pthread_t *thread, void *(*body)(void *), void *argument) {
    CHECK(pthread_create(thread, NULL, body, argument) == 0);
}

static void join(pthread_t thread) {
    CHECK(pthread_join(thread, NULL) == 0);
}

// Allocates and frees until told to stop, with contents checked.
static atomic_bool churning;

static void churn_once(uint32_t *state, void **blocks, uint32_t *sizes, size_t count) {
    size_t place = draw(state) % count;
    if (blocks[place] != NULL) {
        CHECK(holds(blocks[place], sizes[place], place));
        free(blocks[place]);
    }
    sizes[place] = draw(state) % (draw(state) % 64 == 0 ? 100000 : 2000);
    blocks[place] = checked_malloc(sizes[place]);
    fill(blocks[place], sizes[place], place);
}

static void *churn(void *seed) {
    uint32_t state = (uint32_t)(uintptr_t)seed;
    void *blocks[200] = {0};
    uint32_t sizes[200];
    while (atomic_load(&churning)) {
        churn_once(&state, blocks, sizes, 200);
    }
    for (int i = 0; i < 200; i++) {
        free(blocks[i]);
    }
    return NULL;
}

static void *churn_a_little(void *seed) {
    uint32_t state = (uint32_t)(uintptr_t)seed;
    void *blocks[50] = {0};
    uint32_t sizes[50];
    for (int i = 0; i < 500; i++) {
        churn_once(&state, blocks, sizes, 50);
    }
    for (int i = 0; i < 50; i++) {
        free(blocks[i]);
    }
    return NULL;
}

static void fork_in_threads(void) {
    pthread_t threads[4];
    atomic_store(&churning, true);
    for (uintptr_t i = 0; i < 4; i++) {
        start(&threads[i], churn, (void *)(i + 1));
    }
    void *inherited[100];
    for (size_t i = 0; i < 100; i++) {
        inherited[i] = checked_malloc(i * 50);
        fill(inherited[i], i * 50, i);
    }
    for (int round = 0; round < 150; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            // A lock that another thread held as it was forked would show as a hang.
            alarm(30);
            churn_a_little((void *)(uintptr_t)(round + 1));
            for (size_t i = 0; i < 100; i++) {
                CHECK(holds(inherited[i], i * 50, i));
                free(inherited[i]);
            }
            if (round % 10 == 0) {
                pthread_t thread;
                start(&thread, churn_a_little, (void *)7);
                join(thread);
                pid_t grandchild = fork();
                CHECK(grandchild >= 0);
                if (grandchild == 0) {
                    churn_a_little((void *)8);
                    _exit(0);
                }
                child_succeeds(grandchild);
            }
            // Both ways out: with the program's exit handlers and without.
            if (round % 2 == 0) {
                exit(0);
            }
            _exit(0);
        }
        child_succeeds(child);
    }
    atomic_store(&churning, false);
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
    }
}

// The child of a fork has the forking thread as its only one, whichever that was, and ends when that ends.
static void *fork_in_a_thread(void *argument) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child != 0) {
        child_succeeds(child);
        return NULL;
    }
    alarm(30);
    churn_a_little(argument);
    pthread_t thread;
    start(&thread, churn_a_little, argument);
    join(thread);
    free(malloc(64 * MIB));
    return NULL;
}

static void fork_from_thread(void) {
    churn_a_little((void *)3);
    for (uintptr_t round = 1; round <= 5; round++) {
        pthread_t thread;
        start(&thread, fork_in_a_thread, (void *)round);
        join(thread);
    }
}

// Keys made before and after the allocator's own, whose destructors free, allocate and set themselves again.
static pthread_key_t early_key, late_key;
static atomic_int destructors_run;

static void renewing_destructor(pthread_key_t key, void *value) {
    atomic_fetch_add(&destructors_run, 1);
    unsigned char *block = value;
    unsigned char rounds = block[0];
    CHECK(holds(block + 8, 992, 1));
    free(block);
    free(malloc(100));
    if (rounds > 0) {
        unsigned char *again = checked_malloc(1000);
        again[0] = (unsigned char)(rounds - 1);
        fill(again + 8, 992, 1);
        CHECK(pthread_setspecific(key, again) == 0);
    }
}

static void early_destructor(void *value) {
    renewing_destructor(early_key, value);
}

static void late_destructor(void *value) {
    renewing_destructor(late_key, value);
}

static void *set_keys(void *argument) {
    churn_a_little(argument);
    pthread_key_t keys[] = {early_key, late_key};
    for (int i = 0; i < 2; i++) {
        unsigned char *block = checked_malloc(1000);
        // As many rounds as POSIX promises in all: the last comes after every other destructor.
        block[0] = _POSIX_THREAD_DESTRUCTOR_ITERATIONS - 1;
        fill(block + 8, 992, 1);
        CHECK(pthread_setspecific(keys[i], block) == 0);
    }
    return NULL;
}

static void frees_in_destructors(void) {
    CHECK(pthread_key_create(&late_key, late_destructor) == 0);
    for (uintptr_t round = 0; round < 200; round++) {
        pthread_t threads[8];
        for (uintptr_t i = 0; i < 8; i++) {
            start(&threads[i], set_keys, (void *)(round * 8 + i + 1));
        }
        for (int i = 0; i < 8; i++) {
            join(threads[i]);
        }
    }
    CHECK(atomic_load(&destructors_run) == 200 * 8 * 2 * _POSIX_THREAD_DESTRUCTOR_ITERATIONS);
}

static void *exit_by_name(void *argument) {
    void *block = checked_malloc(3000);
    churn_a_little(argument);
    pthread_exit(block);
}

static void free_cleanup(void *block) {
    free(block);
    free(malloc(64));
}

static void *wait_for_cancel(void *argument) {
    void *block = checked_malloc(3000);
    pthread_cleanup_push(free_cleanup, block);
    churn_a_little(argument);
    for (;;) {
        pause();
    }
    pthread_cleanup_pop(0);
    return NULL;
}

static void thread_exits(void) {
    for (uintptr_t i = 1; i <= 500; i++) {
        pthread_t leaver, cancelled;
        start(&leaver, exit_by_name, (void *)i);
        start(&cancelled, wait_for_cancel, (void *)i);
        void *block;
        CHECK(pthread_join(leaver, &block) == 0 && block != NULL);
        free(block);
        CHECK(pthread_cancel(cancelled) == 0);
        CHECK(pthread_join(cancelled, &block) == 0 && block == PTHREAD_CANCELED);
    }
}

// Thousands of threads one after another leave nothing behind.
static void *take_and_leave(void *argument) {
    for (size_t size = 16; size <= 64 * KIB; size *= 2) {
        void *blocks[4];
        for (int i = 0; i < 4; i++) {
            blocks[i] = checked_malloc(size);
            fill(blocks[i], size, size);
        }
        for (int i = 0; i < 4; i++) {
            free(blocks[i]);
        }
    }
    return argument;
}

static void thread_churn(void) {
    for (int round = 0; round < 1500; round++) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            start(&threads[i], take_and_leave, NULL);
        }
        for (int i = 0; i < 4; i++) {
            join(threads[i]);
        }
    }
    CHECK(resident_peak() < 128 * MIB);
}

static void *small_stack_body(void *argument) {
    for (size_t size = 1; size <= 4 * MIB; size *= 3) {
        unsigned char *block = checked_malloc(size);
        block[size - 1] = 1;
        block = realloc(block, size * 2);
        CHECK(block != NULL);
        free(block);
        free(aligned_alloc(4096, size));
        free(calloc(1, size));
    }
    return argument;
}

// The least stack that a thread may have holds the C library's thread-local storage, ours, and our deepest path.
static void small_stacks(void) {
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN)) == 0);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, &attributes, small_stack_body, NULL) == 0);
        join(thread);
    }
    pthread_attr_destroy(&attributes);
}

// Threads hand aligned blocks to one another through a board of slots.
struct handed {
    uint32_t size;
    uint32_t alignment;
    uint64_t seed;
    unsigned char rest[];
};

static _Atomic(struct handed *) board[64];

static void take(struct handed *block) {
    CHECK(is_aligned(block, block->alignment));
    CHECK(holds(block->rest, block->size - sizeof *block, block->seed));
    free(block);
}

static void *hand_over(void *argument) {
    uint32_t state = (uint32_t)(uintptr_t)argument;
    for (int i = 0; i < 30000; i++) {
        uint32_t alignment = 1u << (4 + draw(&state) % (draw(&state) % 100 == 0 ? 14 : 6));
        uint32_t size = (uint32_t)sizeof(struct handed) + draw(&state) % (draw(&state) % 200 == 0 ? 300000 : 1500);
        struct handed *block = by_posix_memalign(alignment, size);
        CHECK(is_aligned(block, alignment));
        block->size = size;
        block->alignment = alignment;
        block->seed = draw(&state);
        fill(block->rest, size - sizeof *block, block->seed);
        struct handed *other = atomic_exchange(&board[draw(&state) % 64], block);
        if (other != NULL) {
            take(other);
        }
    }
    return NULL;
}

static void handing_over(void) {
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++) {
        start(&threads[i], hand_over, (void *)(i + 1));
    }
    for (int i = 0; i < 8; i++) {
        join(threads[i]);
    }
    for (int i = 0; i < 64; i++) {
        struct handed *block = atomic_load(&board[i]);
        if (block != NULL) {
            take(block);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Before main, after main, other programs and other libraries

static unsigned char *made_before_libraries, *made_before_main;
static bool key_made;

static void before_libraries(int argc, char **argv, char **environment) {
    (void)argc, (void)argv, (void)environment;
    // Before any library's constructor, the allocator's included.
    made_before_libraries = malloc(3 * MIB);
    if (made_before_libraries != NULL) {
        fill(made_before_libraries, 3 * MIB, 11);
    }
}

__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) = before_libraries;

__attribute__((constructor(101))) static void before_main(void) {
    made_before_main = calloc(1, 777);
    if (made_before_main != NULL) {
        fill(made_before_main, 777, 12);
    }
    key_made = pthread_key_create(&early_key, early_destructor) == 0;
}

static void before_main_works(void) {
    CHECK(made_before_libraries != NULL && holds(made_before_libraries, 3 * MIB, 11));
    CHECK(made_before_main != NULL && holds(made_before_main, 777, 12));
    CHECK(key_made);
    made_before_main = realloc(made_before_main, 100000);
    CHECK(made_before_main != NULL && holds(made_before_main, 777, 12));
    free(made_before_main);
    free(made_before_libraries);
}

// What main left, freed when it is gone; the last of the handlers says ok.
static const char *ok_after_main;
static void *left_by_main[100];

static void say_ok(const char *name) {
    dprintf(STDOUT_FILENO, "ok %s\n", name);
}

static void at_exit(void) {
    for (size_t i = 0; i < 50; i++) {
        CHECK(holds(left_by_main[i], i * 500, i));
        free(left_by_main[i]);
    }
    pthread_t thread;
    start(&thread, churn_a_little, (void *)5);
    join(thread);
}

__attribute__((destructor(101))) static void after_exit_handlers(void) {
    if (ok_after_main == NULL) {
        return;
    }
    for (size_t i = 50; i < 100; i++) {
        CHECK(holds(left_by_main[i], i * 500, i));
        free(left_by_main[i]);
    }
    churn_a_little((void *)6);
    say_ok(ok_after_main);
}

static void after_main(void) {
    for (size_t i = 0; i < 100; i++) {
        left_by_main[i] = checked_malloc(i * 500);
        fill(left_by_main[i], i * 500, i);
    }
    CHECK(atexit(at_exit) == 0);
    ok_after_main = "after_main";
}

static void *outlive_main(void *main_thread) {
    CHECK(pthread_join(*(pthread_t *)main_thread, NULL) == 0);
    churn_a_little((void *)9);
    for (size_t i = 0; i < 100; i++) {
        free(left_by_main[i]);
    }
    say_ok("main_thread_leaves");
    exit(0);
}

static void main_thread_leaves(void) {
    static pthread_t main_thread;
    main_thread = pthread_self();
    for (size_t i = 0; i < 100; i++) {
        left_by_main[i] = checked_malloc(i * 500);
    }
    pthread_t thread;
    start(&thread, outlive_main, &main_thread);
    pthread_exit(NULL);
}

static void *end_last(void *main_thread) {
    CHECK(pthread_join(*(pthread_t *)main_thread, NULL) == 0);
    // Enough to give back that an allocator may set about it.
    for (size_t size = 100; size <= 64 * MIB; size = next_size(size)) {
        void *block = checked_malloc(size);
        memset(block, 1, size);
        free(block);
    }
    churn_a_little((void *)10);
    return NULL;
}

// The process ends with its last thread: a thread of the allocator's own must not keep it.
static void last_thread_ends(void) {
    static pthread_t main_thread;
    main_thread = pthread_self();
    alarm(30);
    after_main();
    ok_after_main = "last_thread_ends";
    pthread_t thread;
    start(&thread, end_last, &main_thread);
    pthread_exit(NULL);
}

static void opened_library(void) {
    char path[4096];
    CHECK(snprintf(path, sizeof path, "%s.plugin.so", self) < (int)sizeof path);
    for (int round = 0; round < 50; round++) {
        void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        CHECK(plugin != NULL);
        char *(*make)(size_t) = (char *(*)(size_t))dlsym(plugin, "plugin_make");
        void (*take)(void *) = (void (*)(void *))dlsym(plugin, "plugin_take");
        CHECK(make != NULL && take != NULL);
        for (size_t size = 1; size <= 4 * MIB; size *= 5) {
            char *block = make(size);
            CHECK(block != NULL && block[0] == 'p' && block[size - 1] == 'p');
            free(block);
            take(checked_malloc(size));
        }
        CHECK(dlclose(plugin) == 0);
    }
    CHECK(dlopen("no such library", RTLD_NOW) == NULL && dlerror() != NULL);
}

static void vfork_and_exec(void) {
    void *block = checked_malloc(5000);
    fill(block, 5000, 3);
    char *arguments[] = {(char *)self, "free_null", NULL};
    for (int round = 0; round < 30; round++) {
        pid_t child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            close(STDOUT_FILENO);
            execve(self, arguments, environ);
            _exit(127);
        }
        child_succeeds(child);
        posix_spawn_file_actions_t actions;
        CHECK(posix_spawn_file_actions_init(&actions) == 0);
        CHECK(posix_spawn_file_actions_addclose(&actions, STDOUT_FILENO) == 0);
        CHECK(posix_spawn(&child, self, &actions, NULL, arguments, environ) == 0);
        posix_spawn_file_actions_destroy(&actions);
        child_succeeds(child);
        CHECK(holds(block, 5000, 3));
        churn_a_little((void *)(uintptr_t)(round + 1));
    }
    FILE *pipe = popen("echo from a shell", "r");
    CHECK(pipe != NULL);
    char line[100];
    CHECK(fgets(line, sizeof line, pipe) != NULL && strcmp(line, "from a shell\n") == 0);
    CHECK(pclose(pipe) == 0);
    free(block);
}

// ---------------------------------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    void (*run)(void);
} checks[] = {
#define NAMED(check) {#check, check}
    NAMED(absurd_sizes),
    NAMED(after_main),
    NAMED(aligned_alloc_refuses),
    NAMED(alignment_of_nothing),
    {"before_main", before_main_works},
    NAMED(blocks_of_libc),
    NAMED(calloc_overflow),
    NAMED(calloc_zeroes),
    NAMED(every_alignment),
    NAMED(fork_from_thread),
    NAMED(fork_in_threads),
    NAMED(free_keeps_errno),
    NAMED(free_keeps_errno_when_unmapping_fails),
    NAMED(free_null),
    NAMED(frees_in_destructors),
    NAMED(handing_over),
    NAMED(last_thread_ends),
    NAMED(main_thread_leaves),
    NAMED(malloc_alignment),
    NAMED(malloc_zero),
    NAMED(memalign_rounds_up),
    NAMED(one_owner),
    NAMED(opened_library),
    NAMED(out_of_memory),
    NAMED(page_aligned),
    NAMED(posix_memalign_refuses),
    NAMED(realloc_keeps_contents),
    NAMED(realloc_null),
    NAMED(realloc_of_aligned),
    NAMED(realloc_zero),
    NAMED(reallocarray_overflow),
    NAMED(reports),
    NAMED(sized_frees),
    NAMED(small_stacks),
    NAMED(thread_churn),
    NAMED(thread_exits),
    NAMED(usable_size),
    NAMED(vfork_and_exec),
};

int main(int argc, char **argv) {
    self = argv[0];
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        if (argc < 2) {
            puts(checks[i].name);
        } else if (strcmp(argv[1], checks[i].name) == 0) {
            Dl_info owner = {0};
            dladdr(dlsym(RTLD_DEFAULT, "malloc"), &owner);
            dprintf(STDOUT_FILENO, "malloc is of %s\n", owner.dli_fname);
            checks[i].run();
            if (ok_after_main == NULL) {
                say_ok(argv[1]);
            }
            return 0;
        }
    }
    return argc < 2 ? 0 : 2;
}
