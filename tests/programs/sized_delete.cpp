// C++'s sized `operator delete`: `sized_delete KIND` deletes with a size that is right, or with one that is not. It prints
// «held» at the end of what is right, «missed» where it was let go on. With REPLACED the program has operators of its own, but
// for the sized ones.

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#ifdef REPLACED
static const std::size_t HEADER = 32;

void *operator new(std::size_t size) {
    char *block = static_cast<char *>(std::malloc(size + HEADER));
    if (!block)
        throw std::bad_alloc();
    return block + HEADER;
}

void operator delete(void *block) noexcept {
    if (block)
        std::free(static_cast<char *>(block) - HEADER);
}
#endif

// Deleted through its base, which has no virtual destructor, it is freed with the base's size.
struct Base {
    long words[2];
};

struct Derived : Base {
    long more[50];
};

// Its destructor does something, so that an array of them is deleted with its size.
struct Element {
    long word;
    ~Element() { std::memset(&word, 1, sizeof word); }
};

static void right() {
    for (int round = 0; round < 1000; round++) {
        delete new Derived;
        delete[] new Element[1 + round];
        delete static_cast<Derived *>(nullptr);
        operator delete(operator new(round), static_cast<std::size_t>(round));
        operator delete[](operator new[](round), static_cast<std::size_t>(round));
    }
}

int main(int, char **arguments) {
    const char *kind = arguments[1];
    if (!std::strcmp(kind, "right")) {
        right();
        std::puts("held");
        return 0;
    }
    if (!std::strcmp(kind, "through_a_base")) {
        Base *block = new Derived;
        delete block;
    } else if (!std::strcmp(kind, "another_size")) {
        operator delete(operator new(100), static_cast<std::size_t>(101));
    } else if (!std::strcmp(kind, "another_size_of_an_array")) {
        operator delete[](operator new[](100), static_cast<std::size_t>(101));
    } else {
        return 2;
    }
    // Whatever was freed is used again without harm.
    right();
    std::puts("missed");
    return 0;
}
