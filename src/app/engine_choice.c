/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which engines --engine means, in the order in which they are tried. */
#include "engine_choice.h"

#include <stddef.h>

static lw_engine_create *const any[] = {lw_record_engine_create, lw_trap_engine_create, NULL};
static lw_engine_create *const record[] = {lw_record_engine_create, NULL};
static lw_engine_create *const trap[] = {lw_trap_engine_create, NULL};

lw_engine_create *const *lw_engine_choice_list(enum lw_engine_choice choice)
{
    switch (choice) {
    case LW_ENGINE_RECORD:
        return record;
    case LW_ENGINE_TRAP:
        return trap;
    case LW_ENGINE_AUTO:
    default:
        return any;
    }
}

lw_error *lw_engine_choice_clear(pid_t pid)
{
    return lw_engine_clear_leftovers(pid);
}
