/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which engines --engine means, in the order in which they are tried. */
#ifndef LEAKWATCH_APP_ENGINE_CHOICE_H
#define LEAKWATCH_APP_ENGINE_CHOICE_H

#include "leakwatch/app/options.h"
#include "leakwatch/probe/engine.h"

/* At least one, then NULL; lives as long as the program. */
lw_engine_create *const *lw_engine_choice_list(enum lw_engine_choice choice);

/* What any of them has left in a process, taken out (lw_engine_clear_leftovers). */
lw_error *lw_engine_choice_clear(pid_t pid);

#endif
