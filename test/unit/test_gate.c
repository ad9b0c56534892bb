/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gates of real functions: their entries are overwritten, and calling the gate must do what calling
 * the function did, step by step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "leakwatch/arch/gate.h"
#include "leakwatch/arch/page.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define ENTRY         0x10020 /* of a function that is only decoded */

/* ---- The functions: long f(long a, long b) ---- */

/* clang-format off */
#define FUNCTION(name, body)                                                                       \
    ".p2align 4, 0x90\n.globl " #name "\n" #name ":\n" body
#define FILLED_FUNCTION(name, filler, body)                                                        \
    FUNCTION(name, body) filler

__asm__(".pushsection .text\n.p2align 12\n.globl functions\nfunctions:\n"
        FUNCTION(f_push, "push %rbp; mov %rsp, %rbp; sub $16, %rsp; lea (%rdi,%rsi), %rax; leave\n"
                         "ret\n")
        FUNCTION(f_short_pushes, "push %rbx; push %rbp; push %rdi; push %rsi; pop %rax; pop %rbx\n"
                                 "add %rbx, %rax; pop %rbp; pop %rbx; ret\n")
        FUNCTION(f_endbr, "endbr64; push %r12; mov %rdi, %r12; lea 1(%r12), %rax; pop %r12; ret\n")
        FUNCTION(f_mov_immediate, "movabs $0x1122334455667788, %rax; xor %rdi, %rax; ret\n")
        FUNCTION(f_lea, "lea gate_data(%rip), %rax; mov 8(%rax), %rax; add %rdi, %rax; ret\n")
        FUNCTION(f_load, "push %rbx; mov gate_data(%rip), %rax; add %rsi, %rax; pop %rbx; ret\n")
        FUNCTION(f_store, "movq $77, gate_data+16(%rip); mov %rdi, %rax; ret\n")
        FUNCTION(f_count, "lock incq gate_data+16(%rip); mov gate_data+16(%rip), %rax; ret\n")
        FUNCTION(f_compare, "cmpq $3, gate_data(%rip); setb %al; movzbl %al, %eax; ret\n")
        FUNCTION(f_branch_last, "test %rdi, %rdi; jz 1f; mov %rsi, %rax; ret; 1: mov $1, %eax\n"
                                "ret\n")
        FUNCTION(f_branch_first, "jrcxz 1f; test %edi, %edi; mov %rsi, %rax; ret\n"
                                 "1: mov $1, %eax; ret\n")
        FUNCTION(f_branch_middle, "test %edi, %edi; js 1f; push %rsi; pop %rax; ret\n"
                                  "1: mov $-7, %eax; ret\n")
        FUNCTION(f_branches, "test %edi, %edi; jz 1f; jg 2f; lea (%rsi,%rsi), %rax; ret\n"
                             "1: mov $11, %eax; ret; 2: mov $22, %eax; ret\n")
        FUNCTION(f_branch_near, "test %edi, %edi; jg other + 0; mov %rsi, %rax; ret\n")
        FUNCTION(f_branch_first_near, ".byte 0x0f, 0x84; .long other - (. + 4)\n"
                                      "mov %rsi, %rax; ret\n")
        FUNCTION(f_loop_first, "loop 1f; mov %esi, %eax; nop; ret; 1: lea (%rcx,%rdi), %rax; ret\n")
        FUNCTION(f_call_first, "call other; add %rsi, %rax; ret\n")
        FUNCTION(f_call_next, "call 1f; 1: pop %rax; lea f_call_next(%rip), %rdx; sub %rdx, %rax\n"
                              "ret\n")
        FUNCTION(f_call_indirect, "lea other(%rip), %rax; call *%rax; add %rsi, %rax; ret\n")
        FUNCTION(f_call_slot, "call *gate_slot(%rip); add %rsi, %rax; ret\n")
        FUNCTION(f_call_last, "nop; nop; nop; call *gate_slot(%rip); add %rsi, %rax; ret\n")
        FUNCTION(f_call_register_last, "nopl (%rax); lea 1(%rdi), %rdi; mov gate_slot(%rip), %rax\n"
                                       "call *%rax; ret\n")
        FUNCTION(f_call_r11_last, "nopl (%rax); call *%r11; inc %rax; ret\n")
        FUNCTION(f_jump_slot, "jmp *gate_slot(%rip)\n")
        FUNCTION(f_jump_slot_endbr, "endbr64; bnd jmp *gate_slot(%rip)\n")
        FUNCTION(f_jump_near, ".byte 0xe9; .long other - (. + 4)\n")
        FILLED_FUNCTION(f_jump_short, ".byte 0xcc, 0xcc, 0xcc, 0xcc\n",
                        ".byte 0xeb, other - (. + 1)\n")
        FUNCTION(other, "lea 5(%rdi), %rax; ret\n")
        FUNCTION(f_zero, "xor %eax, %eax; ret\n")
        FILLED_FUNCTION(f_zero_int3, ".fill 13, 1, 0xcc\n", "xor %eax, %eax; ret\n")
        FILLED_FUNCTION(f_zeros_behind, ".fill 12, 1, 0\n", "mov %edi, %eax; rep ret\n")
        FILLED_FUNCTION(f_return_nopw, ".byte 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n",
                        "ret\n")
        FILLED_FUNCTION(f_return_mixed, ".byte 0x66, 0x90, 0x0f, 0x1f, 0x44, 0, 0, 0xcc\n", "ret\n")
        FILLED_FUNCTION(f_return_xchg, "xchg %ax, %ax; .fill 5, 1, 0x90\n", "ret\n")
        FUNCTION(f_stub, "mov $0xdead, %eax; ret\n")
        /* Calls `function`(a, b) with %rcx = a, %rax = `function` and %r11 = other. */
        FUNCTION(call_traced,
                 "mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi; mov %rdi, %rcx\n"
                 "lea other(%rip), %r11; cmp $1, %rdi\n" /* flags for a branch at the entry */
                 "pushf; mov traced(%rip), %edx; or %rdx, (%rsp); popf\n"
                 "call *%rax\n"
                 "pushf; andq $~0x100, (%rsp); popf; ret\n")
        ".p2align 12\n.globl functions_end\nfunctions_end:\n.popsection\n");
/* clang-format on */

uint64_t gate_data[3], gate_slot; /* symbols that the functions refer to */
uint32_t traced;                  /* the trap flag, or 0 */

extern uint8_t functions[], functions_end[], other[], f_stub[];
extern long call_traced(const void *function, long a, long b);

struct gate_case {
    const char *name;
    uint8_t *entry;
    unsigned window, slack;
    bool near_only; /* refers to data by a distance */
};

#define CASE(function, ...)                                                                        \
    {                                                                                              \
#function, function, __VA_ARGS__                                                           \
    }
extern uint8_t f_push[], f_short_pushes[], f_endbr[], f_mov_immediate[], f_lea[], f_load[],
    f_store[], f_count[], f_compare[], f_branch_last[], f_branch_first[], f_branch_middle[],
    f_branches[], f_branch_near[], f_branch_first_near[], f_loop_first[], f_call_first[],
    f_call_next[], f_call_indirect[], f_call_slot[], f_call_last[], f_call_register_last[],
    f_call_r11_last[], f_jump_slot[], f_jump_slot_endbr[], f_jump_near[], f_jump_short[], f_zero[],
    f_zero_int3[], f_zeros_behind[], f_return_nopw[], f_return_mixed[], f_return_xchg[];

static const struct gate_case cases[] = {
    CASE(f_push, 8, 0),
    CASE(f_short_pushes, 5, 0),
    CASE(f_endbr, 6, 0),
    CASE(f_mov_immediate, 10, 0),
    CASE(f_lea, 7, 0, .near_only = true),
    CASE(f_load, 8, 0, .near_only = true),
    CASE(f_store, 11, 0, .near_only = true),
    CASE(f_count, 8, 0, .near_only = true),
    CASE(f_compare, 8, 0, .near_only = true),
    CASE(f_branch_last, 5, 0),
    CASE(f_branch_first, 7, 0),
    CASE(f_branch_middle, 5, 0),
    CASE(f_branches, 6, 0),
    CASE(f_branch_near, 8, 0),
    CASE(f_branch_first_near, 6, 0),
    CASE(f_loop_first, 5, 0),
    CASE(f_call_first, 5, 0),
    CASE(f_call_next, 5, 0),
    CASE(f_call_indirect, 7, 0, .near_only = true),
    CASE(f_call_slot, 6, 0, .near_only = true),
    CASE(f_call_last, 9, 0, .near_only = true),
    CASE(f_call_register_last, 7, 0),
    CASE(f_call_r11_last, 6, 0),
    CASE(f_jump_slot, 6, 0, .near_only = true),
    CASE(f_jump_slot_endbr, 11, 0, .near_only = true),
    CASE(f_jump_near, 5, 0),
    CASE(f_jump_short, 2, 3),
    CASE(f_zero, 3, 2),
    CASE(f_zero_int3, 3, 2),
    CASE(f_zeros_behind, 4, 1),
    CASE(f_return_nopw, 1, 4),
    CASE(f_return_mixed, 1, 4),
    CASE(f_return_xchg, 1, 4),
};

/* ---- Running them ---- */

static struct step {
    uint64_t pc, sp;
} steps[256];
static volatile unsigned step_count;

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (step_count < LENGTH(steps))
        steps[step_count++] = (struct step){registers[REG_RIP], registers[REG_RSP]};
}

struct run {
    long result;
    uint64_t data[3];
    struct step steps[LENGTH(steps)];
    unsigned step_count;
};

static void run(const void *function, long a, long b, bool trace, struct run *run)
{
    gate_data[0] = 2;
    gate_data[1] = 40;
    gate_data[2] = 600;
    gate_slot = (uintptr_t)other;
    step_count = 0;
    traced = trace ? 0x100 : 0;
    run->result = call_traced(function, a, b);
    memcpy(run->data, gate_data, sizeof(gate_data));
    memcpy(run->steps, steps, step_count * sizeof(steps[0]));
    run->step_count = step_count;
    assert_true(step_count < LENGTH(steps));
}

/* The steps as the program's own: those in the gate replaced by what its table says of them, and
 * what is then twice the same place, once. */
static void translate(struct run *run, const struct lw_gate *gate, uint64_t gate_address)
{
    unsigned count = 0;
    for (unsigned i = 0; i < run->step_count; i++) {
        struct step step = run->steps[i];
        if (gate && step.pc - gate_address < gate->size) {
            unsigned place = 0;
            while (place < gate->place_count &&
                   gate->places[place].offset != step.pc - gate_address)
                place++;
            assert_true(place < gate->place_count);
            step.pc = gate->places[place].address;
            step.sp += gate->places[place].stack;
        }
        if (count == 0 || run->steps[count - 1].pc != step.pc ||
            run->steps[count - 1].sp != step.sp)
            run->steps[count++] = step;
    }
    run->step_count = count;
}

static const long arguments[][2] = {{0, 0}, {1, 10}, {2, -20}, {5, 1l << 40}, {-1, 7}};

struct runs {
    struct run plain[LENGTH(arguments)], stepped[LENGTH(arguments)];
};

static void run_all(const void *function, struct runs *runs)
{
    for (unsigned i = 0; i < LENGTH(arguments); i++) {
        run(function, arguments[i][0], arguments[i][1], false, &runs->plain[i]);
        run(function, arguments[i][0], arguments[i][1], true, &runs->stepped[i]);
    }
}

static void expect_same(const struct gate_case *c, const struct run *gate, const struct run *own)
{
    /* An undefined %rax is the callee's address. */
    bool returns_nothing = c->slack == 4;
    if (!returns_nothing && gate->result != own->result)
        fail_msg("%s: %ld instead of %ld", c->name, gate->result, own->result);
    assert_memory_equal(gate->data, own->data, sizeof(own->data));
    for (unsigned i = 0; i < own->step_count && i < gate->step_count; i++)
        if (gate->steps[i].pc != own->steps[i].pc || gate->steps[i].sp != own->steps[i].sp)
            fail_msg("%s, step %u: %#lx (%#lx) instead of %#lx (%#lx)", c->name, i,
                     gate->steps[i].pc, gate->steps[i].sp, own->steps[i].pc, own->steps[i].sp);
    if (gate->step_count != own->step_count)
        fail_msg("%s: %u steps instead of %u", c->name, gate->step_count, own->step_count);
}

static void try_gate(const struct gate_case *c, uint8_t *page)
{
    static struct runs own, through;
    struct lw_gate gate;
    uint64_t address = (uintptr_t)c->entry, to = (uintptr_t)page;
    run_all(c->entry, &own);
    int error = lw_gate_build(c->entry, LW_WINDOW_MAX + 1, address, to, &gate);
    if (error || gate.window != c->window || gate.slack != c->slack)
        fail_msg("%s: error %d, window %u, slack %u", c->name, error, gate.window, gate.slack);
    assert_true(gate.places[0].offset == 0 && gate.places[0].stack == 0);
    assert_true(gate.places[0].address == address);
    memcpy(page, gate.code, gate.size);
    memset(page + gate.size, 0xcc, 16);

    uint8_t saved[LW_WINDOW_MAX];
    unsigned overwritten = gate.window + gate.slack;
    memcpy(saved, c->entry, sizeof(saved));
    memset(c->entry, 0xcc, overwritten);
    assert_int_equal(lw_jump_encode(address, (uintptr_t)f_stub, c->entry), 0);
    run_all(page, &through);
    assert_int_equal(call_traced(c->entry, 1, 2), 0xdead); /* traced is still set: not compared */
    memcpy(c->entry, saved, sizeof(saved));

    for (unsigned i = 0; i < LENGTH(arguments); i++) {
        translate(&own.stepped[i], NULL, 0);
        translate(&through.stepped[i], &gate, to);
        expect_same(c, &through.plain[i], &own.plain[i]);
        expect_same(c, &through.stepped[i], &own.stepped[i]);
        if (own.stepped[i].step_count < 3)
            fail_msg("%s: %u steps", c->name, own.stepped[i].step_count);
    }
}

static uint8_t *map_page(uint64_t near)
{
    void *page =
        mmap((void *)(near & ~(LW_PAGE_SIZE - 1)), LW_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_true(page != MAP_FAILED);
    return page;
}

static void test_gates_nearby(void **state)
{
    (void)state;
    uint8_t *page = map_page((uintptr_t)functions + (256 << 20));
    for (unsigned i = 0; i < LENGTH(cases); i++)
        try_gate(&cases[i], page);
    munmap(page, LW_PAGE_SIZE);
}

static void test_gates_far_away(void **state)
{
    (void)state;
    uint8_t *page = map_page((uintptr_t)functions - (1ull << 33));
    for (unsigned i = 0; i < LENGTH(cases); i++) {
        struct lw_gate gate;
        if (cases[i].near_only)
            assert_int_equal(lw_gate_build(cases[i].entry, LW_WINDOW_MAX + 1,
                                           (uintptr_t)cases[i].entry, (uintptr_t)page, &gate),
                             -ERANGE);
        else
            try_gate(&cases[i], page);
    }
    munmap(page, LW_PAGE_SIZE);
}

static void test_instructions_follow_each_other(void **state)
{
    (void)state;
    struct lw_gate gate;
    uint64_t address = (uintptr_t)f_short_pushes, to = address + 0x100000;
    uint8_t expected[10];
    assert_int_equal(lw_gate_build(f_short_pushes, 20, address, to, &gate), 0);
    memcpy(expected, f_short_pushes, 5);
    assert_int_equal(lw_jump_encode(to + 5, address + 5, expected + 5), 0);
    assert_int_equal(gate.size, sizeof(expected));
    assert_memory_equal(gate.code, expected, sizeof(expected));
    assert_int_equal(gate.place_count, 6);
    for (unsigned i = 0; i < gate.place_count; i++) {
        assert_int_equal(gate.places[i].offset, i);
        assert_int_equal(gate.places[i].address, address + i);
    }
}

/* ---- Functions that have none ---- */

struct refusal {
    const char *name;
    uint8_t bytes[LW_WINDOW_MAX + 1];
    unsigned size;
    int result;
};

static const struct refusal refusals[] = {
    {"system call", {0x90, 0x0f, 0x05, 0x90, 0x90, 0xc3}, 6, -ENOTSUP},
    {"interrupt", {0xcd, 0x80, 0x90, 0x90, 0x90, 0xc3}, 6, -ENOTSUP},
    {"xbegin", {0xc7, 0xf8, 0, 1, 0, 0, 0xc3}, 7, -ENOTSUP},
    {"no instruction", {0x06, 0x90, 0x90, 0x90, 0x90}, 5, -ENOTSUP},
    {"second half missing", {0x90, 0x90, 0x48, 0x89}, 4, -ENOTSUP},
    {"call that returns into the window", {0xff, 0xd0, 0x90, 0x90, 0x90, 0xc3}, 6, -ENOTSUP},
    {"call into the window", {0x90, 0xe8, 0xfc, 0xff, 0xff, 0xff}, 6, -ENOTSUP},
    {"call to the entry", {0xe8, 0xfb, 0xff, 0xff, 0xff}, 5, 0},
    {"call to the next", {0xe8, 0, 0, 0, 0}, 5, 0},
    {"branch into the window", {0x90, 0x74, 0x01, 0x90, 0x90, 0x90, 0xc3}, 7, -ENOTSUP},
    {"branch into the last one", {0x74, 0x01, 0x90, 0x48, 0x89, 0xe5}, 6, -ENOTSUP},
    {"branch behind the window", {0x90, 0x74, 0x02, 0x90, 0x90, 0x90, 0xc3}, 7, 0},
    {"branch into long last", {0x74, 0x03, 0x48, 0x8d, 0x47, 0x08, 0xc3}, 7, -ENOTSUP},
    {"branch behind long last", {0x74, 0x04, 0x48, 0x8d, 0x47, 0x08, 0xc3}, 7, 0},
    {"loop to the entry", {0x90, 0x90, 0xe2, 0xfc, 0x90, 0xc3}, 6, -ENOTSUP},
    {"jump to itself", {0xeb, 0xfe, 0xcc, 0xcc, 0xcc}, 5, -ENOTSUP},
    {"jump into the filler", {0xeb, 0x01, 0xcc, 0xcc, 0xcc}, 5, -ENOTSUP},
    {"jump behind the filler", {0xeb, 0x03, 0xcc, 0xcc, 0xcc}, 5, 0},
    {"function behind", {0x31, 0xc0, 0xc3, 0x55, 0x48}, 5, -ENOTSUP},
    {"function behind filler", {0x31, 0xc0, 0xc3, 0x90, 0x55}, 5, -ENOTSUP},
    {"endbr64 behind", {0xc3, 0xf3, 0x0f, 0x1e, 0xfa}, 5, -ENOTSUP},
    {"nothing behind", {0xc3}, 1, -ENOTSUP},
    {"filler cut off", {0xc3, 0x90, 0x0f, 0x1f, 0x44}, 5, -ENOTSUP},
    {"filler", {0xc3, 0x90, 0x0f, 0x1f, 0x44, 0, 0}, 7, 0},
    {"trap behind", {0x0f, 0x0b, 0xcc, 0xcc, 0xcc}, 5, 0},
};

static void test_refusals(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LENGTH(refusals); i++) {
        struct lw_gate gate;
        const struct refusal *r = &refusals[i];
        int result = lw_gate_build(r->bytes, r->size, ENTRY, ENTRY + 0x100000, &gate);
        if (result != r->result)
            fail_msg("%s: %d instead of %d", r->name, result, r->result);
    }
}

static void test_no_jump_lies_across_a_cache_line(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0xb8, 1, 0, 0, 0, 0xc3};
    struct lw_gate gate;
    for (uint64_t address = ENTRY & ~63ull, end = address + 64; address < end; address++)
        assert_int_equal(lw_gate_build(bytes, sizeof(bytes), address, address + 0x100000, &gate),
                         address + LW_JUMP_SIZE <= end ? 0 : -ENOTSUP);
}

static void test_jumps(void **state)
{
    (void)state;
    uint8_t jump[LW_JUMP_SIZE];
    assert_int_equal(lw_jump_encode(0x1000, 0x1000, jump), 0);
    assert_memory_equal(jump, "\xe9\xfb\xff\xff\xff", LW_JUMP_SIZE);
    assert_int_equal(lw_jump_encode(0x1000, 0x1005 + 0x7fffffffull, jump), 0);
    assert_memory_equal(jump, "\xe9\xff\xff\xff\x7f", LW_JUMP_SIZE);
    assert_int_equal(lw_jump_encode(0x1000, 0x1005 + 0x80000000ull, jump), -ERANGE);
    assert_int_equal(lw_jump_encode(0x100000000, 0x80000005, jump), 0);
    assert_int_equal(lw_jump_encode(0x100000000, 0x80000004, jump), -ERANGE);
}

static int setup(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
    return mprotect(functions, (uintptr_t)functions_end - (uintptr_t)functions,
                    PROT_READ | PROT_WRITE | PROT_EXEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gates_nearby),
        cmocka_unit_test(test_gates_far_away),
        cmocka_unit_test(test_instructions_follow_each_other),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_jump_lies_across_a_cache_line),
        cmocka_unit_test(test_jumps),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
