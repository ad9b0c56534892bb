/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Closes a library that brings its own allocator, and keeps data of its own where it was. */
#include "target.h"

#include <dlfcn.h>
#include <sys/mman.h>

/*
 * remapper LIBRARY
 *   remap    closes the library and fills the pages of its code's end; answers with their number
 *   check    answers with the bytes that have changed since
 */
#define PAGE 4096ul
#define SPAN (16 * PAGE)

static unsigned char *pages;

static int remap(void *library)
{
    /* From the page of its malloc on: its code, and the padding behind it. */
    uintptr_t start = (uintptr_t)dlsym(library, "malloc") & ~(PAGE - 1);
    dlclose(library);
    int count = 0;
    for (uintptr_t at = start; at < start + SPAN; at += PAGE) {
        void *page = mmap((void *)at, PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (page != (void *)at)
            break;
        memset(page, 'A', PAGE);
        count++;
    }
    pages = (unsigned char *)start;
    return count;
}

int main(int argc, char **argv)
{
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!library)
        return 1;
    int count = 0;
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "remap", 0, &number)) {
            count = remap(library);
            say("{\"pages\":%d}", count);
        } else if (is_command(line, "check", 0, &number)) {
            unsigned long changed = 0;
            for (size_t i = 0; i < count * PAGE; i++)
                changed += pages[i] != 'A';
            say("{\"changed\":%lu}", changed);
        }
    }
    return 0;
}
