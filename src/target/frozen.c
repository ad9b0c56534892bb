/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a control group keeps a process from running. */
#include <stdio.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"
#include "leakwatch/target/process.h"

/* A hierarchy of control groups, as a line of /proc/self/mountinfo has it (proc(5)). */
struct hierarchy {
    char *root;  /* the group that is mounted */
    char *point; /* where */
    bool unified;
};

static void deinit_hierarchy(struct hierarchy *hierarchy)
{
    free(hierarchy->root);
    free(hierarchy->point);
}

/* Of the kinds that can freeze. */
static bool parse_hierarchy(struct hierarchy *hierarchy, const char *line)
{
    const char *rest = strstr(line, " - ");
    if (!rest || sscanf(line, "%*d %*d %*s %ms %ms", &hierarchy->root, &hierarchy->point) != 2)
        return false;
    hierarchy->unified = strncmp(rest, " - cgroup2 ", strlen(" - cgroup2 ")) == 0;
    return hierarchy->unified || (strncmp(rest, " - cgroup ", strlen(" - cgroup ")) == 0 &&
                                  strstr(rest, "freezer") != NULL);
}

/* Is this line of /proc/PID/cgroup ("NUMBER:CONTROLLERS:PATH") of that hierarchy? Its path, or
 * NULL. */
static const char *path_in(const struct hierarchy *hierarchy, const char *line)
{
    const char *controllers = strchr(line, ':');
    const char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return NULL;
    const bool unified = path == controllers + 1;
    const char *freezer = strstr(controllers, "freezer");
    if (unified != hierarchy->unified || (!unified && (!freezer || freezer > path)))
        return NULL;
    const size_t root = strcmp(hierarchy->root, "/") == 0 ? 0 : strlen(hierarchy->root);
    return strncmp(path + 1, hierarchy->root, root) == 0 ? path + 1 + root : path + 1;
}

/* The group's file that tells it: "frozen 1", "FROZEN" or "FREEZING". */
static bool group_is_frozen(const struct hierarchy *hierarchy, const char *path)
{
    char name[4096];
    int length = snprintf(name, sizeof(name), "%s%s/%s", hierarchy->point, path,
                          hierarchy->unified ? "cgroup.events" : "freezer.state");
    if (length < 0 || (size_t)length >= sizeof(name))
        return false;
    lw_auto_free char *text = lw_text_read_file(name, NULL);
    return text && (strstr(text, "frozen 1") || strncmp(text, "FR", 2) == 0);
}

static bool is_frozen_in(const struct hierarchy *hierarchy, char *groups)
{
    bool frozen = false;
    for (char *line = groups, *next; line && *line && !frozen; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next = '\0';
        const char *path = path_in(hierarchy, line);
        frozen = path && group_is_frozen(hierarchy, path);
        if (next)
            *next++ = '\n';
    }
    return frozen;
}

bool lw_process_is_frozen(pid_t pid)
{
    char name[64];
    snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)pid);
    lw_auto_free char *groups = lw_text_read_file(name, NULL);
    lw_auto_free char *mounts = lw_text_read_file("/proc/self/mountinfo", NULL);
    char *rest = mounts;
    bool frozen = false;
    for (const char *line; groups && rest && !frozen && (line = strsep(&rest, "\n"));) {
        struct hierarchy hierarchy = {0};
        frozen = parse_hierarchy(&hierarchy, line) && is_frozen_in(&hierarchy, groups);
        deinit_hierarchy(&hierarchy);
    }
    return frozen;
}
