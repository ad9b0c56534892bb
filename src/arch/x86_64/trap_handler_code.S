/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The SIGTRAP handler, as bytes of our own read-only data (leakwatch/arch/trap_handler.h). */

/* (signal, siginfo, ucontext) are in edi, rsi, rdx; of those, and of <asm/unistd_64.h>: */
#define SI_CODE         8(%rsi)
#define UCONTEXT_PC     168(%rdx)
#define SIGNAL          5
#define RT_SIGACTION    13
#define GETPID          39
#define GETTID          186
#define TGKILL          234
#define RT_SIGRETURN    15
#define RT_SIGPROCMASK  14
#define SIGNAL_BIT      0x10
#define SA_NODEFER      0x40000000
#define ACTION_FLAGS    8
#define ACTION_MASK     24
#define ACTION_SIZE     32
/* Offsets, as the header has them. */
#define RETURN          240
#define DATA            256

    .section .rodata
    .balign 16
    .globl lw_trap_handler_code
lw_trap_handler_code:
    cmpl    $0, SI_CODE             /* the kernel's own are above 0 */
    jle     .Lforward
    mov     UCONTEXT_PC, %rax
    lea     .Ldata + ACTION_SIZE(%rip), %rcx
.Lnext:
    mov     (%rcx), %r8
    test    %r8, %r8
    jz      .Lforward
    cmp     %r8, %rax
    je      .Lfound
    dec     %r8                     /* the tracer had moved the thread already: */
    cmp     %r8, %rax               /* back to a breakpoint that it had taken out, */
    je      .Ldone
    cmp     8(%rcx), %rax           /* or on */
    je      .Ldone
    add     $16, %rcx
    jmp     .Lnext
.Lfound:
    mov     8(%rcx), %rax
    mov     %rax, UCONTEXT_PC
.Ldone:
    ret

/* Not ours: blocks what the program wanted blocked, and goes where it wanted. For our breakpoints
 * nothing is blocked, so that nobody who looks can take that for the program's wish. */
.Lforward:
    push    %rdi
    push    %rsi
    push    %rdx
    mov     .Ldata + ACTION_MASK(%rip), %rax
    testl   $SA_NODEFER, .Ldata + ACTION_FLAGS(%rip)
    jnz     1f
    or      $SIGNAL_BIT, %rax
1:  push    %rax
    mov     $RT_SIGPROCMASK, %eax
    xor     %edi, %edi              /* SIG_BLOCK */
    mov     %rsp, %rsi
    xor     %edx, %edx
    mov     $8, %r10d
    syscall
    pop     %rax
    pop     %rdx
    pop     %rsi
    pop     %rdi
    mov     .Ldata(%rip), %rax
    cmp     $1, %rax
    jb      .Ldefault               /* SIG_DFL */
    je      .Lignored               /* SIG_IGN */
    jmp     *%rax
.Lignored:
    cmpl    $0, SI_CODE
    jle     .Ldone                  /* the kernel lets nobody ignore its own */
.Ldefault:
    mov     $RT_SIGACTION, %eax
    mov     $SIGNAL, %edi
    lea     .Lzeros(%rip), %rsi
    xor     %edx, %edx
    mov     $8, %r10d
    syscall
    mov     $GETPID, %eax
    syscall
    mov     %eax, %r8d
    mov     $GETTID, %eax
    syscall
    mov     %eax, %esi
    mov     %r8d, %edi
    mov     $SIGNAL, %edx
    mov     $TGKILL, %eax           /* it is blocked, and comes at the return, with the */
    syscall                         /* registers that the program had */
    ret

    .balign 16
.Lzeros:
    .zero   ACTION_SIZE
    .org    lw_trap_handler_code + RETURN
    mov     $RT_SIGRETURN, %rax     /* these bytes are how debuggers know a signal frame */
    syscall
    .org    lw_trap_handler_code + DATA
.Ldata:

    .section .note.GNU-stack, "", @progbits
