// Preloaded beside the allocator under test: every program that starts with it adds the line
// «executable <tab> library that `malloc` is bound to» to the file that ARENITE_WITNESS names.
//
// That a library is mapped proves little: a program that exports a malloc of its own never calls it. This asks the
// dynamic linker what a call of malloc in this process reaches.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void testify(void) {
    const char *log = getenv("ARENITE_WITNESS");
    if (log == NULL) {
        return;
    }
    char executable[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", executable, sizeof executable - 1);
    executable[length < 0 ? 0 : length] = '\0';

    Dl_info library = {0};
    const ElfW(Sym) *symbol = NULL;
    dladdr1(dlsym(RTLD_DEFAULT, "malloc"), &library, (void **)&symbol, RTLD_DL_SYMENT);
    // An executable with a fixed address has a stub of its own for a function whose address it takes, which then is the
    // function's address for all. Calls go on to the first definition after it; this library stands foremost there.
    if (symbol != NULL && symbol->st_shndx == SHN_UNDEF) {
        dladdr(dlsym(RTLD_NEXT, "malloc"), &library);
    }

    char line[2 * PATH_MAX + 2];
    int written = snprintf(line, sizeof line, "%s\t%s\n", executable, library.dli_fname ? library.dli_fname : "");
    int file = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    // One write of one line: appends of processes that start together do not mix.
    if (file < 0 || write(file, line, (size_t)written) != written) {
        abort();
    }
    close(file);
}
