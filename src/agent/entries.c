/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the patched entries lead: from the target's registers to C, and to what throws. */
#include "calls.h"

/*
 * A patched entry leads here with the site in r11 and everything else as the caller left it. Each
 * wrapper's C function gets the arguments, and after them the caller's stack pointer, frame pointer
 * and the site. What the function itself might have clobbered by the calling convention, the
 * wrapper may.
 */
#define ENTER(name, recorded, sampled, sp, fp, site)                                               \
    __asm__(".section .text.hot,\"ax\"\n"                                                          \
            ".balign 16\n"                                                                         \
            ".globl " #name "\n" #name ":\n"                                                       \
            "    cmpl $1, agent_control(%rip)\n" /* LW_AGENT_EXACT */                              \
            "    jne 1f\n"                                                                         \
            "    mov %rsp, %" sp "\n"                                                              \
            "    mov %rbp, %" fp "\n"                                                              \
            "    mov %r11, %" site "\n"                                                            \
            "    jmp " #recorded "\n"                                                              \
            "1:  jb 2f\n"                                                                          \
            "    mov %rsp, %" sp "\n"                                                              \
            "    mov %rbp, %" fp "\n"                                                              \
            "    mov %r11, %" site "\n"                                                            \
            "    jmp " #sampled "\n"                                                               \
            "2:  jmp *(%r11)\n"                                                                    \
            ".text\n")

ENTER(agent_malloc, malloc_recorded, malloc_sampled, "rsi", "rdx", "rcx");
ENTER(agent_calloc, calloc_recorded, calloc_sampled, "rdx", "rcx", "r8");
ENTER(agent_aligned, aligned_recorded, aligned_sampled, "rdx", "rcx", "r8");
ENTER(agent_sized, sized_recorded, sized_sampled, "rcx", "r8", "r9");
ENTER(agent_store, store_recorded, store_sampled, "rcx", "r8", "r9");
ENTER(agent_realloc, realloc_recorded, realloc_sampled, "rdx", "rcx", "r8");
ENTER(agent_reallocarray, reallocarray_recorded, reallocarray_sampled, "rcx", "r8", "r9");
ENTER(agent_free, free_recorded, free_sampled, "rcx", "r9", "r8");

/*
 * An operator new that throws must find no frame of the agent's on the stack, for which there is no
 * unwind information. So its sibling that returns NULL instead is called, and when that fails, the
 * operator itself is jumped to, to throw.
 */
__asm__(".section .text.hot,\"ax\"\n"
        ".balign 16\n"
        ".globl agent_new\nagent_new:\n"
        "    cmpl $0, agent_control(%rip)\n"
        "    je 1f\n"
        "    mov %rsp, %rdx\n"
        "    mov %rbp, %rcx\n"
        "    push %rdi\n"
        "    push %rsi\n"
        "    push %r11\n"
        "    mov %r11, %r8\n"
        "    cmpl $1, agent_control(%rip)\n"
        "    jne 2f\n"
        "    call new_recorded\n"
        "3:  pop %r11\n"
        "    pop %rsi\n"
        "    pop %rdi\n"
        "    test %rax, %rax\n"
        "    jz 1f\n"
        "    ret\n"
        "1:  jmp *(%r11)\n"
        "2:  call new_sampled\n"
        "    jmp 3b\n"
        ".text\n");

#define OFFSET(name) "    .long " #name " - agent_head\n"
__asm__(".section .text.head,\"ax\"\n"
        ".globl agent_head\nagent_head:\n" /* struct lw_agent_head */
        OFFSET(agent_malloc) OFFSET(agent_calloc) OFFSET(agent_aligned) OFFSET(agent_sized)
            OFFSET(agent_new) OFFSET(agent_store) OFFSET(agent_realloc) OFFSET(agent_reallocarray)
                OFFSET(agent_free) OFFSET(agent_modules) ".text\n");

__asm__(".section .text.hot,\"ax\"\n"
        ".balign 16\n"
        ".globl agent_modules\nagent_modules:\n"
        "    cmpl $0, agent_control(%rip)\n"
        "    je 1f\n"
        "    push %r11\n"
        "    call modules_changed\n"
        "    pop %r11\n"
        "1:  jmp *(%r11)\n"
        ".text\n");
