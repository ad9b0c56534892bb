/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Installing the SIGTRAP handler and taking it back. */
#include "leakwatch/trace/trap_handler.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define SIGNAL_SET_SIZE 8 /* the kernel's */

size_t lw_trap_handler_size(size_t pairs)
{
    return LW_TRAP_HANDLER_DATA + sizeof(struct lw_trap_handler_data) +
           (pairs + 1) * sizeof(struct lw_trap_handler_pair);
}

int lw_trap_handler_write(struct lw_memory *memory, uint64_t place,
                          const struct lw_trap_handler_pair *pairs, size_t count)
{
    const size_t size = lw_trap_handler_size(count);
    uint8_t *image = calloc(1, size);
    if (!image)
        return -ENOMEM;
    memcpy(image, lw_trap_handler_code, sizeof(lw_trap_handler_code));
    struct lw_trap_handler_data *data =
        (struct lw_trap_handler_data *)(image + LW_TRAP_HANDLER_DATA);
    if (count > 0) /* memcpy must not be given NULL, be it for no byte */
        memcpy(data->pairs, pairs, count * sizeof(*pairs));
    int error = lw_memory_write(memory, place, image, size);
    free(image);
    return error;
}

/* rt_sigaction of the target's: sets `new` (NULL: nothing), and tells what was there before. */
static int exchange(struct lw_remote_call *call, struct lw_memory *memory,
                    const struct lw_signal_action *new, struct lw_signal_action *old)
{
    struct lw_signal_action both[2] = {{0}};
    uint64_t address;
    int64_t result;
    if (new)
        both[0] = *new;
    int error = lw_remote_call_store(call, memory, both, sizeof(both), &address);
    if (error)
        return error;
    const uint64_t arguments[6] = {SIGTRAP, new ? address : 0, address + sizeof(both[0]),
                                   SIGNAL_SET_SIZE};
    error = lw_remote_call_make(call, SYS_rt_sigaction, arguments, &result);
    if (!error && result != 0)
        error = (int)result;
    if (!error)
        error = lw_memory_read_all(memory, address + sizeof(both[0]), old, sizeof(*old));
    return error;
}

int lw_trap_handler_read_action(struct lw_remote_call *call, struct lw_memory *memory,
                                struct lw_signal_action *current)
{
    return exchange(call, memory, NULL, current);
}

int lw_trap_handler_install(struct lw_remote_call *call, struct lw_memory *memory, uint64_t place,
                            const struct lw_signal_action *previous)
{
    struct lw_signal_action replaced;
    /* Known to the handler before it is there. */
    int error = lw_memory_write(memory, place + LW_TRAP_HANDLER_DATA, previous, sizeof(*previous));
    const struct lw_signal_action action = lw_trap_handler_action(place, previous);
    if (!error)
        error = exchange(call, memory, &action, &replaced);
    if (!error && memcmp(&replaced, previous, sizeof(replaced)) != 0) /* changed in between */
        error = lw_memory_write(memory, place + LW_TRAP_HANDLER_DATA, &replaced, sizeof(replaced));
    return error;
}

int lw_trap_handler_remove(struct lw_remote_call *call, struct lw_memory *memory, uint64_t place)
{
    struct lw_signal_action previous, current;
    int error = exchange(call, memory, NULL, &current);
    /* 0 is SIG_DFL: the kernel has taken the handler away, for a thread that blocks the signal. */
    if (error || (current.handler != place && current.handler != 0))
        return error;
    error = lw_memory_read_all(memory, place + LW_TRAP_HANDLER_DATA, &previous, sizeof(previous));
    if (error == -EFAULT && current.handler == 0) /* nothing was ever written there */
        return 0;
    /* It had stayed from an earlier leakwatch when it was installed: that it replaced itself must
     * not keep it for ever. What the program had before is not known any more. */
    if (!error && previous.handler == place)
        previous = (struct lw_signal_action){0};
    return error ? error : exchange(call, memory, &previous, &current);
}
