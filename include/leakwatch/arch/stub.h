/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The few instructions that lead from a patched entry to whoever stands in for the function. */
#ifndef LEAKWATCH_ARCH_STUB_H
#define LEAKWATCH_ARCH_STUB_H

#include <stdint.h>

#define LW_STUB_SIZE 13 /* bytes */

/*
 * The stub, for the address `from`: puts the address `datum` into the register that the calling
 * convention leaves to linkage code (r11), changes nothing else, and jumps to `to`: directly where
 * that is in reach, else through the pointer to it that is stored at `pointer`. 0, or -ERANGE when
 * `datum` or `pointer` is more than 2 GiB away.
 */
int lw_stub_encode(uint64_t from, uint64_t datum, uint64_t to, uint64_t pointer,
                   uint8_t stub[LW_STUB_SIZE]);

#endif
