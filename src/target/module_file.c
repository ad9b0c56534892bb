/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds the file behind a mapping: map_files first, then the path inside the target's root. */
#include "module_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/file.h"
#include "leakwatch/target/process.h"

/*
 * What is at such a path is the target's choice, so it is opened only if it is a regular file with
 * the right inode. The device is not compared: on btrfs and overlayfs, maps and stat disagree on
 * it. A file that replaced the mapped one has another inode, because the mapping still holds the
 * old one.
 */
int lw_module_file_open(pid_t pid, const struct lw_mapping *mapping)
{
    lw_auto_free char *path = NULL;
    /* The kernel lets only CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE follow these. */
    if (asprintf(&path, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid, mapping->start,
                 mapping->end) < 0) {
        path = NULL; /* asprintf leaves it undefined */
        return -1;
    }
    int fd = lw_file_open_regular(path, 0);
    if (fd >= 0)
        return fd;

    free(path);
    path = NULL;
    if (asprintf(&path, "/proc/%d/root%s", (int)pid, mapping->path) < 0) {
        path = NULL;
        return -1;
    }
    fd = lw_file_open_regular(path, mapping->inode);
    if (fd >= 0)
        return fd;

    char exe[64];
    snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)pid);
    return lw_file_open_regular(exe, mapping->inode);
}

bool lw_module_file_is_executable(pid_t pid, const struct lw_mapping *mapping)
{
    char link[64];
    struct stat status;
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    if (stat(link, &status) != 0 || status.st_ino != mapping->inode)
        return false;
    if (status.st_dev == makedev(mapping->dev_major, mapping->dev_minor))
        return true;
    lw_auto_free char *path = lw_process_exe(pid);
    return path != NULL && strcmp(path, mapping->path) == 0;
}
