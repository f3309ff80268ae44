// Misuse of C's allocation functions, one kind a call: `misuse KIND SIZE` does to a block of SIZE bytes what no correct
// program does. It prints «missed» when it was let go on, «held» where all that is asked is what a block looks like.
// `misuse` alone prints the kinds.

#define _GNU_SOURCE
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

// Through a pointer that the compiler does not know: it must neither leave the call out nor put other code in its place.
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void (*volatile release)(void *) = free;
static void *(*volatile take)(size_t) = malloc;
static void *(*volatile retake)(void *, size_t) = realloc;
// C23's, which Debian 12's headers do not know.
extern void free_sized(void *, size_t) __attribute__((weak));

static size_t size;
static char source[3 * MIB];
static char in_data[64];

static void held(bool holds) {
    if (holds) {
        puts("held");
        exit(0);
    }
}

static void pairs(int count) {
    for (int i = 0; i < count; i++)
        release(take(size));
}

// Frees.

static void double_free(void) {
    char *block = take(size);
    release(block);
    release(block);
}

static void double_free_later(void) {
    char *block = take(size);
    release(block);
    pairs(1000);
    release(block);
}

static void double_free_of_two(void) {
    char *first = take(size), *second = take(size);
    release(first);
    release(second);
    release(first);
}

static void double_free_and_go_on(void) {
    char *block = take(size);
    release(block);
    release(block);
    pairs(200000);
}

static void double_free_with_a_new_block(void) {
    char *block = take(size);
    release(block);
    char *other = take(size);
    release(block);
    release(other);
}

static void free_of_one(void) {
    release((void *)1);
}

static void free_of_stack(void) {
    char block[64];
    release(block + 16);
}

static void free_of_static(void) {
    release(in_data);
}

static void free_of_page_further(void) {
    release((char *)take(size) + 4096);
}

static void free_of_gigabyte_further(void) {
    release((char *)take(size) + GIB);
}

static void free_of_odd_address(void) {
    release((char *)take(size) + 1);
}

static void free_of_inner_address(void) {
    release((char *)take(size) + 8);
}

static void free_of_unmapped(void) {
    char *range = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(range, MIB);
    release(range);
}

static void free_of_mapped(void) {
    release(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static void free_of_wild(void) {
    release((void *)0xdeadbeefdeadbeef);
}

static void free_after_trim(void) {
    char *block = take(size);
    release(block);
    malloc_trim(0);
    release(block);
}

static void free_of_state(void) {
    // Where the heap's own state begins, as far as a program can guess.
    release((char *)((uintptr_t)take(size) & ~(uintptr_t)(32 * MIB - 1)) + 64);
}

static void free_with_another_size(void) {
    free_sized(take(size), size + 1);
}

// Writes. A store is seen when the block is freed at the latest; a copy must be seen at once.

static void store(ptrdiff_t at) {
    char *block = take(size);
    block[at] ^= 'A';
    release(block);
}

static void store_behind_1(void) { store(size); }
static void store_behind_32(void) { store(size + 31); }
static void store_behind_1m(void) { store(size + MIB - 1); }
static void store_before_1(void) { store(-1); }
static void store_before_32(void) { store(-32); }
static void store_before_1m(void) { store(-(ptrdiff_t)MIB); }
static void copy_behind_1(void) { copy(take(size), source, size + 1); }
static void copy_behind_32(void) { copy(take(size), source, size + 32); }
static void copy_behind_1m(void) { copy(take(size), source, size + MIB); }
static void copy_before_1(void) { copy((char *)take(size) - 1, source, size); }
static void copy_before_32(void) { copy((char *)take(size) - 32, source, size); }
static void copy_before_1m(void) { copy((char *)take(size) - MIB, source, size); }

static void write_after_free(void) {
    char *block = take(size);
    release(block);
    memset(block, 'A', size);
}

static void write_after_free_and_go_on(void) {
    write_after_free();
    pairs(200000);
}

static void write_to_no_bytes(void) {
    *(volatile char *)take(0) = 'A';
}

static void write_to_no_bytes_and_free(void) {
    volatile char *block = take(0);
    *block = 'A';
    release((void *)block);
}

static void read_from_no_bytes(void) {
    putchar(*(volatile char *)take(0));
}

static void double_free_of_no_bytes(void) {
    char *block = take(0);
    release(block);
    release(block);
}

// What a block looks like.

static void reuse(void) {
    char *block = take(size);
    uintptr_t address = (uintptr_t)block;
    release(block);
    held((uintptr_t)take(size) != address);
}

static void reuse_by_half_the_size(void) {
    char *block = take(size);
    uintptr_t address = (uintptr_t)block;
    release(block);
    held((uintptr_t)take(size / 2) != address);
}

static void reuse_by_growth(void) {
    char *block = take(size);
    uintptr_t address = (uintptr_t)block;
    held((uintptr_t)retake(block, size * 4) != address && (uintptr_t)take(size) != address);
}

static void zero_after_free(void) {
    char *block = take(size);
    memset(block, 'A', size);
    release(block);
    size_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += ((volatile unsigned char *)block)[i];
    held(sum == 0);
}

static void zero_when_new(void) {
    size_t sum = 0;
    for (int round = 0; round < 200; round++) {
        char *block = take(size);
        for (size_t i = 0; i < size; i++)
            sum += (unsigned char)block[i];
        memset(block, 'A', size);
        release(block);
    }
    held(sum == 0);
}

// No misuse: others' memory lies in the same 32 MiB as a huge block, behind it.
static void copy_beside_a_huge_block(void) {
    static char *blocks[64];
    for (int i = 0; i < 64; i++) {
        blocks[i] = take(9 * MIB + size);
        char *start = (char *)((uintptr_t)blocks[i] & ~(uintptr_t)(32 * MIB - 1));
        char *beside = mmap(start + 20 * MIB, MIB, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (beside == start + 20 * MIB)
            copy(beside + 64, source, 1000);
    }
    held(true);
}

#define KIND(name) {#name, name}

static const struct {
    const char *name;
    void (*run)(void);
} kinds[] = {
    KIND(double_free),
    KIND(double_free_later),
    KIND(double_free_of_two),
    KIND(double_free_and_go_on),
    KIND(double_free_with_a_new_block),
    KIND(free_of_one),
    KIND(free_of_stack),
    KIND(free_of_static),
    KIND(free_of_page_further),
    KIND(free_of_gigabyte_further),
    KIND(free_of_odd_address),
    KIND(free_of_inner_address),
    KIND(free_of_unmapped),
    KIND(free_of_mapped),
    KIND(free_of_wild),
    KIND(free_after_trim),
    KIND(free_of_state),
    KIND(free_with_another_size),
    KIND(store_behind_1),
    KIND(store_behind_32),
    KIND(store_behind_1m),
    KIND(store_before_1),
    KIND(store_before_32),
    KIND(store_before_1m),
    KIND(copy_behind_1),
    KIND(copy_behind_32),
    KIND(copy_behind_1m),
    KIND(copy_before_1),
    KIND(copy_before_32),
    KIND(copy_before_1m),
    KIND(write_after_free),
    KIND(write_after_free_and_go_on),
    KIND(write_to_no_bytes),
    KIND(write_to_no_bytes_and_free),
    KIND(read_from_no_bytes),
    KIND(double_free_of_no_bytes),
    KIND(reuse),
    KIND(reuse_by_half_the_size),
    KIND(reuse_by_growth),
    KIND(zero_after_free),
    KIND(zero_when_new),
    KIND(copy_beside_a_huge_block),
};

int main(int argc, char **argv) {
    size_t count = sizeof kinds / sizeof *kinds;
    if (argc != 3) {
        for (size_t i = 0; i < count; i++)
            puts(kinds[i].name);
        return 0;
    }
    size = strtoull(argv[2], NULL, 10);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(kinds[i].name, argv[1]) == 0) {
            kinds[i].run();
            puts("missed");
            return 0;
        }
    }
    fprintf(stderr, "%s: no such kind\n", argv[1]);
    return 2;
}
