/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Displaced copies of instructions, executed: a child process runs the instruction and its copy
 * step by step, and both must do the same to registers, flags and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/arch/instruction.h"
#include "leakwatch/arch/registers.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define PAGE          4096
#define FAR_AWAY      (1ull << 33)

/* What the child shares with us. */
struct arena {
    uint8_t code[PAGE]; /* the program's */
    union {
        uint8_t bytes[PAGE];
        uint64_t words[PAGE / 8];
    } data, stack;
    uint8_t copies[PAGE];
};

struct lab {
    pid_t child;
    struct arena *arena;
    uint8_t *far;             /* a page more than 2 GiB away */
    struct lw_registers base; /* segments and what else a thread needs */
};

/* Where the instruction stands in `code`, and places it may refer to. */
enum place {
    NOWHERE = 0,
    BACK = 0x1c0,
    ORIGINAL = 0x200,
    FORWARD = 0x240,
    DISTANT = 0x800,
    POINTEE = 0x900,  /* of data word 0 */
    RETURNED = 0xa00, /* of the word on top of the stack */
    NEXT = -1,        /* behind the instruction */
    DATA = offsetof(struct arena, data.bytes) + 0x80,
    SLOT = offsetof(struct arena, data.bytes), /* data word 0 */
};

struct step_case {
    const char *name;
    uint8_t code[LW_INSTRUCTION_MAX];
    unsigned size;
    unsigned relative_offset, relative_size; /* an operand that is to refer to `refers_to` */
    enum place refers_to;
    enum place leads_to;
    uint64_t rcx, flags;
    bool near_only;
};

#define CARRY 0x001
#define ZERO  0x040

static const struct step_case step_cases[] = {
    {"push", {0x55}, 1, .leads_to = NEXT},
    {"push %rsp", {0x54}, 1, .leads_to = NEXT},
    {"pop", {0x41, 0x5c}, 2, .leads_to = NEXT},
    {"push mem", {0xff, 0x73, 0x10}, 3, .leads_to = NEXT},
    {"push 8(%rsp)", {0xff, 0x74, 0x24, 8}, 4, .leads_to = NEXT},
    {"mov", {0x48, 0x89, 0xe5}, 3, .leads_to = NEXT},
    {"mov imm64", {0x49, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, 10, .leads_to = NEXT},
    {"test", {0x48, 0x85, 0xc9}, 3, .leads_to = NEXT, .rcx = 0},
    {"sub %rsp", {0x48, 0x83, 0xec, 0x18}, 4, .leads_to = NEXT},
    {"endbr64", {0xf3, 0x0f, 0x1e, 0xfa}, 4, .leads_to = NEXT},
    {"leave", {0xc9}, 1, .leads_to = NEXT},
    {"xabort", {0xc6, 0xf8, 1}, 3, .leads_to = NEXT}, /* does nothing; may not exist: see below */
    {"rip-relative load", {0x48, 0x8b, 0x05}, 7, 3, 4, DATA, NEXT, .near_only = true},
    {"rip-relative lea", {0x4c, 0x8d, 0x3d}, 7, 3, 4, DATA, NEXT, .near_only = true},
    {"rip-relative store", {0x89, 0x05}, 6, 2, 4, DATA, NEXT, .near_only = true},
    {"rip-relative, with imm",
     {0x48, 0x81, 0x3d, 0, 0, 0, 0, 1, 2, 3, 4},
     11,
     3,
     4,
     DATA,
     NEXT,
     .near_only = true},
    {"rip-relative lock inc", {0xf0, 0xff, 0x05}, 7, 3, 4, DATA, NEXT, .near_only = true},
    {"rip-relative sse load", {0x66, 0x0f, 0x6f, 0x05}, 8, 4, 4, DATA, NEXT, .near_only = true},
    {"jz taken", {0x74}, 2, 1, 1, FORWARD, FORWARD, .flags = ZERO},
    {"jz not taken", {0x74}, 2, 1, 1, FORWARD, NEXT},
    {"jz backwards", {0x74}, 2, 1, 1, BACK, BACK, .flags = ZERO},
    {"jz near taken", {0x0f, 0x84}, 6, 2, 4, DISTANT, DISTANT, .flags = ZERO},
    {"jz near not taken", {0x0f, 0x84}, 6, 2, 4, DISTANT, NEXT},
    {"jae near taken", {0x0f, 0x83}, 6, 2, 4, BACK, BACK},
    {"jae near not taken", {0x0f, 0x83}, 6, 2, 4, BACK, NEXT, .flags = CARRY},
    {"ja, with a hint", {0x3e, 0x0f, 0x87}, 7, 3, 4, DISTANT, DISTANT},
    {"jmp", {0xeb}, 2, 1, 1, BACK, BACK},
    {"jmp near", {0xe9}, 5, 1, 4, DISTANT, DISTANT},
    {"bnd jmp near", {0xf2, 0xe9}, 6, 2, 4, DISTANT, DISTANT},
    {"jmp to itself", {0xeb}, 2, 1, 1, ORIGINAL, ORIGINAL},
    {"loop taken", {0xe2}, 2, 1, 1, BACK, BACK, .rcx = 2},
    {"loop to itself", {0xe2}, 2, 1, 1, ORIGINAL, ORIGINAL, .rcx = 2},
    {"loop done", {0xe2}, 2, 1, 1, BACK, NEXT, .rcx = 1},
    {"loop on %ecx", {0x67, 0xe2}, 3, 2, 1, BACK, NEXT, .rcx = 0x100000001},
    {"loope taken", {0xe1}, 2, 1, 1, BACK, BACK, .rcx = 2, .flags = ZERO},
    {"loopne done", {0xe0}, 2, 1, 1, BACK, NEXT, .rcx = 2, .flags = ZERO},
    {"jrcxz taken", {0xe3}, 2, 1, 1, FORWARD, FORWARD, .rcx = 0},
    {"jrcxz not taken", {0xe3}, 2, 1, 1, FORWARD, NEXT, .rcx = 0x100000000},
    {"jecxz taken", {0x67, 0xe3}, 3, 2, 1, FORWARD, FORWARD, .rcx = 0x100000000},
    {"call", {0xe8}, 5, 1, 4, DISTANT, DISTANT},
    {"call to the next", {0xe8}, 5, 1, 4, NEXT, NEXT},
    {"call to itself", {0xe8}, 5, 1, 4, ORIGINAL, ORIGINAL},
    {"bnd call", {0xf2, 0xe8}, 6, 2, 4, DISTANT, DISTANT},
    {"call *%rdi", {0xff, 0xd7}, 2, .leads_to = DISTANT},
    {"call *%r9", {0x41, 0xff, 0xd1}, 3, .leads_to = DISTANT},
    {"call *(%rbx)", {0xff, 0x13}, 2, .leads_to = POINTEE},
    {"call *8(%rbx)", {0xff, 0x53, 8}, 3, .leads_to = POINTEE},
    {"call *-8(%rbx,%rcx,8)", {0xff, 0x54, 0xcb, 0xf8}, 4, .leads_to = POINTEE, .rcx = 1},
    {"call *slot(%rip)", {0xff, 0x15}, 6, 2, 4, SLOT, POINTEE, .near_only = true},
    {"jmp *%rdi", {0xff, 0xe7}, 2, .leads_to = DISTANT},
    {"notrack jmp *%rdi", {0x3e, 0xff, 0xe7}, 3, .leads_to = DISTANT},
    {"jmp *8(%rbx)", {0xff, 0x63, 8}, 3, .leads_to = POINTEE},
    {"jmp *(%rsp)", {0xff, 0x24, 0x24}, 3, .leads_to = RETURNED},
    {"jmp *slot(%rip)", {0xff, 0x25}, 6, 2, 4, SLOT, POINTEE, .near_only = true},
    {"bnd jmp *slot(%rip)", {0xf2, 0xff, 0x25}, 7, 3, 4, SLOT, POINTEE, .near_only = true},
    {"ret", {0xc3}, 1, .leads_to = RETURNED},
    {"rep ret", {0xf3, 0xc3}, 2, .leads_to = RETURNED},
    {"ret imm16", {0xc2, 0x18, 0}, 3, .leads_to = RETURNED},
};

static uint64_t address_of(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

static uint64_t place_of(const struct lab *lab, const struct step_case *step, enum place place)
{
    unsigned offset = place == NEXT ? ORIGINAL + step->size : (unsigned)place;
    return address_of(lab->arena) + offset;
}

/* The child does nothing by itself: its registers are set for each step. */
static int setup(void **state)
{
    static struct lab lab;
    int shared = MAP_SHARED | MAP_ANONYMOUS, rwx = PROT_READ | PROT_WRITE | PROT_EXEC;
    lab.arena = mmap(NULL, sizeof(*lab.arena), rwx, shared, -1, 0);
    assert_true(lab.arena != MAP_FAILED);
    uint64_t hint = address_of(lab.arena) - FAR_AWAY;
    lab.far = mmap((void *)hint, PAGE, rwx, shared | MAP_FIXED_NOREPLACE, -1, 0);
    assert_true(lab.far != MAP_FAILED);
    lab.child = fork();
    assert_true(lab.child >= 0);
    if (lab.child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(50);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(lab.child, &status, 0), lab.child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(lw_registers_read(lab.child, &lab.base), 0);
    *state = &lab;
    return 0;
}

static int teardown(void **state)
{
    struct lab *lab = *state;
    kill(lab->child, SIGKILL);
    waitpid(lab->child, NULL, 0);
    munmap(lab->far, PAGE);
    return munmap(lab->arena, sizeof(*lab->arena));
}

/* Runs one instruction; returns the signal that it ended with. */
static int step_once(const struct lab *lab, struct lw_registers *registers)
{
    int status;
    assert_int_equal(lw_registers_write(lab->child, registers), 0);
    assert_int_equal(ptrace(PTRACE_SINGLESTEP, lab->child, NULL, NULL), 0);
    assert_int_equal(waitpid(lab->child, &status, 0), lab->child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(lw_registers_read(lab->child, registers), 0);
    return WSTOPSIG(status);
}

/* Registers and memory as the step finds them. */
static struct lw_registers prepare(const struct lab *lab, const struct step_case *step)
{
    struct arena *arena = lab->arena;
    for (size_t i = 0; i < PAGE; i++) {
        arena->data.bytes[i] = (uint8_t)(i * 3);
        arena->stack.bytes[i] = (uint8_t)(i * 5);
    }
    arena->data.words[0] = arena->data.words[1] = address_of(arena->code + POINTEE);
    arena->stack.words[256] = address_of(arena->code + RETURNED);

    struct lw_registers registers = lab->base;
    struct user_regs_struct *r = &registers.native;
    r->orig_rax = UINT64_MAX; /* in no system call */
    r->rip = address_of(arena->code + ORIGINAL);
    r->rsp = address_of(&arena->stack.words[256]);
    r->rbp = address_of(&arena->stack.words[300]);
    r->rbx = address_of(&arena->data);
    r->rcx = step->rcx;
    r->rdi = r->r9 = address_of(arena->code + DISTANT);
    r->eflags = 0x202 | step->flags;
    r->rax = 0x1a1a, r->rdx = 0x1d1d, r->rsi = 0x51, r->r8 = 8, r->r10 = 10, r->r11 = 11;
    r->r12 = 12, r->r13 = 13, r->r14 = 14, r->r15 = 15;
    return registers;
}

/* A state of the program: its registers and what it sees of memory. */
struct moment {
    struct lw_registers registers;
    uint8_t data[PAGE], stack[PAGE];
};

static void capture(const struct lab *lab, const struct lw_registers *registers,
                    struct moment *moment)
{
    moment->registers = *registers;
    memcpy(moment->data, lab->arena->data.bytes, PAGE);
    memcpy(moment->stack, lab->arena->stack.bytes, PAGE);
}

/* What is below the stack pointer is no part of the state, but for the red zone, which no call
 * leaves alone. */
static bool is_moment(const struct lab *lab, const struct lw_registers *registers,
                      const struct moment *moment)
{
    size_t top = lw_registers_sp(registers) - address_of(&lab->arena->stack);
    return lw_registers_equal(registers, &moment->registers) &&
           registers->native.eflags == moment->registers.native.eflags &&
           memcmp(lab->arena->data.bytes, moment->data, PAGE) == 0 && top <= PAGE &&
           memcmp(lab->arena->stack.bytes + top, moment->stack + top, PAGE - top) == 0;
}

/* The instruction's bytes, its operand set; then its place is made a trap for copies that lead
 * there by mistake. */
static void place_original(const struct lab *lab, const struct step_case *step, uint8_t *code)
{
    memcpy(code, step->code, sizeof(step->code));
    int32_t distance = (int32_t)(place_of(lab, step, step->refers_to) - place_of(lab, step, NEXT));
    memcpy(code + step->relative_offset, &distance, step->relative_size);
    memcpy(lab->arena->code + ORIGINAL, code, step->size);
}

/* The state that the rewind table makes of a stop in the copy; false when it has no entry. */
static bool rewind_state(const struct lw_displaced *displaced, uint64_t to,
                         struct lw_registers *registers)
{
    for (unsigned i = 0; i < displaced->rewind_count; i++) {
        if (to + displaced->rewind[i].offset != lw_registers_pc(registers))
            continue;
        lw_registers_set_pc(registers, displaced->rewind[i].address);
        lw_registers_set_sp(registers, lw_registers_sp(registers) + displaced->rewind[i].stack);
        return true;
    }
    return false;
}

/* Runs the copy from `registers` on, from one stop to the next. */
static void run_copy(const struct lab *lab, const struct step_case *step,
                     const struct lw_displaced *displaced, uint64_t to, const struct moment *before,
                     const struct moment *after)
{
    struct lw_registers registers = before->registers;
    lw_registers_set_pc(&registers, to);
    for (int steps = 0; lw_registers_pc(&registers) - to < displaced->size; steps++) {
        struct lw_registers rewound = registers;
        if (!rewind_state(displaced, to, &rewound))
            fail_msg("%s: a stop at copy + %#lx is not in the rewind table", step->name,
                     lw_registers_pc(&registers) - to);
        if (!is_moment(lab, &rewound, before) && !is_moment(lab, &rewound, after))
            fail_msg("%s: a stop at copy + %#lx is rewound to a state that the program never has",
                     step->name, lw_registers_pc(&registers) - to);
        if (steps == 4)
            fail_msg("%s: the copy does not end", step->name);
        int signal = step_once(lab, &registers);
        if (signal != SIGTRAP)
            fail_msg("%s: the copy ended with signal %d", step->name, signal);
    }
    if (!is_moment(lab, &registers, after))
        fail_msg("%s: the copy has done something else (pc %#lx, not %#lx)", step->name,
                 lw_registers_pc(&registers), lw_registers_pc(&after->registers));
}

static int compare(const struct lab *lab, const struct step_case *step, uint8_t *copy)
{
    uint8_t code[LW_INSTRUCTION_MAX];
    struct moment before, after;
    struct lw_displaced displaced;
    place_original(lab, step, code);
    struct lw_registers registers = prepare(lab, step);
    capture(lab, &registers, &before);
    int signal = step_once(lab, &registers);
    if (signal == SIGILL)
        return 0; /* this processor does not have it */
    if (signal != SIGTRAP || lw_registers_pc(&registers) != place_of(lab, step, step->leads_to))
        fail_msg("%s: the test itself is wrong: signal %d", step->name, signal);
    capture(lab, &registers, &after);

    uint64_t to = address_of(copy);
    int error = lw_instruction_displace(code, step->size, address_of(lab->arena->code + ORIGINAL),
                                        to, &displaced);
    if (error)
        return error;
    memset(lab->arena->code + ORIGINAL, lw_breakpoint_instruction[0], step->size);
    memset(copy, lw_breakpoint_instruction[0], LW_DISPLACED_MAX);
    memcpy(copy, displaced.code, displaced.size);
    prepare(lab, step);
    run_copy(lab, step, &displaced, to, &before, &after);
    return 0;
}

static void test_copies_nearby(void **state)
{
    const struct lab *lab = *state;
    for (size_t i = 0; i < LENGTH(step_cases); i++)
        if (compare(lab, &step_cases[i], lab->arena->copies + 17 * i) != 0)
            fail_msg("%s cannot be displaced", step_cases[i].name);
}

static void test_copies_far_away(void **state)
{
    const struct lab *lab = *state;
    for (size_t i = 0; i < LENGTH(step_cases); i++) {
        int error = compare(lab, &step_cases[i], lab->far + 17 * i);
        if (error != (step_cases[i].near_only ? -ERANGE : 0))
            fail_msg("%s: %d", step_cases[i].name, error);
    }
}

/* Adds the offsets at which a thread in the copy may be stopped. */
static void find_stops(const struct lw_displaced *displaced, uint64_t to, unsigned offset,
                       bool *stops)
{
    while (offset < displaced->size && !stops[offset]) {
        struct lw_instruction instruction;
        assert_true(lw_instruction_decode(displaced->code + offset, displaced->size - offset,
                                          to + offset, &instruction));
        stops[offset] = true;
        if (instruction.flow == LW_FLOW_BRANCH)
            find_stops(displaced, to, (unsigned)(instruction.target - to), stops);
        else if (instruction.flow != LW_FLOW_NEXT)
            return;
        offset += instruction.length;
    }
}

static void check_rewinds(const struct step_case *step, const struct lw_displaced *displaced,
                          uint64_t to)
{
    bool stops[LW_DISPLACED_MAX] = {false};
    find_stops(displaced, to, 0, stops);
    for (unsigned i = 0; i < displaced->rewind_count; i++) {
        unsigned offset = displaced->rewind[i].offset;
        if (offset >= displaced->size || !stops[offset])
            fail_msg("%s: copy + %u is no instruction, or listed twice", step->name, offset);
        stops[offset] = false;
    }
    for (unsigned offset = 0; offset < displaced->size; offset++)
        if (stops[offset])
            fail_msg("%s: copy + %u is not listed", step->name, offset);
}

/* Both ways of a branch, which a run never takes at once. */
static void test_rewinds_are_the_instructions_of_the_copy(void **state)
{
    const struct lab *lab = *state;
    uint8_t code[LW_INSTRUCTION_MAX];
    struct lw_displaced displaced;
    uint64_t at = address_of(lab->arena->code + ORIGINAL);
    for (size_t i = 0; i < LENGTH(step_cases); i++) {
        const struct step_case *step = &step_cases[i];
        place_original(lab, step, code);
        assert_int_equal(lw_instruction_displace(code, step->size, at, at + 0x5000, &displaced), 0);
        check_rewinds(step, &displaced, at + 0x5000);
        if (step->near_only)
            continue;
        assert_int_equal(lw_instruction_displace(code, step->size, at, at + FAR_AWAY, &displaced),
                         0);
        check_rewinds(step, &displaced, at + FAR_AWAY);
    }
}

/* sum = 0; for (n = rdi; n; n--) sum = triple(sum + word) */
extern const uint8_t sample_program[], sample_program_end[];
__asm__(".pushsection .rodata\n"
        ".globl sample_program, sample_program_end\n"
        "sample_program:\n"
        "    endbr64\n"
        "    push %rbx\n"
        "    mov %rdi, %rcx\n"
        "    xor %eax, %eax\n"
        "    lea 3f(%rip), %rbx\n"
        "    test %rcx, %rcx\n"
        "    jz 2f\n"
        "1:  add 4f(%rip), %rax\n"
        "    push %rax\n"
        "    call 3f\n"
        "    add $5, %rax\n"
        "    loop 1b\n"
        "2:  push %rax\n"
        "    call *%rbx\n"
        "    pop %rbx\n"
        "    jrcxz 5f\n"
        "    ud2\n"
        "3:  mov 8(%rsp), %rax\n" /* triple(), which takes its argument off the stack */
        "    lea (%rax,%rax,2), %rax\n"
        "    ret $8\n"
        "4:  .quad 7\n"
        "5:  ret\n"
        "sample_program_end:\n"
        ".popsection");

static uint64_t sample_result(uint64_t n)
{
    uint64_t sum = 0;
    while (n-- > 0)
        sum = 3 * (sum + 7) + 5;
    return 3 * sum;
}

/* Runs the program with a copy in place of every instruction; the number of instructions. */
static unsigned run_in_copies(const struct lab *lab, struct lw_registers *registers)
{
    struct arena *arena = lab->arena;
    uint64_t returned = address_of(arena->code + RETURNED);
    unsigned count = 0;
    for (; lw_registers_pc(registers) != returned && count < 1000; count++) {
        uint64_t pc = lw_registers_pc(registers);
        const uint8_t *bytes = arena->code + (pc - address_of(arena->code));
        uint8_t *copy = arena->copies + count % 32 * LW_DISPLACED_MAX;
        uint64_t to = address_of(copy);
        struct lw_displaced displaced;
        assert_int_equal(lw_instruction_displace(bytes, LW_INSTRUCTION_MAX, pc, to, &displaced), 0);
        memcpy(copy, displaced.code, displaced.size);
        lw_registers_set_pc(registers, to);
        for (int i = 0; i < 4 && lw_registers_pc(registers) - to < displaced.size; i++)
            assert_int_equal(step_once(lab, registers), SIGTRAP);
    }
    return count;
}

static void test_a_program_of_copies(void **state)
{
    const struct lab *lab = *state;
    static const struct step_case no_step = {.name = "program"};
    memcpy(lab->arena->code + ORIGINAL, sample_program,
           (size_t)(sample_program_end - sample_program));
    for (uint64_t n = 0; n < 5; n++) {
        struct lw_registers registers = prepare(lab, &no_step);
        uint64_t sp = lw_registers_sp(&registers);
        registers.native.rdi = n;
        assert_int_equal(run_in_copies(lab, &registers), 15 + n * 8);
        assert_true(lw_registers_result(&registers) == sample_result(n));
        assert_true(lw_registers_sp(&registers) == sp + 8);
        assert_true(registers.native.rbx == address_of(&lab->arena->data));
        assert_true(registers.native.rbp == address_of(&lab->arena->stack.words[300]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies_nearby),
        cmocka_unit_test(test_copies_far_away),
        cmocka_unit_test(test_rewinds_are_the_instructions_of_the_copy),
        cmocka_unit_test(test_a_program_of_copies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
