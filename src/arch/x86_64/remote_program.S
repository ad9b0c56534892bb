/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The program of leakwatch/arch/remote_program.h, as bytes of our own read-only data. rbx: the
 * request; rbp: the stack pointer to return with. */

/* struct lw_program_request */
#define NUMBER          (%rbx)
#define ARGUMENT(n)     8 + 8 * (n)(%rbx)
#define FIRST_PLUS      56(%rbx)
#define FIFTH_PLUS      64(%rbx)
#define FLAGS           72(%rbx)
#define RESULT          80(%rbx)
#define SIZE            88
#define MAY_FAIL        1
#define IS_FIXED        2
#define IS_LAST         4
#define MAX_ERROR       4095
/* As the header has them. */
#define PROGRAM_END     43
#define PROGRAM_SIZE    128
#define SYS_ppoll       271

    .section .rodata
    .balign 16
    .globl lw_remote_program_code
lw_remote_program_code:
    mov     NUMBER, %rax
    mov     ARGUMENT(0), %rdi
    mov     FIRST_PLUS, %rcx
    add     (%rcx), %rdi
    mov     ARGUMENT(1), %rsi
    mov     ARGUMENT(2), %rdx
    mov     ARGUMENT(3), %r10
    mov     ARGUMENT(4), %r8
    mov     FIFTH_PLUS, %rcx
    add     (%rcx), %r8
    mov     ARGUMENT(5), %r9
    syscall
.Lend:
    mov     %rax, RESULT
    mov     FLAGS, %ecx
    test    $IS_LAST, %cl
    jnz     .Ldone
    test    $MAY_FAIL, %cl
    jnz     .Lnext
    cmp     $-MAX_ERROR, %rax
    jae     .Lfailed
    test    $IS_FIXED, %cl
    jz      .Lnext
    cmp     %rax, %rdi
    jne     .Lfailed
.Lnext:
    add     $SIZE, %rbx
    jmp     lw_remote_program_code
.Lfailed:
    add     $SIZE, %rbx
    testb   $IS_LAST, FLAGS
    jz      .Lfailed
    jmp     lw_remote_program_code
.Ldone:
    test    %rax, %rax
    jz      .Lreturn
    mov     $SYS_ppoll, %eax /* it leaves no note of how to restart another call */
    xor     %edi, %edi
    xor     %esi, %esi
    lea     ARGUMENT(2), %rdx
    xor     %r10d, %r10d
    syscall
.Lreturn:
    mov     %rbp, %rsp
    ret
    .if .Lend - lw_remote_program_code != PROGRAM_END
    .error "the header has another offset"
    .endif
    .org    lw_remote_program_code + PROGRAM_SIZE

    .section .note.GNU-stack, "", @progbits
