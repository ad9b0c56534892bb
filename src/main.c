/* SPDX-License-Identifier: GPL-2.0-or-later */
/* leakwatch: watches the allocator of a running process and prints what outlives a threshold. */
#include <string.h>

#include "leakwatch/app/diff_command.h"
#include "leakwatch/app/options.h"
#include "leakwatch/app/session.h"
#include "leakwatch/base/log.h"

static enum lw_log_level log_level(const struct lw_options *options)
{
    if (options->quiet)
        return LW_LOG_ERROR;
    if (options->verbosity == 0)
        return LW_LOG_WARNING;
    return options->verbosity == 1 ? LW_LOG_INFO : LW_LOG_DEBUG;
}

int main(int argc, char **argv)
{
    struct lw_options options;

    /* as the first word alone: `leakwatch -- diff` starts a command of that name */
    if (argc > 1 && strcmp(argv[1], "diff") == 0)
        return lw_diff_command_run(argc - 1, argv + 1);
    lw_options_parse(&options, argc, argv);
    lw_log_set_level(log_level(&options));
    lw_log_find_journal();
    int code = lw_session_run(&options);
    lw_options_deinit(&options);
    return code;
}
