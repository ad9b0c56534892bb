/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens when the dynamic linker loads or closes libraries. */
#include "agent.h"

/* <linux/futex.h>, <asm/unistd_64.h>, <link.h> */
#define FUTEX_WAIT_OPERATION 0
#define FUTEX_WAKE_OPERATION 1
#define FUTEX_NUMBER         202
#define RT_CONSISTENT_STATE  0
#define RT_DELETE_STATE      2

/* leakwatch answers within milliseconds; where it does not, the program does not wait for it. */
#define WAIT_NS 10000000
#define WAITS   10

static void futex(uint32_t *word, int operation, uint32_t value, const uint64_t timeout[2])
{
    long result = FUTEX_NUMBER;
    register const uint64_t *fourth __asm__("r10") = timeout;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"(word), "S"(operation), "d"(value), "r"(fourth)
                     : "rcx", "r11", "memory");
}

/* Waits until leakwatch knows of the libraries that have come, so that the first stacks through
 * them are whole, and allocators among them are watched from their first call. */
static void await_leakwatch(uint32_t event)
{
    const uint64_t timeout[2] = {0, WAIT_NS};
    for (int i = 0; i < WAITS && control->mode != LW_AGENT_OFF; i++) {
        uint32_t seen = __atomic_load_n(&shared->modules_seen, __ATOMIC_ACQUIRE);
        if ((int32_t)(seen - event) >= 0)
            return;
        futex(&shared->modules_seen, FUTEX_WAIT_OPERATION, seen, timeout);
    }
}

/* The linker calls the function that this stands in for before and after libraries come or go. */
void modules_changed(void)
{
    int state =
        control->linker_state ? *(const volatile int *)control->linker_state : RT_CONSISTENT_STATE;
    if (state == RT_DELETE_STATE) {
        /* What is known of addresses ends here: before they can be used again. */
        add_shared(&shared->epoch, 1);
        add_shared(&shared->version, 1);
        for (uint32_t i = 0; i < LW_AGENT_ROW_CACHE; i++)
            __atomic_store_n(&shared->row_cache[i], 0, __ATOMIC_RELAXED);
    }
    uint32_t event = add_shared(&shared->module_events, 1) + 1;
    futex(&shared->module_events, FUTEX_WAKE_OPERATION, 1, NULL);
    if (state == RT_CONSISTENT_STATE)
        await_leakwatch(event);
}
