/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's unwinding of stacks that were made by hand: by rows of each kind, within bounds, and
 * the same with and without what it remembers. */
#include "fake_stack.h"

#include <unistd.h>

static struct fake_stack fake, other;

static int set_up(void **state)
{
    int result = make_memory(state);
    agent_control.tid_offset = find_tid_offset((uint32_t)gettid());
    site = (struct lw_agent_site){.gate = (uint64_t)give_block, .entry = ENTRY};
    create_stack(&fake);
    create_stack(&other);
    make_rows();
    publish_rows();
    publish_stacks(&fake, &other);
    return result;
}

static int tear_down(void **state)
{
    destroy_stack(&fake);
    destroy_stack(&other);
    return free_memory(state);
}

#define unwind_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

static struct lw_agent_thread *this_thread(void)
{
    return agent_register(thread_pointer());
}

/* ---- what is to be found ---- */

/* Of a stack, the function itself, the call of it at `pc`, and the frames. */
static void assert_stack(uint32_t number, uint64_t pc, bool cut)
{
    const struct lw_agent_stack *found = &shared->stacks[number];
    const uint64_t *words = &shared->stack_words[found->first];
    const uint32_t total = 2 + fake.word_count, limit = agent_control.depth;
    const uint32_t depth = total < limit ? total : limit;
    assert_true(number >= LW_AGENT_FIRST_STACK);
    assert_int_equal(found->depth, depth);
    assert_int_equal(found->truncated, cut || total > limit);
    assert_int_equal(words[0], ENTRY | LW_AGENT_EXACT_PC);
    assert_int_equal(words[1], pc);
    for (uint32_t i = 2; i < depth; i++)
        assert_int_equal(words[i], fake.words[fake.word_count + 1 - i]);
}

/* An allocation here finds this stack, plainly and by the wrapper, again and again. */
static void assert_found_at(uint64_t pc, bool cut)
{
    const uint64_t sp = call_allocator(&fake, pc), fp = fake.fp;
    uint64_t plain = agent_unwind_plainly(this_thread(), (const uint64_t *)sp, fp, &site);
    assert_stack((uint32_t)plain, pc, cut);
    assert_int_equal(plain / AGENT_TRUNCATED, shared->stacks[(uint32_t)plain].truncated);
    for (int i = 0; i < 3; i++)
        assert_int_equal(record_at(sp, fp), (uint32_t)plain);
    assert_int_equal(this_thread()->mismatches, 0);
}

static void assert_found(void)
{
    assert_found_at(call_site(&fake, fake.function), false);
}

/* ---- rows of each kind ---- */

static void test_each_kind(void **state)
{
    (void)state;
    assert_found();
    for (enum function outer = 0; outer < CALLABLE; outer++)
        for (enum function middle = 0; middle < CALLABLE; middle++)
            for (enum function inner = 0; inner < CALLABLE; inner++) {
                call_function(&fake, outer);
                call_function(&fake, middle);
                call_function(&fake, inner);
                assert_found();
                return_from_function(&fake);
                assert_found();
                return_from_function(&fake);
                return_from_function(&fake);
            }
}

/* Where there is no function without a caller, the outermost return address is 0. */
static void test_ends_at_zero(void **state)
{
    (void)state;
    for (enum function function = 0; function < CALLABLE; function++) {
        const uint64_t sp = fake.sp = fake.high;
        write_word(sp - 8, 0);
        begin_function(&fake, function, sp);
        assert_found();
        call_function(&fake, SMALL);
        assert_found();
        return_from_function(&fake);
    }
}

static void test_no_row(void **state)
{
    (void)state;
    call_function(&fake, FRAMED);
    fake.word_count = 0; /* they are not found */
    call_from(&fake, SAVES, CODE + UNKNOWN * CODE_SIZE + 16);
    call_function(&fake, LARGE);
    assert_found_at(call_site(&fake, LARGE), true);
}

/* Between two modules, and below all of them: code made at run time keeps a frame pointer. */
static void test_foreign_code(void **state)
{
    (void)state;
    static const uint64_t places[] = {CODE - 4096, CODE + FUNCTIONS * CODE_SIZE + 1, 1ull << 46};
    for (unsigned i = 0; i < 3; i++) {
        call_function(&fake, SAVES);
        call_function(&fake, FRAMED); /* as if it were the foreign function */
        const uint32_t requests = shared->row_requests;
        call_from(&fake, SMALL, places[i]);
        assert_found();
        assert_true(shared->row_requests > requests);
    }
    fake.word_count = 0;
    call_from(&fake, SMALL, 0xfff0); /* nothing is mapped there */
    assert_found_at(call_site(&fake, SMALL), true);
}

static uint64_t linkage_pc(uint64_t instruction)
{
    return CODE + LINKAGE * CODE_SIZE + 32 + instruction;
}

static void test_signals(void **state)
{
    (void)state;
    for (enum function interrupted = 0; interrupted < CALLABLE; interrupted++) {
        call_function(&fake, VARIABLE);
        call_function(&fake, interrupted);
        /* the very first instruction: not the one before it, which is another function's */
        interrupt_at(&fake, CODE + interrupted * CODE_SIZE, SAVES, fake.sp);
        assert_found();
        call_function(&fake, FRAMED);
        assert_found();
    }
}

/* The handler runs on a stack of its own, above or below the one that it interrupted. */
static void test_signal_stack(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        call_function(&fake, FRAMED);
        call_function(&fake, SAVES);
        interrupt_at(&fake, CODE + SAVES * CODE_SIZE + 40, LARGE, other.high - 16);
        call_function(&fake, FRAMED);
        assert_found();
        while (fake.frame_count > 0)
            return_from_function(&fake);
        const struct fake_stack swapped = fake;
        fake = other;
        other = swapped;
    }
}

static void test_linkage(void **state)
{
    (void)state;
    call_function(&fake, FRAMED);
    const uint64_t pc = call_site(&fake, FRAMED);
    /* Called: only its return address has been pushed. Later, the relocation's number too. */
    for (uint64_t pushed = 0; pushed < 2; pushed++) {
        const uint64_t sp = fake.sp;
        remember_frame(&fake);
        write_word(sp - 8, pc);
        add_word(&fake, pc);
        fake.sp = sp - 8 - 8 * pushed;
        interrupt_at(&fake, linkage_pc(pushed ? 11 : 6), SMALL, fake.sp);
        assert_found();
        return_from_function(&fake);
        return_from_function(&fake);
    }
}

/* ---- limits ---- */

static void test_depths(void **state)
{
    (void)state;
    static const uint32_t depths[] = {2, 3, 8, 64, 300, LW_AGENT_DEPTH_MAX};
    for (unsigned i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        agent_control.depth = depths[i];
        shared->version++;
        this_thread()->last_depth = 0;
        while (fake.frame_count < 1200) {
            call_function(&fake, (enum function)(draw(&fake) % REALIGNED));
            if (fake.frame_count < 20 || fake.frame_count % 100 > 90)
                assert_found();
        }
        while (fake.frame_count > 0)
            return_from_function(&fake);
    }
}

/* What is no stack ends there, and nothing beyond is read: the guards would tell. */
static void test_beyond_the_stack(void **state)
{
    (void)state;
    const uint64_t pc = CODE + FRAMED * CODE_SIZE + 16;
    const uint64_t outside[] = {0,
                                8,
                                fake.low - 8,
                                fake.low - 16,
                                fake.high - 8,
                                fake.high,
                                fake.high + 8,
                                fake.low + 4,
                                UINT64_MAX,
                                UINT64_MAX - 15,
                                1ull << 63};
    fake.word_count = 0;
    for (unsigned i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        fake.fp = outside[i];
        fake.function = FRAMED;
        assert_found_at(pc, true);
        assert_found_at(CODE + REALIGNED * CODE_SIZE + 16, true);
        assert_found_at(CODE - 64, true);
    }
    /* a CFA that may be read, and a saved frame pointer that may not */
    write_word(fake.high - 8, fake.high - 32);
    fake.fp = fake.high;
    assert_found_at(CODE + REALIGNED * CODE_SIZE + 16, true);
    /* at the very end of the stack */
    fake.sp = fake.high;
    assert_found_at(CODE + SMALL * CODE_SIZE + 16, true);
    assert_found_at(CODE + SAVES * CODE_SIZE + 16, true);
    assert_found_at(CODE + RESTORER * CODE_SIZE + 16, true);
}

/* What lies there may look like a signal's context, and lead anywhere. */
static void test_made_up_contexts(void **state)
{
    (void)state;
    const uint64_t restorer = CODE + RESTORER * CODE_SIZE + 16;
    const uint64_t places[] = {fake.low - 4096, fake.high + 4096,          8,
                               UINT64_MAX,      thread_pointer() - 40,     fake.low - GUARD + 16,
                               1ull << 47,      thread_pointer() - 1048576};
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        create_stack(&fake);
        publish_stacks(&fake, NULL);
        fake.sp -= 1024;
        write_word(fake.sp + CONTEXT_SP, places[i] & ~7ull);
        write_word(fake.sp + CONTEXT_FP, places[i] & ~7ull);
        write_word(fake.sp + CONTEXT_PC, CODE + SMALL * CODE_SIZE + 16);
        const uint64_t sp = call_allocator(&fake, restorer);
        uint64_t stack = agent_unwind_plainly(this_thread(), (const uint64_t *)sp, 0, &site);
        assert_int_equal(stack / AGENT_TRUNCATED, 1);
        destroy_stack(&fake);
    }
    create_stack(&fake);
}

/* ---- what is remembered ---- */

/* New rows mean new stacks, whatever was remembered. */
static void test_new_rows(void **state)
{
    (void)state;
    call_function(&fake, FRAMED);
    call_function(&fake, SMALL);
    assert_found();
    call_function(&fake, SMALL);
    const uint64_t pc = call_site(&fake, SMALL), sp = call_allocator(&fake, pc);
    uint32_t before = record_at(sp, fake.fp);
    assert_int_equal(record_at(sp, fake.fp), before);
    rows[SMALL] = 0;
    publish_rows();
    uint32_t after = record_at(sp, fake.fp);
    assert_int_not_equal(after, before);
    assert_int_equal(shared->stacks[after].depth, 2);
    assert_int_equal(shared->stacks[after].truncated, 1);
    assert_int_equal(this_thread()->mismatches, 0);
}

/* A program runs: it calls and returns, is interrupted now and then, and allocates. */
static void run_program(uint32_t steps, enum function functions, bool signals)
{
    for (uint32_t i = 0; i < steps; i++) {
        uint64_t r = draw(&fake);
        uint32_t returns = (uint32_t)(r >> 8) % 4, calls = (uint32_t)(r >> 16) % 4;
        if (r % 50 == 0)
            returns = fake.frame_count / 2;
        for (; returns > 0 && fake.frame_count > 0; returns--)
            return_from_function(&fake);
        for (; calls > 0 && fake.frame_count < 150; calls--)
            call_function(&fake, (enum function)(draw(&fake) % functions));
        if (signals && r % 97 == 0 && fake.function != FIRST)
            interrupt_at(&fake, CODE + fake.function * CODE_SIZE + r / 97 % CODE_SIZE, SAVES,
                         fake.sp);
        const uint64_t pc = call_site(&fake, fake.function), sp = call_allocator(&fake, pc);
        assert_stack(record_at(sp, fake.fp), pc, false);
        if (r % 3 == 0)
            assert_stack(record_at(sp, fake.fp), pc, false);
    }
}

static void test_programs(void **state)
{
    (void)state;
    static const uint32_t depths[] = {64, 12, 200};
    const struct lw_agent_thread *thread = this_thread();
    for (unsigned i = 0; i < 3; i++) {
        agent_control.depth = depths[i];
        shared->version++;
        this_thread()->last_depth = 0;
        run_program(60000, REALIGNED, false);
        run_program(20000, SAVES, false);
        run_program(20000, CALLABLE, true);
        while (fake.frame_count > 0)
            return_from_function(&fake);
    }
    assert_int_equal(thread->mismatches, 0);
    assert_true(thread->merges > 50000);
    assert_true(thread->calls - thread->memo_misses > 50000);
    assert_int_equal(shared->no_stack, 0);
}

/* Mostly what a stack holds: code, and places on the stack; now and then anything. */
static uint64_t any_word(void)
{
    uint64_t r = draw(&fake), inside = fake.low + (r >> 20) % STACK_SIZE / 8 * 8;
    switch (r % 64) {
    case 0:
        return 0;
    case 1:
        return r;
    case 2:
        return inside + r % 8;
    case 3:
        return fake.high + (r >> 10) % 8192;
    case 4:
        return fake.low - (r >> 10) % 8192;
    case 5:
        return CODE + (r >> 10) % (FUNCTIONS * CODE_SIZE);
    case 6:
    case 7:
        return CODE + FIRST * CODE_SIZE + 16;
    default:
        return r % 8 < 2 ? fake.high - (r >> 20) % 400 * 8
                         : CODE + (r >> 10) % (REALIGNED * CODE_SIZE);
    }
}

/*
 * Anything on the stack, which changes a little from one allocation to the next: whatever the
 * unwinding makes of it, it makes the same with and without what it remembers, and within bounds.
 */
static void test_garbage(void **state)
{
    (void)state;
    enum { WORDS = 400 };
    struct lw_agent_thread *thread = this_thread();
    uint64_t *words = (uint64_t *)(fake.high - WORDS * 8), fp = 0;
    for (uint32_t round = 0; round < 3000; round++) {
        for (uint32_t i = 0; i < WORDS; i++)
            words[i] = any_word();
        for (uint32_t i = 0; i < 100; i++) {
            uint64_t r = draw(&fake);
            for (; r % 2 != 0; r /= 2)
                words[draw(&fake) % WORDS] = any_word();
            if (r % 7 == 0)
                fp = any_word();
            words[i % 3 * 2] = CODE + (r >> 50) % 3 * CODE_SIZE + 16;
            (void)record_at((uint64_t)&words[i % 3 * 2], fp);
        }
    }
    assert_int_equal(thread->mismatches, 0);
    assert_true(thread->merges > 1000);
    assert_true(thread->calls - thread->memo_misses > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        unwind_test(test_each_kind),        unwind_test(test_ends_at_zero),
        unwind_test(test_no_row),           unwind_test(test_foreign_code),
        unwind_test(test_signals),          unwind_test(test_signal_stack),
        unwind_test(test_linkage),          unwind_test(test_depths),
        unwind_test(test_beyond_the_stack), unwind_test(test_made_up_contexts),
        unwind_test(test_new_rows),         unwind_test(test_programs),
        unwind_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
