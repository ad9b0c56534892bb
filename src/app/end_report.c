/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a watch, in the words of reports. */
#include "end_report.h"

#include <string.h>

#include "leakwatch/target/process.h"

bool lw_end_report_make(pid_t pid, const struct lw_watch_result *result, struct lw_report_end *end)
{
    *end = (struct lw_report_end){.pid = pid, .exe = ""};
    switch (result->outcome.end) {
    case LW_ENGINE_EXITED:
        end->kind = LW_END_EXIT;
        end->status = result->outcome.status;
        return true;
    case LW_ENGINE_KILLED:
        end->kind = LW_END_SIGNAL;
        end->status = result->outcome.signal;
        return true;
    case LW_ENGINE_EXEC:
        end->kind = LW_END_EXEC;
        end->exe = result->exe ? result->exe : "";
        return true;
    case LW_ENGINE_RUNS:
    case LW_ENGINE_LAPSED:
        break;
    }
    return false;
}

struct lw_report_detach lw_detach_report_make(pid_t pid, const struct lw_watch_result *result)
{
    return (struct lw_report_detach){
        .pid = pid,
        .threads = result->detachment.threads,
        .probes_removed = result->detachment.probes_removed,
        .code_verified = result->code_verified,
        .verified_bytes = result->verified_bytes,
        .pause_ns = result->detachment.pause_ns,
        .target_state = lw_process_state_name(pid),
    };
}

bool lw_detach_report_is_good(const struct lw_report_detach *detach)
{
    return detach->code_verified || strcmp(detach->target_state, "gone") == 0 ||
           strcmp(detach->target_state, "exited") == 0;
}
