/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's code, which leakwatch carries and writes into the target. */
#ifndef LEAKWATCH_AGENT_BLOB_H
#define LEAKWATCH_AGENT_BLOB_H

#include <stdint.h>

/* Runs at any address; begins with a struct lw_agent_head. */
extern const uint8_t lw_agent_blob[];
extern const uint64_t lw_agent_blob_size; /* bytes */

#endif
