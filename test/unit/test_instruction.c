/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decoding instructions, and what displaced copies look like; test_displaced.c runs them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "leakwatch/arch/instruction.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define AT            0x400000ull
#define TWO_GIB       0x80000000ull

static struct lw_instruction decode(const uint8_t *bytes, size_t size)
{
    struct lw_instruction instruction;
    assert_true(lw_instruction_decode(bytes, size, AT, &instruction));
    assert_true(instruction.address == AT);
    return instruction;
}

static void test_flow(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[LW_INSTRUCTION_MAX];
        unsigned length;
        enum lw_flow flow;
    } cases[] = {
        {{0x90}, 1, LW_FLOW_NEXT},                         /* nop */
        {{0x55}, 1, LW_FLOW_NEXT},                         /* push %rbp */
        {{0xf3, 0x0f, 0x1e, 0xfa}, 4, LW_FLOW_NEXT},       /* endbr64 */
        {{0x48, 0x8b, 0x05, 8, 0, 0, 0}, 7, LW_FLOW_NEXT}, /* mov 8(%rip),%rax */
        {{0x0f, 0x05}, 2, LW_FLOW_NEXT},                   /* syscall */
        {{0x0f, 0x01, 0xd5}, 3, LW_FLOW_NEXT},             /* xend */
        {{0xc6, 0xf8, 0x01}, 3, LW_FLOW_NEXT},             /* xabort $1 */
        {{0xc3}, 1, LW_FLOW_RETURN},                       /* ret */
        {{0xc2, 8, 0}, 3, LW_FLOW_RETURN},                 /* ret $8 */
        {{0xf3, 0xc3}, 2, LW_FLOW_RETURN},                 /* rep ret */
        {{0xf2, 0xc3}, 2, LW_FLOW_RETURN},                 /* bnd ret */
        {{0xff, 0xe0}, 2, LW_FLOW_JUMP_INDIRECT},          /* jmp *%rax */
        {{0x3e, 0xff, 0xe0}, 3, LW_FLOW_JUMP_INDIRECT},    /* notrack jmp *%rax */
        {{0xff, 0x24, 0xc2}, 3, LW_FLOW_JUMP_INDIRECT},    /* jmp *(%rdx,%rax,8) */
        {{0xf4}, 1, LW_FLOW_STOP},                         /* hlt */
        {{0x0f, 0x0b}, 2, LW_FLOW_STOP},                   /* ud2 */
        {{0xcc}, 1, LW_FLOW_STOP},                         /* int3 */
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct lw_instruction found = decode(cases[i].bytes, LW_INSTRUCTION_MAX);
        assert_int_equal(found.length, cases[i].length);
        assert_int_equal(found.flow, cases[i].flow);
        assert_false(found.is_call);
        assert_true(found.target == 0 && found.slot == 0);
    }
}

static void test_targets(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[LW_INSTRUCTION_MAX];
        unsigned length;
        enum lw_flow flow;
        uint64_t target;
        bool is_call;
    } cases[] = {
        {{0xeb, 0x10}, 2, LW_FLOW_JUMP, AT + 0x12, false},
        {{0xeb, 0xfe}, 2, LW_FLOW_JUMP, AT, false},
        {{0xe9, 0, 1, 0, 0}, 5, LW_FLOW_JUMP, AT + 0x105, false},
        {{0xf2, 0xe9, 0, 0xff, 0xff, 0xff}, 6, LW_FLOW_JUMP, AT - 0xfa, false},
        {{0x74, 0x80}, 2, LW_FLOW_BRANCH, AT - 0x7e, false},                /* je */
        {{0x0f, 0x8f, 0, 0, 1, 0}, 6, LW_FLOW_BRANCH, AT + 0x10006, false}, /* jg */
        {{0xe3, 2}, 2, LW_FLOW_BRANCH, AT + 4, false},                      /* jrcxz */
        {{0x67, 0xe3, 2}, 3, LW_FLOW_BRANCH, AT + 5, false},                /* jecxz */
        {{0xe2, 0xfe}, 2, LW_FLOW_BRANCH, AT, false},                       /* loop */
        {{0xe8, 0, 0, 0, 0}, 5, LW_FLOW_NEXT, AT + 5, true},                /* call */
        {{0xe8, 0xfb, 0xff, 0xff, 0xff}, 5, LW_FLOW_NEXT, AT, true},        /* itself */
        {{0xff, 0xd0}, 2, LW_FLOW_NEXT, 0, true},                           /* call *%rax */
        {{0xff, 0x54, 0x24, 8}, 4, LW_FLOW_NEXT, 0, true},                  /* call *8(%rsp) */
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct lw_instruction found = decode(cases[i].bytes, LW_INSTRUCTION_MAX);
        assert_int_equal(found.length, cases[i].length);
        assert_int_equal(found.flow, cases[i].flow);
        assert_true(found.target == cases[i].target);
        assert_int_equal(found.is_call, cases[i].is_call);
        assert_true(found.slot == 0);
    }
}

static void test_slots(void **state)
{
    (void)state;
    static const uint8_t jump[] = {0xff, 0x25, 0x10, 0, 0, 0};
    static const uint8_t bnd_jump[] = {0xf2, 0xff, 0x25, 0xf0, 0xff, 0xff, 0xff};
    static const uint8_t call[] = {0xff, 0x15, 0x10, 0, 0, 0};
    struct lw_instruction found = decode(jump, sizeof(jump));
    assert_int_equal(found.flow, LW_FLOW_JUMP_INDIRECT);
    assert_true(found.slot == AT + 0x16 && found.target == 0 && !found.is_call);
    found = decode(bnd_jump, sizeof(bnd_jump));
    assert_true(found.flow == LW_FLOW_JUMP_INDIRECT && found.slot == AT - 9);
    found = decode(call, sizeof(call));
    assert_int_equal(found.flow, LW_FLOW_NEXT);
    assert_true(found.slot == AT + 0x16 && found.target == 0 && found.is_call);
}

static void test_no_instruction(void **state)
{
    (void)state;
    static const uint8_t mov[] = {0x48, 0x8b, 0x05, 8, 0, 0, 0};
    static const uint8_t invalid[] = {0x06, 0x90, 0x90}; /* push %es: not in 64-bit mode */
    struct lw_instruction instruction;
    for (size_t size = 0; size < sizeof(mov); size++)
        assert_false(lw_instruction_decode(mov, size, AT, &instruction));
    assert_true(lw_instruction_decode(mov, sizeof(mov), AT, &instruction));
    assert_false(lw_instruction_decode(invalid, sizeof(invalid), AT, &instruction));
}

static void test_breakpoint_instruction(void **state)
{
    (void)state;
    struct lw_instruction found = decode(lw_breakpoint_instruction, LW_BREAKPOINT_SIZE);
    assert_int_equal(found.length, LW_BREAKPOINT_SIZE);
    assert_int_equal(found.flow, LW_FLOW_STOP);
}

static void test_what_cannot_be_displaced(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[LW_INSTRUCTION_MAX];
        size_t size;
    } cases[] = {
        {"syscall", {0x0f, 0x05}, 2},
        {"sysenter", {0x0f, 0x34}, 2},
        {"int $0x80", {0xcd, 0x80}, 2},
        {"int3", {0xcc}, 1},
        {"int1", {0xf1}, 1},
        {"push %es", {0x06}, 1},
        {"nothing", {0}, 0},
        {"half a mov", {0x48, 0x8b, 0x05, 8, 0}, 5},
        {"call *8(%rsp)", {0xff, 0x54, 0x24, 8}, 4},
        {"call *(%rsp,%rax,8)", {0xff, 0x14, 0xc4}, 3},
        {"call *8(%esp)", {0x67, 0xff, 0x54, 0x24, 8}, 5},
        {"call *%rsp", {0xff, 0xd4}, 2},
        {"lcall *(%rdi)", {0xff, 0x1f}, 2},
        {"xbegin", {0xc7, 0xf8, 4, 0, 0, 0}, 6},
    };
    struct lw_displaced displaced;
    for (size_t i = 0; i < LENGTH(cases); i++)
        if (lw_instruction_displace(cases[i].bytes, cases[i].size, AT, AT + 0x9000, &displaced) !=
            -ENOTSUP)
            fail_msg("%s was displaced", cases[i].name);
}

/* An instruction with a pc-relative operand can be as far away as its displacement allows. */
static void check_reach(const uint8_t *bytes, size_t size, size_t disp_offset)
{
    struct lw_displaced displaced;
    int32_t disp32;
    memcpy(&disp32, bytes + disp_offset, sizeof(disp32));
    uint64_t lowest = AT + (uint64_t)(int64_t)disp32 - INT32_MAX;
    uint64_t highest = AT + (uint64_t)(int64_t)disp32 + TWO_GIB;
    assert_int_equal(lw_instruction_displace(bytes, size, AT, lowest, &displaced), 0);
    memcpy(&disp32, displaced.code + disp_offset, sizeof(disp32));
    assert_true(disp32 == INT32_MAX);
    assert_int_equal(lw_instruction_displace(bytes, size, AT, highest, &displaced), 0);
    memcpy(&disp32, displaced.code + disp_offset, sizeof(disp32));
    assert_true(disp32 == INT32_MIN);
    assert_int_equal(lw_instruction_displace(bytes, size, AT, lowest - 1, &displaced), -ERANGE);
    assert_int_equal(lw_instruction_displace(bytes, size, AT, highest + 1, &displaced), -ERANGE);
    assert_int_equal(lw_instruction_displace(bytes, size, AT, AT + (1ull << 40), &displaced),
                     -ERANGE);
}

static void test_reach_of_a_copy(void **state)
{
    (void)state;
    static const uint8_t load[] = {0x48, 0x8b, 0x05, 0x10, 0, 0, 0};
    static const uint8_t store[] = {0xc7, 0x05, 0xf0, 0xff, 0xff, 0xff, 1, 2, 3, 4};
    static const uint8_t jump[] = {0xff, 0x25, 0x10, 0, 0, 0};
    check_reach(load, sizeof(load), 3);
    check_reach(store, sizeof(store), 2);
    check_reach(jump, sizeof(jump), 2);

    /* A call's jump stands behind the push, six bytes on. */
    static const uint8_t call[] = {0xff, 0x15, 0x10, 0, 0, 0};
    struct lw_displaced displaced;
    uint64_t highest = AT + 0x10 + TWO_GIB - 6;
    assert_int_equal(lw_instruction_displace(call, sizeof(call), AT, highest, &displaced), 0);
    assert_int_equal(lw_instruction_displace(call, sizeof(call), AT, highest + 1, &displaced),
                     -ERANGE);
}

/* Where a copy that is one jump leads to. */
static uint64_t jump_target(const struct lw_displaced *displaced, uint64_t to, unsigned *length)
{
    struct lw_instruction jump;
    uint64_t target;
    assert_true(lw_instruction_decode(displaced->code, displaced->size, to, &jump));
    *length = jump.length;
    if (jump.flow == LW_FLOW_JUMP) {
        assert_int_equal(displaced->size, jump.length);
        return jump.target;
    }
    assert_int_equal(jump.flow, LW_FLOW_JUMP_INDIRECT);
    assert_true(jump.slot == to + jump.length);
    assert_int_equal(displaced->size, jump.length + sizeof(target));
    memcpy(&target, displaced->code + jump.length, sizeof(target));
    return target;
}

/* A jump is short where it can be, and reaches its target from everywhere. */
static void test_jumps_from_near_and_far(void **state)
{
    (void)state;
    static const uint8_t code[] = {0xe9, 0, 1, 0, 0};
    const uint64_t target = AT + 0x105;
    const struct {
        uint64_t to;
        unsigned length;
    } cases[] = {
        {AT + 0x1000, 5},          {target - 5 - INT32_MAX, 5},   {target - 5 - INT32_MAX - 1, 6},
        {target - 5 + TWO_GIB, 5}, {target - 5 + TWO_GIB + 1, 6}, {0x7fff00000000, 6},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct lw_displaced displaced;
        unsigned length;
        assert_int_equal(lw_instruction_displace(code, sizeof(code), AT, cases[i].to, &displaced),
                         0);
        assert_true(jump_target(&displaced, cases[i].to, &length) == target);
        assert_int_equal(length, cases[i].length);
        assert_int_equal(displaced.rewind_count, 1);
        assert_true(displaced.rewind[0].offset == 0 && displaced.rewind[0].address == AT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flow),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_no_instruction),
        cmocka_unit_test(test_breakpoint_instruction),
        cmocka_unit_test(test_what_cannot_be_displaced),
        cmocka_unit_test(test_reach_of_a_copy),
        cmocka_unit_test(test_jumps_from_near_and_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
