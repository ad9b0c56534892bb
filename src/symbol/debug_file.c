/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds separate debug information without following the module's file anywhere else. */
#include "debug_file.h"

#include <dlfcn.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/file.h"

#define DEBUG_DIRECTORY "/usr/lib/debug"

static char found_mark; /* what a module's userdata points to when the latest search found a file */

static bool goes_up(const char *path)
{
    return strstr(path, "/../") != NULL;
}

static bool has_build_id(int fd, const void *id, size_t size)
{
    const void *other;
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    bool equal = elf != NULL && dwelf_elf_gnu_build_id(elf, &other) == (ssize_t)size &&
                 memcmp(other, id, size) == 0;
    elf_end(elf);
    return equal;
}

/* Opens directory/between/link if it belongs to the module. */
static int try_link(Dwfl_Module *module, const char *root, const char *file, const char *between,
                    const char *link, char **debug_file)
{
    const unsigned char *id;
    GElf_Addr address;
    lw_auto_free char *path = NULL;
    const int size = dwfl_module_build_id(module, &id, &address);
    const int directory = (int)(strrchr(file, '/') - file);
    if (size <= 0 || asprintf(&path, "%s%.*s%s/%s", root, directory, file, between, link) < 0) {
        path = NULL;
        return -1;
    }
    lw_auto_close int fd = lw_file_open_regular(path, 0);
    if (fd < 0 || !has_build_id(fd, id, (size_t)size))
        return -1;
    *debug_file = lw_take_pointer(path);
    int found = fd;
    fd = -1;
    return found;
}

static int find_link(Dwfl_Module *module, const char *file, const char *link, char **debug_file)
{
    if (!link || !file || file[0] != '/' || goes_up(file))
        return -1;
    if (strncmp(link, DEBUG_DIRECTORY "/", strlen(DEBUG_DIRECTORY "/")) == 0 && !goes_up(link)) {
        int fd = lw_file_open_regular(link, 0);
        *debug_file = fd >= 0 ? strdup(link) : NULL;
        return fd;
    }
    if (strchr(link, '/'))
        return -1;
    int fd = try_link(module, "", file, "", link, debug_file);
    if (fd < 0)
        fd = try_link(module, "", file, "/.debug", link, debug_file);
    if (fd < 0)
        fd = try_link(module, DEBUG_DIRECTORY, file, "", link, debug_file);
    return fd;
}

/* A client costs something even where there is nobody to ask. */
static bool asks_debuginfod(void)
{
    const char *urls = secure_getenv("DEBUGINFOD_URLS");

    return urls && urls[0] != '\0';
}

static int is_broken_off(debuginfod_client *client, long done, long total)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGALRM};
    sigset_t pending;

    (void)client;
    (void)done;
    (void)total;
    if (sigpending(&pending) != 0)
        return 0;
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
        if (sigismember(&pending, ending[i]) == 1)
            return 1;
    return 0;
}

void lw_debug_file_obey_signals(Dwfl *dwfl)
{
    typedef int progress(debuginfod_client * client, long done, long total);
    void (*set_progress)(debuginfod_client * client, progress * function);
    debuginfod_client *client = asks_debuginfod() ? dwfl_get_debuginfod_client(dwfl) : NULL;
    /* libdw has loaded it, where it is installed; it is not linked to it either */
    void *library = client ? dlopen("libdebuginfod.so.1", RTLD_LAZY | RTLD_NOLOAD) : NULL;

    if (!library)
        return;
    *(void **)&set_progress = dlsym(library, "debuginfod_set_progressfn");
    if (set_progress)
        set_progress(client, is_broken_off);
    dlclose(library); /* libdw keeps it */
}

int lw_debug_file_find(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base,
                       const char *file, const char *link, GElf_Word crc, char **debug_file)
{
    int fd =
        dwfl_build_id_find_debuginfo(module, userdata, name, base, file, link, crc, debug_file);
    if (fd < 0)
        fd = find_link(module, file, link, debug_file);
    /* Told no path, elfutils' own has none to follow, and goes on to debuginfod, which the one by
     * build-id alone does not ask. */
    if (fd < 0 && asks_debuginfod())
        fd = dwfl_standard_find_debuginfo(module, userdata, name, base, NULL, NULL, 0, debug_file);
    *userdata = fd >= 0 ? &found_mark : NULL;
    errno = 0; /* nothing is no error */
    return fd;
}

bool lw_debug_file_open(Dwfl_Module *module)
{
    Dwarf_Addr bias;
    const char *name;
    const void *id;
    void **userdata;
    Dwarf *dwarf = dwfl_module_getdwarf(module, &bias);
    if (!dwarf || dwelf_dwarf_gnu_debugaltlink(dwarf, &name, &id) <= 0)
        return true;
    /* The search for the supplementary file is the last one. */
    return dwfl_module_info(module, &userdata, NULL, NULL, NULL, NULL, NULL, NULL) &&
           *userdata == &found_mark;
}
