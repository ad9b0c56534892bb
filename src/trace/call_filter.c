/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a thread's seccomp filters, and running them over calls that have yet to be made. */
#include "leakwatch/trace/call_filter.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "leakwatch/arch/registers.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/privilege.h"

/* ---- What is asked ---- */

#define CALL(name, ...)                                                                            \
    {                                                                                              \
        .number = SYS_##name, __VA_ARGS__                                                          \
    }
#define FIRST(value)  .known = 1u << 0, .arguments = {[0] = (value)}
#define SECOND(value) .known = 1u << 1, .arguments = {[1] = (value)}
#define THIRD(value)  .known = 1u << 2, .arguments = {[2] = (value)}
#define MAP(protection, flags)                                                                     \
    CALL(mmap, .known = 3u << 2, .arguments = {[2] = (protection), (flags)})
#define NEW_MEMORY (MAP_PRIVATE | MAP_ANONYMOUS)

const struct lw_call_shape lw_asked_calls[] = {
    /* to come to a stop, and back (remote_requests.c, remote_call.c) */
    CALL(getpid),
    CALL(gettid),
    CALL(tkill, SECOND(SIGURG)),
    CALL(tkill, SECOND(SIGWINCH)),
    CALL(tkill, SECOND(SIGCHLD)),
    CALL(ppoll),
    CALL(rt_sigreturn),
    CALL(restart_syscall), /* the kernel's own, after an interruption */
    MAP(PROT_READ | PROT_WRITE, NEW_MEMORY),
    CALL(munmap),
    /* the SIGTRAP handler (trap_handler.c) */
    CALL(rt_sigaction, FIRST(SIGTRAP)),
    /* the recorder's memory (probe/record_map.c) */
    CALL(memfd_create, SECOND(MFD_CLOEXEC | MFD_ALLOW_SEALING)),
    CALL(close),
    MAP(PROT_NONE, MAP_PRIVATE | MAP_NORESERVE),
    MAP(PROT_NONE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED_NOREPLACE),
    MAP(PROT_READ | PROT_EXEC, NEW_MEMORY | MAP_FIXED),
    MAP(PROT_READ | PROT_WRITE, NEW_MEMORY | MAP_FIXED),
    MAP(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED),
    CALL(madvise, THIRD(MADV_WIPEONFORK)),
    CALL(madvise, THIRD(MADV_DONTFORK)),
    CALL(madvise, THIRD(MADV_NOHUGEPAGE)),
    CALL(madvise, THIRD(MADV_DONTDUMP)),
    /* the recorder itself (agent/modules.c) */
    CALL(futex, SECOND(FUTEX_WAIT)),
    CALL(futex, SECOND(FUTEX_WAKE)),
};
const size_t lw_asked_call_count = sizeof(lw_asked_calls) / sizeof(lw_asked_calls[0]);

static bool matches(const struct lw_call_shape *shape, long number, const uint64_t arguments[6])
{
    for (unsigned i = 0; i < 6; i++)
        if ((shape->known >> i & 1) && shape->arguments[i] != arguments[i])
            return false;
    return shape->number == number;
}

bool lw_call_is_asked(long number, const uint64_t arguments[6])
{
    for (size_t i = 0; i < lw_asked_call_count; i++)
        if (matches(&lw_asked_calls[i], number, arguments))
            return true;
    return false;
}

/* ---- A filter's program ---- */

struct machine {
    uint32_t accumulator, index;
    uint32_t memory[BPF_MEMWORDS];
};

/* A word of struct seccomp_data; false where it is not known. */
static bool load(const struct lw_call_shape *call, uint32_t offset, uint32_t *word)
{
    const uint32_t first = offsetof(struct seccomp_data, args);
    if (offset == offsetof(struct seccomp_data, nr)) {
        *word = (uint32_t)call->number;
        return true;
    }
    if (offset == offsetof(struct seccomp_data, arch)) {
        *word = lw_syscall_arch;
        return true;
    }
    if (offset < first || offset >= sizeof(struct seccomp_data) || offset % sizeof(*word) != 0)
        return false; /* the instruction pointer */
    const uint32_t number = (offset - first) / sizeof(uint64_t);
    const bool high =
        ((offset - first) % sizeof(uint64_t) != 0) == (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
    *word = (uint32_t)(high ? call->arguments[number] >> 32 : call->arguments[number]);
    return call->known >> number & 1;
}

static uint32_t operand_of(const struct machine *machine, const struct sock_filter *at)
{
    return BPF_SRC(at->code) == BPF_X ? machine->index : at->k;
}

/* false: the kernel would not have let that pass, or not define it. */
static bool compute(struct machine *machine, const struct sock_filter *at)
{
    const uint32_t a = machine->accumulator, operand = operand_of(machine, at);
    uint32_t *result = &machine->accumulator;
    switch (BPF_OP(at->code)) {
    case BPF_ADD:
        *result = a + operand;
        return true;
    case BPF_SUB:
        *result = a - operand;
        return true;
    case BPF_MUL:
        *result = a * operand;
        return true;
    case BPF_DIV:
        *result = operand ? a / operand : 0;
        return operand != 0;
    case BPF_AND:
        *result = a & operand;
        return true;
    case BPF_OR:
        *result = a | operand;
        return true;
    case BPF_XOR:
        *result = a ^ operand;
        return true;
    case BPF_LSH:
        *result = operand < 32 ? a << operand : 0;
        return operand < 32;
    case BPF_RSH:
        *result = operand < 32 ? a >> operand : 0;
        return operand < 32;
    case BPF_NEG:
        *result = -a;
        return true;
    default:
        return false;
    }
}

/* What moves a word from one place to another; false: it is not known, or there is no such
 * instruction. */
static bool move(struct machine *machine, const struct sock_filter *at,
                 const struct lw_call_shape *call)
{
    uint32_t *a = &machine->accumulator, *x = &machine->index;
    uint32_t *word = at->k < BPF_MEMWORDS ? &machine->memory[at->k] : NULL;
    switch (at->code) {
    case BPF_LD | BPF_W | BPF_ABS:
        return load(call, at->k, a);
    case BPF_LD | BPF_W | BPF_LEN:
        *a = sizeof(struct seccomp_data);
        return true;
    case BPF_LDX | BPF_W | BPF_LEN:
        *x = sizeof(struct seccomp_data);
        return true;
    case BPF_LD | BPF_IMM:
        *a = at->k;
        return true;
    case BPF_LDX | BPF_IMM:
        *x = at->k;
        return true;
    case BPF_MISC | BPF_TAX:
        *x = *a;
        return true;
    case BPF_MISC | BPF_TXA:
        *a = *x;
        return true;
    case BPF_LD | BPF_MEM:
        *a = word ? *word : 0;
        return word != NULL;
    case BPF_LDX | BPF_MEM:
        *x = word ? *word : 0;
        return word != NULL;
    case BPF_ST:
    case BPF_STX:
        if (word)
            *word = at->code == BPF_ST ? *a : *x;
        return word != NULL;
    default:
        return false;
    }
}

/* How many instructions a jump leaves out. */
static uint32_t distance(const struct machine *machine, const struct sock_filter *at)
{
    const uint32_t operand = operand_of(machine, at);
    switch (BPF_OP(at->code)) {
    case BPF_JEQ:
        return machine->accumulator == operand ? at->jt : at->jf;
    case BPF_JGT:
        return machine->accumulator > operand ? at->jt : at->jf;
    case BPF_JGE:
        return machine->accumulator >= operand ? at->jt : at->jf;
    case BPF_JSET:
        return machine->accumulator & operand ? at->jt : at->jf;
    default: /* BPF_JA */
        return at->k;
    }
}

bool lw_call_filter_allows(const struct sock_filter *program, size_t length,
                           const struct lw_call_shape *call)
{
    struct machine machine = {0};
    /* jumps lead forward only */
    for (size_t i = 0; i < length; i++) {
        const struct sock_filter *at = &program[i];
        switch (BPF_CLASS(at->code)) {
        case BPF_RET:
            return ((BPF_RVAL(at->code) == BPF_A ? machine.accumulator : at->k) &
                    SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW;
        case BPF_JMP:
            i += distance(&machine, at);
            break;
        case BPF_ALU:
            if (!compute(&machine, at))
                return false;
            break;
        default:
            if (!move(&machine, at, call))
                return false;
        }
    }
    return false;
}

/* ---- A thread's filters ---- */

bool lw_call_filter_is_visible(void)
{
    return (lw_privilege_effective() & LW_PRIVILEGE(CAP_SYS_ADMIN)) &&
           prctl(PR_GET_SECCOMP) == SECCOMP_MODE_DISABLED;
}

/* The kernel counts a thread's filters anew for each that it shows, and lets it have thousands, if
 * they are short: the thread would stand for seconds. */
#define MOST_FILTERS 256

/* The length of the one with this index, the latest being 0; or a negative errno. */
static long read_filter(pid_t tid, unsigned index, struct sock_filter *program)
{
    long length = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)(uintptr_t)index, program);
    return length >= 0 ? length : -errno;
}

/* As lw_call_filter_check, of these calls. */
static int check_calls(pid_t tid, const struct lw_call_shape *calls, size_t count, long *refused)
{
    lw_auto_free struct sock_filter *program = calloc(BPF_MAXINSNS, sizeof(*program));
    if (!program)
        return -ENOMEM;
    for (unsigned index = 0; index < MOST_FILTERS; index++) {
        long length = read_filter(tid, index, NULL);
        if (length == -ENOENT && index > 0)
            return 0;
        if (length > BPF_MAXINSNS)
            return -E2BIG;
        if (length >= 0)
            length = read_filter(tid, index, program);
        if (length < 0)
            return (int)length;
        for (size_t i = 0; i < count; i++) {
            if (lw_call_filter_allows(program, (size_t)length, &calls[i]))
                continue;
            if (refused)
                *refused = calls[i].number;
            return -EPERM;
        }
    }
    return -E2BIG;
}

int lw_call_filter_check(pid_t tid, long *refused)
{
    return check_calls(tid, lw_asked_calls, lw_asked_call_count, refused);
}

bool lw_call_filter_lets_restart(pid_t tid)
{
    static const struct lw_call_shape restart = CALL(restart_syscall);
    return check_calls(tid, &restart, 1, NULL) == 0;
}
