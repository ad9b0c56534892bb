/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the patched entries lead: from the target's registers to C, and to what throws. */
#include "calls.h"

/*
 * A patched entry leads here with the site in r11 and everything else as the caller left it. Each
 * wrapper's C function gets the arguments, and after them the caller's stack pointer, frame pointer
 * and the site. What the function itself might have clobbered by the calling convention, the
 * wrapper may.
 */
#define ENTER(function, sp, fp, site)                                                              \
    __asm__(".section .text.hot,\"ax\"\n"                                                          \
            ".balign 16\n"                                                                         \
            "enter_" #function ":\n"                                                               \
            "    cmpl $0, agent_control(%rip)\n" /* LW_AGENT_OFF */                                \
            "    je 1f\n"                                                                          \
            "    mov %rsp, %" sp "\n"                                                              \
            "    mov %rbp, %" fp "\n"                                                              \
            "    mov %r11, %" site "\n"                                                            \
            "    jmp " #function "\n"                                                              \
            "1:  jmp *(%r11)\n"                                                                    \
            ".text\n")
#define ENTER_BOTH(name, sp, fp, site)                                                             \
    ENTER(name##_recorded, sp, fp, site);                                                          \
    ENTER(name##_sampled, sp, fp, site)

ENTER(malloc_recorded, "rsi", "rdx", "rcx");
ENTER_BOTH(calloc, "rdx", "rcx", "r8");
ENTER_BOTH(aligned, "rdx", "rcx", "r8");
ENTER_BOTH(sized, "rcx", "r8", "r9");
ENTER_BOTH(store, "rcx", "r8", "r9");
ENTER_BOTH(realloc, "rdx", "rcx", "r8");
ENTER_BOTH(reallocarray, "rcx", "r8", "r9");
ENTER(free_recorded, "rcx", "r9", "r8");

/*
 * malloc and free that are not sampled are the most frequent calls of all, and do no more than
 * this: find the thread, count the bytes, go on; or look into the filter, go on. Neither asks
 * whether the agent is on: where it is off, nothing is found, or the countdown ends, and then it is
 * asked.
 */
#define COUNTDOWN_OFFSET     0x50
#define RECENT_THREAD_OFFSET 0x200
#define FILTER_OFFSET        0x400
_Static_assert(offsetof(struct lw_agent_thread, countdown) == COUNTDOWN_OFFSET, "see below");
_Static_assert(offsetof(struct lw_agent_private, recent_pointer) == 0, "see below");
_Static_assert(offsetof(struct lw_agent_private, recent_thread) == RECENT_THREAD_OFFSET, "below");
_Static_assert(offsetof(struct lw_agent_private, filter) == FILTER_OFFSET, "see below");
_Static_assert(LW_AGENT_RECENT == 1 << 6 && LW_AGENT_FILTER == 1 << 16, "see below");

#define STRING(x)        #x
#define SET(name, value) ".set " #name ", " STRING(value) "\n"

__asm__(SET(small_hash, AGENT_SMALL_HASH)        /* */
        SET(countdown, COUNTDOWN_OFFSET)         /* */
        SET(recent_thread, RECENT_THREAD_OFFSET) /* */
        SET(filter, FILTER_OFFSET)               /* */
        ".section .text.hot,\"ax\"\n"
        ".balign 64\n"
        "enter_malloc_sampled:\n"
        "    mov %fs:0, %rax\n"
        "    imul $small_hash, %eax, %ecx\n"
        "    lea agent_private(%rip), %rdx\n"
        "    shr $26, %ecx\n"
        "    cmp %rax, (%rdx,%rcx,8)\n"
        "    jne 1f\n"
        "    mov recent_thread(%rdx,%rcx,8), %rcx\n"
        "    sub %rdi, countdown(%rcx)\n"
        "    js 2f\n"
        "    jmp *(%r11)\n"
        "1:  mov %rsp, %rsi\n"
        "    mov %rbp, %rdx\n"
        "    mov %r11, %rcx\n"
        "    jmp malloc_unknown\n"
        "2:  mov %rsp, %rsi\n"
        "    mov %rbp, %rdx\n"
        "    mov %r11, %rcx\n"
        "    jmp malloc_at_sample\n"
        ".balign 64\n"
        "enter_free_sampled:\n"
        "    imul $small_hash, %edi, %eax\n"
        "    lea filter+agent_private(%rip), %r10\n"
        "    shr $16, %eax\n"
        "    cmpb $0, (%r10,%rax)\n"
        "    jne 1f\n"
        "    jmp *(%r11)\n"
        "1:  mov %rsp, %rcx\n"
        "    mov %r11, %r8\n"
        "    jmp free_maybe_sampled\n"
        ".text\n");

/*
 * An operator new that throws must find no frame of the agent's on the stack, for which there is no
 * unwind information. So its sibling that returns NULL instead is called, and when that fails, the
 * operator itself is jumped to, to throw.
 */
#define ENTER_NEW(function)                                                                        \
    __asm__(".section .text.hot,\"ax\"\n"                                                          \
            ".balign 16\n"                                                                         \
            "enter_" #function ":\n"                                                               \
            "    cmpl $0, agent_control(%rip)\n"                                                   \
            "    je 1f\n"                                                                          \
            "    mov %rsp, %rdx\n"                                                                 \
            "    mov %rbp, %rcx\n"                                                                 \
            "    push %rdi\n"                                                                      \
            "    push %rsi\n"                                                                      \
            "    push %r11\n"                                                                      \
            "    mov %r11, %r8\n"                                                                  \
            "    call " #function "\n"                                                             \
            "    pop %r11\n"                                                                       \
            "    pop %rsi\n"                                                                       \
            "    pop %rdi\n"                                                                       \
            "    test %rax, %rax\n"                                                                \
            "    jz 1f\n"                                                                          \
            "    ret\n"                                                                            \
            "1:  jmp *(%r11)\n"                                                                    \
            ".text\n")

ENTER_NEW(new_recorded);
ENTER_NEW(new_sampled);

/* struct lw_agent_head, in the order of enum lw_agent_wrapper */
#define OFFSET(name) "    .long enter_" #name " - agent_head\n"
#define OFFSETS(mode)                                                                              \
    OFFSET(malloc_##mode)                                                                          \
    OFFSET(calloc_##mode)                                                                          \
    OFFSET(aligned_##mode)                                                                         \
    OFFSET(sized_##mode)                                                                           \
    OFFSET(new_##mode)                                                                             \
    OFFSET(store_##mode)                                                                           \
    OFFSET(realloc_##mode)                                                                         \
    OFFSET(reallocarray_##mode)                                                                    \
    OFFSET(free_##mode)                                                                            \
    OFFSET(modules_changed)
__asm__(".section .text.head,\"ax\"\n"
        ".globl agent_head\nagent_head:\n" OFFSETS(recorded) OFFSETS(sampled) ".text\n");

__asm__(".section .text.hot,\"ax\"\n"
        ".balign 16\n"
        "enter_modules_changed:\n"
        "    cmpl $0, agent_control(%rip)\n"
        "    je 1f\n"
        "    push %r11\n"
        "    call modules_changed\n"
        "    pop %r11\n"
        "1:  jmp *(%r11)\n"
        ".text\n");
