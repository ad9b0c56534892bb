/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The x86-64 kernel's struct rt_sigframe. */
#include "leakwatch/arch/signal_frame.h"

#include <asm/sigcontext.h>
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* syscall; ret */
const uint8_t lw_call_and_return_code[LW_CALL_AND_RETURN_SIZE] = {0x0f, 0x05, 0xc3};
/* mov $15, %rax; syscall */
const uint8_t lw_sigreturn_code[LW_SIGRETURN_SIZE] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};

/* All state components, AMX's tiles included, with room to spare. */
#define XSTATE_MAX       (32 * 1024)
#define XSTATE_HEADER    512 /* offset: which components are in use */
#define XSTATE_MIN       (XSTATE_HEADER + 64)
#define XSTATE_ALIGNMENT 64
#define DYNAMIC          (3ull << 17) /* AMX: in frames of those programs alone that use it */

/* Of <asm/ucontext.h>, which does not go together with the C library's headers. */
#define UC_FP_XSTATE         1
#define UC_SIGCONTEXT_SS     2
#define UC_STRICT_RESTORE_SS 4

/* struct ucontext of the kernel: glibc's has a larger signal mask at the end. */
struct context {
    uint64_t flags, link;
    struct {
        uint64_t sp;
        int32_t flags, reserved;
        uint64_t size;
    } stack;
    struct sigcontext_64 registers;
    uint64_t mask;
};

struct head {
    uint64_t sigreturn; /* where a handler would return to */
    struct context context;
};

/* How far the components reach in the standard format. */
static size_t xstate_size(uint64_t components)
{
    size_t end = XSTATE_MIN;
    for (unsigned i = 2; i < 63; i++) {
        unsigned size, offset, ecx, edx;
        if ((components >> i & 1) && __get_cpuid_count(0xd, i, &size, &offset, &ecx, &edx) &&
            offset + size > end)
            end = offset + size;
    }
    return end;
}

/* The processor's state as a signal frame holds it; its size, or a negative errno. */
static ssize_t read_xstate(pid_t tid, uint8_t *state)
{
    struct iovec buffer = {.iov_base = state, .iov_len = XSTATE_MAX - XSTATE_ALIGNMENT};
    if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &buffer) != 0)
        return errno == ESRCH ? -ESRCH : -ENOTSUP;
    if (buffer.iov_len < XSTATE_MIN)
        return -ENOTSUP;
    struct _fpstate_64 *legacy = (struct _fpstate_64 *)state;
    uint64_t enabled, used;
    memcpy(&enabled, &legacy->sw_reserved, sizeof(enabled)); /* ptrace tells it there */
    memcpy(&used, state + XSTATE_HEADER, sizeof(used));
    enabled &= ~DYNAMIC | used;
    size_t size = xstate_size(enabled);
    if (size > buffer.iov_len)
        return -ENOTSUP;
    memset(&legacy->sw_reserved, 0, sizeof(legacy->sw_reserved));
    legacy->sw_reserved.magic1 = FP_XSTATE_MAGIC1;
    legacy->sw_reserved.extended_size = (uint32_t)size + FP_XSTATE_MAGIC2_SIZE;
    legacy->sw_reserved.xfeatures = enabled;
    legacy->sw_reserved.xstate_size = (uint32_t)size;
    const uint32_t magic = FP_XSTATE_MAGIC2;
    memcpy(state + size, &magic, sizeof(magic));
    return (ssize_t)(size + sizeof(magic));
}

static void fill_context(struct context *context, const struct user_regs_struct *r, uint64_t mask)
{
    context->flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    context->mask = mask;
    /* A stack of size 0 is none, and refused: the alternate stack stays what it is. */
    struct sigcontext_64 *to = &context->registers;
    to->r8 = r->r8;
    to->r9 = r->r9;
    to->r10 = r->r10;
    to->r11 = r->r11;
    to->r12 = r->r12;
    to->r13 = r->r13;
    to->r14 = r->r14;
    to->r15 = r->r15;
    to->di = r->rdi;
    to->si = r->rsi;
    to->bp = r->rbp;
    to->bx = r->rbx;
    to->dx = r->rdx;
    to->ax = r->rax;
    to->cx = r->rcx;
    to->sp = r->rsp;
    to->ip = r->rip;
    to->flags = r->eflags;
    to->cs = (uint16_t)r->cs;
    to->ss = (uint16_t)r->ss;
}

int lw_signal_frame_build(struct lw_signal_frame *frame, pid_t tid,
                          const struct lw_registers *registers, uint64_t mask, uint64_t top,
                          uint64_t sigreturn)
{
    *frame = (struct lw_signal_frame){0};
    uint8_t *state = malloc(XSTATE_MAX);
    ssize_t size = state ? read_xstate(tid, state) : -ENOMEM;
    if (size < 0) {
        free(state);
        return (int)size;
    }
    const uint64_t xstate = (top - (uint64_t)size) & ~(uint64_t)(XSTATE_ALIGNMENT - 1);
    /* Aligned as after a call. */
    frame->address = ((xstate - sizeof(struct head)) & ~15ull) - sizeof(uint64_t);
    frame->size = xstate + (uint64_t)size - frame->address;
    frame->bytes = calloc(1, frame->size);
    if (frame->bytes) {
        struct head *head = (struct head *)frame->bytes;
        head->sigreturn = sigreturn;
        fill_context(&head->context, &registers->native, mask);
        head->context.registers.fpstate = xstate;
        memcpy(frame->bytes + (xstate - frame->address), state, (size_t)size);
    }
    free(state);
    return frame->bytes ? 0 : -ENOMEM;
}

uint64_t lw_signal_frame_context(const struct lw_signal_frame *frame)
{
    return frame->address + offsetof(struct head, context);
}

void lw_signal_frame_deinit(struct lw_signal_frame *frame)
{
    free(frame->bytes);
    *frame = (struct lw_signal_frame){0};
}
