/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens and closes shared objects that leak, one of which brings an allocator of its own. */
#include "target.h"

#include <dlfcn.h>

/*
 * dlopener PLUGIN OWN_ALLOCATOR
 *   cycle N   N times: open PLUGIN, leak 100 bytes in it, close it; answers with the leaks
 *   own N     opens OWN_ALLOCATOR once and for all, and leaks N blocks of 100 bytes through each of
 *             its functions; answers with the leaks
 *   count     answers with how often it was asked
 */
typedef int leak_function(int count, char *text, size_t size);

static void *open_or_die(const char *path, const char *name, leak_function **function)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    *function = handle ? (leak_function *)dlsym(handle, name) : NULL;
    if (*function == NULL) {
        say("{\"error\":\"%s\"}", dlerror());
        _exit(97);
    }
    return handle;
}

static void cycle(const char *path, long count)
{
    for (long i = 0; i < count; i++) {
        leak_function *leak;
        void *handle = open_or_die(path, "plugin_leak", &leak);
        leak(1, NULL, 0);
        dlclose(handle);
    }
    say("{\"leaks\":{\"leak_plugin\":{\"bytes\":%ld,\"blocks\":%ld}}}", count * 100, count);
}

static void use_own_allocator(const char *path, int count)
{
    static leak_function *leak;
    if (leak == NULL)
        open_or_die(path, "own_leak", &leak);
    char text[2048];
    if (leak(count, text, sizeof text) != 0)
        _exit(98);
    say("{\"leaks\":{%s}}", text);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    say("{\"ready\":%d}", getpid());
    char line[128];
    unsigned long questions = 0;
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "cycle", 10, &number))
            cycle(argv[1], number);
        else if (is_command(line, "own", 10, &number))
            use_own_allocator(argv[2], (int)number);
        else if (is_command(line, "count", 0, &number))
            say("{\"progress\":%lu}", ++questions);
    }
    return 0;
}
