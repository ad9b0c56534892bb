/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x86-64 registers through ptrace, and the System V calling convention. */
#include "leakwatch/arch/registers.h"

#include <errno.h>
#include <linux/audit.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "leakwatch/arch/remote_program.h"

#define ERESTART_RESTARTBLOCK 516 /* <linux/errno.h> of the kernel's own */

const uint8_t lw_syscall_instruction[LW_SYSCALL_SIZE] = {0x0f, 0x05};
const uint32_t lw_syscall_arch = AUDIT_ARCH_X86_64;

int lw_registers_read(pid_t tid, struct lw_registers *registers)
{
    return ptrace(PTRACE_GETREGS, tid, NULL, &registers->native) == 0 ? 0 : -errno;
}

int lw_registers_write(pid_t tid, const struct lw_registers *registers)
{
    return ptrace(PTRACE_SETREGS, tid, NULL, &registers->native) == 0 ? 0 : -errno;
}

int lw_registers_write_pc(pid_t tid, uint64_t pc)
{
    void *where = (void *)offsetof(struct user, regs.rip);
    return ptrace(PTRACE_POKEUSER, tid, where, pc) == 0 ? 0 : -errno;
}

uint64_t lw_registers_pc(const struct lw_registers *registers)
{
    return registers->native.rip;
}

void lw_registers_set_pc(struct lw_registers *registers, uint64_t pc)
{
    registers->native.rip = pc;
}

uint64_t lw_registers_sp(const struct lw_registers *registers)
{
    return registers->native.rsp;
}

void lw_registers_set_sp(struct lw_registers *registers, uint64_t sp)
{
    registers->native.rsp = sp;
}

uint64_t lw_registers_thread_pointer(const struct lw_registers *registers)
{
    return registers->native.fs_base;
}

uint64_t lw_registers_frame_pointer(const struct lw_registers *registers)
{
    return registers->native.rbp;
}

void lw_registers_of_sleeper(struct lw_registers *registers, uint64_t pc, uint64_t sp)
{
    /* A frame pointer of 0 would mark the outermost frame. */
    *registers = (struct lw_registers){.native = {.rip = pc, .rsp = sp, .rbp = 1}};
}

bool lw_registers_equal(const struct lw_registers *a, const struct lw_registers *b)
{
    const struct user_regs_struct *p = &a->native, *q = &b->native;
    return p->rip == q->rip && p->rsp == q->rsp && p->rbp == q->rbp && p->rax == q->rax &&
           p->rbx == q->rbx && p->rcx == q->rcx && p->rdx == q->rdx && p->rsi == q->rsi &&
           p->rdi == q->rdi && p->r8 == q->r8 && p->r9 == q->r9 && p->r10 == q->r10 &&
           p->r11 == q->r11 && p->r12 == q->r12 && p->r13 == q->r13 && p->r14 == q->r14 &&
           p->r15 == q->r15;
}

uint64_t lw_registers_return_slot(const struct lw_registers *registers)
{
    return registers->native.rsp;
}

uint64_t lw_registers_returned_slot(const struct lw_registers *registers)
{
    return registers->native.rsp - sizeof(uint64_t);
}

uint64_t lw_registers_argument(const struct lw_registers *registers, unsigned n)
{
    const struct user_regs_struct *r = &registers->native;
    const uint64_t arguments[] = {r->rdi, r->rsi, r->rdx, r->rcx, r->r8, r->r9};
    return n < 6 ? arguments[n] : 0;
}

uint64_t lw_registers_result(const struct lw_registers *registers)
{
    return registers->native.rax;
}

/* Numbering of the System V psABI for AMD64, figure 3.36 (DWARF register number mapping). */
bool lw_registers_dwarf(const struct lw_registers *registers, unsigned number, uint64_t *value)
{
    const struct user_regs_struct *r = &registers->native;
    const uint64_t values[] = {r->rax, r->rdx, r->rcx, r->rbx, r->rsi, r->rdi,
                               r->rbp, r->rsp, r->r8,  r->r9,  r->r10, r->r11,
                               r->r12, r->r13, r->r14, r->r15, r->rip};
    if (number >= sizeof(values) / sizeof(values[0]))
        return false;
    *value = values[number];
    return true;
}

bool lw_registers_restart_interrupted(struct lw_registers *registers)
{
    struct user_regs_struct *r = &registers->native;
    /* orig_rax is the system call's number on its way out, and -1 in every other stop. The kernel
     * restarts the -ERESTART codes itself; a plain -EINTR comes from the calls that it lets fail.
     */
    if ((int64_t)r->orig_rax < 0 || (int64_t)r->rax != -EINTR)
        return false;
    r->rax = r->orig_rax;
    r->rip -= LW_SYSCALL_SIZE;
    return true;
}

bool lw_registers_restart_in_full(struct lw_registers *registers)
{
    struct user_regs_struct *r = &registers->native;
    /* One that has been restarted like this before knows nothing but the time that is left. */
    if ((int64_t)r->orig_rax < 0 || (int64_t)r->rax != -ERESTART_RESTARTBLOCK ||
        r->orig_rax == SYS_restart_syscall)
        return false;
    r->rax = r->orig_rax;
    r->rip -= LW_SYSCALL_SIZE;
    return true;
}

void lw_registers_repeat_call(struct lw_registers *registers, bool by_tracer)
{
    struct user_regs_struct *r = &registers->native;
    if ((int64_t)r->orig_rax < 0)
        return;
    if (lw_registers_call_broken_off(registers) || (by_tracer && (int64_t)r->rax == -EINTR)) {
        r->rax = r->orig_rax;
        r->rip -= LW_SYSCALL_SIZE;
    }
}

void lw_registers_break_off_call(struct lw_registers *registers, bool restart)
{
    struct user_regs_struct *r = &registers->native;
    const int64_t error = -(int64_t)r->rax;
    if ((int64_t)r->orig_rax < 0 || !lw_registers_call_broken_off(registers))
        return;
    if (error == 513 || (error == 512 && restart)) { /* ERESTARTNOINTR, ERESTARTSYS */
        r->rax = r->orig_rax;
        r->rip -= LW_SYSCALL_SIZE;
    } else {
        r->rax = (uint64_t)-EINTR;
    }
}

#define TRAP_FLAG      0x100ull
#define DIRECTION_FLAG 0x400ull

void lw_registers_enter_handler(struct lw_registers *registers, uint64_t handler,
                                const uint64_t arguments[3], uint64_t sp)
{
    struct user_regs_struct *r = &registers->native;
    r->rdi = arguments[0];
    r->rsi = arguments[1];
    r->rdx = arguments[2];
    r->rax = 0;
    r->rsp = sp;
    r->rip = handler;
    r->orig_rax = UINT64_MAX;
    r->eflags &= ~(TRAP_FLAG | DIRECTION_FLAG);
}

void lw_registers_set_call(struct lw_registers *registers, long number, const uint64_t arguments[6],
                           uint64_t instruction)
{
    struct user_regs_struct *r = &registers->native;
    r->rax = (uint64_t)number;
    r->rdi = arguments[0];
    r->rsi = arguments[1];
    r->rdx = arguments[2];
    r->r10 = arguments[3];
    r->r8 = arguments[4];
    r->r9 = arguments[5];
    r->rip = instruction;
    r->orig_rax = UINT64_MAX; /* in no system call: there is nothing to restart */
    r->eflags &= ~TRAP_FLAG;  /* of a program that steps itself */
}

void lw_registers_set_program(struct lw_registers *registers, uint64_t program, uint64_t requests)
{
    struct user_regs_struct *r = &registers->native;
    r->rbx = requests;
    r->rbp = r->rsp;
    r->rsp = requests & ~15ull;
    r->rip = program;
    r->orig_rax = UINT64_MAX;
    r->eflags &= ~TRAP_FLAG;
}

uint64_t lw_registers_program_request(const struct lw_registers *registers)
{
    return registers->native.rbx;
}

int64_t lw_registers_call_result(const struct lw_registers *registers)
{
    return (int64_t)registers->native.rax;
}

bool lw_registers_call_broken_off(const struct lw_registers *registers)
{
    /* The kernel's own error numbers: ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND,
     * ERESTART_RESTARTBLOCK. */
    int64_t error = -(int64_t)registers->native.rax;
    return error == 512 || error == 513 || error == 514 || error == ERESTART_RESTARTBLOCK;
}
