/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of system calls, made at one go by a program in the target or one by one: the results are
 * the same. */
#include "remote_child.h"

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "leakwatch/arch/remote_program.h"

/* How many copies of the program are in the child's executable mappings. */
static unsigned count_programs(struct fixture *fixture)
{
    char path[64], line[512];
    unsigned count = 0;
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)fixture->child);
    FILE *maps = fopen(path, "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long start, end;
        uint8_t page[4096];
        if (sscanf(line, "%lx-%lx r-x", &start, &end) != 2 || !strstr(line, " r-xp "))
            continue;
        /* It is in the padding of the last page, if anywhere. */
        if (lw_memory_read_all(&fixture->memory.memory, end - sizeof(page), page, sizeof(page)))
            continue;
        count += memmem(page, sizeof(page), lw_remote_program_code, LW_REMOTE_PROGRAM_SIZE) != NULL;
    }
    fclose(maps);
    return count;
}

static void test_results_of_a_list(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < LENGTH(kinds); i++) {
        start(fixture, &kinds[i]);
        for (int n = 0; n < 20; n++) {
            const uint64_t size = 8192;
            uint64_t anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
            struct lw_remote_request requests[] = {
                {.number = SYS_mmap, .arguments = {0, size, PROT_READ, anonymous, UINT64_MAX}},
                {.number = SYS_madvise, .arguments = {0, size, MADV_DONTFORK}, .first_plus = 1},
                {.number = SYS_madvise, .arguments = {1}, .first_plus = 1, .may_fail = true},
                {.number = SYS_mmap,
                 .arguments = {4096, 4096, PROT_READ, anonymous | MAP_FIXED, UINT64_MAX},
                 .first_plus = 1,
                 .is_fixed = true},
                {.number = SYS_munmap, .arguments = {0, size}, .first_plus = 1},
                {.number = SYS_getpid},
            };
            struct lw_remote_call *call = begin(fixture);
            assert_int_equal(count_programs(fixture), 1);
            assert_int_equal(lw_remote_call_make_all(call, requests, LENGTH(requests)), 0);
            assert_true(requests[0].result > 0);
            assert_int_equal(requests[1].result, 0);
            assert_int_equal(requests[2].result, -EINVAL);
            assert_int_equal(requests[3].result, requests[0].result + 4096);
            assert_int_equal(requests[4].result, 0);
            assert_int_equal(requests[5].result, fixture->child);
            end(call);
            assert_int_equal(count_programs(fixture), 0);
            if (n % 4 == 0)
                feed(fixture, kinds[i].body);
        }
        unsigned rounds = board->rounds;
        feed(fixture, kinds[i].body);
        assert_true(pump(fixture, 5000, &board->rounds, rounds + 1));
        expect_no_harm(kinds[i].name);
        fixture_kill(fixture);
    }
}

static void test_an_error_ends_it(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[0]);
    struct lw_remote_call *call = begin(fixture);
    struct lw_remote_request failing[] = {
        {.number = SYS_getpid},
        {.number = SYS_munmap, .arguments = {1, 4096}},
        {.number = SYS_getpid},
    };
    assert_int_equal(lw_remote_call_make_all(call, failing, LENGTH(failing)), 0);
    assert_int_equal(failing[0].result, fixture->child);
    assert_int_equal(failing[1].result, -EINVAL);
    assert_int_equal(failing[2].result, -ECANCELED);
    /* What is mapped elsewhere than was asked for is no error of the kernel's. */
    struct lw_remote_request elsewhere[] = {
        {.number = SYS_mmap,
         .arguments = {4096 * 1024, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX},
         .is_fixed = true},
        {.number = SYS_getpid},
    };
    elsewhere[0].arguments[0] += 1; /* a hint that is rounded */
    assert_int_equal(lw_remote_call_make_all(call, elsewhere, LENGTH(elsewhere)), 0);
    assert_true(elsewhere[0].result > 0);
    assert_int_equal(elsewhere[1].result, -ECANCELED);
    assert_int_equal(make(call, SYS_munmap, (uint64_t)elsewhere[0].result, 4096, 0, 0), 0);
    assert_int_equal(lw_remote_call_make_all(call, NULL, 0), 0);
    end(call);
    assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 5));
    expect_no_harm("an error");
    fixture_kill(fixture);
}

struct flood {
    pid_t child;
    _Atomic bool over;
};

static void *send_signals(void *argument)
{
    struct flood *flood = argument;
    while (!flood->over)
        kill(flood->child, SIGURG);
    return NULL;
}

/* Uncaught, it has no effect on the thread; it is not taken for the program's end. */
static void test_the_same_signal_from_elsewhere(void **state)
{
    struct fixture *fixture = *state;
    pthread_t thread;
    struct flood flood = {0};
    start(fixture, &kinds[2]);
    flood.child = fixture->child;
    assert_int_equal(pthread_create(&thread, NULL, send_signals, &flood), 0);
    for (int n = 0; n < REPETITIONS; n++) {
        struct lw_remote_request requests[20];
        for (size_t i = 0; i < LENGTH(requests); i++)
            requests[i] = (struct lw_remote_request){.number = SYS_getpid};
        struct lw_remote_call *call = begin(fixture);
        assert_int_equal(lw_remote_call_make_all(call, requests, LENGTH(requests)), 0);
        end(call);
        for (size_t i = 0; i < LENGTH(requests); i++)
            assert_int_equal(requests[i].result, fixture->child);
    }
    flood.over = true;
    pthread_join(thread, NULL);
    assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 5));
    expect_no_harm("SIGURG");
    fixture_kill(fixture);
}

/* ---- the signal that ends the program is refused ---- */

static struct sock_filter no_tkill[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tkill, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
static struct sock_filter neither_may_wait[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tkill, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
/* The child has all this at the same addresses. */
static const struct sock_fprog filters[] = {{LENGTH(no_tkill), no_tkill},
                                            {LENGTH(neither_may_wait), neither_may_wait}};

/* As a security module does it: the thread has been borrowed, so it did not filter its calls. The
 * filter is there at the end of this program already. */
static int filter_calls(struct lw_remote_call *call, size_t filter)
{
    struct lw_remote_request requests[] = {
        {.number = SYS_prctl, .arguments = {PR_SET_NO_NEW_PRIVS, 1}},
        {.number = SYS_seccomp,
         .arguments = {SECCOMP_SET_MODE_FILTER, 0, (uint64_t)(uintptr_t)&filters[filter]}},
    };
    return lw_remote_call_make_all(call, requests, LENGTH(requests));
}

static void test_the_signal_is_refused(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < LENGTH(kinds); i += 3) {
        struct lw_remote_request requests[] = {
            {.number = SYS_getpid}, {.number = SYS_munmap, .arguments = {1, 4096}}, {.number = 1}};
        start(fixture, &kinds[i]);
        struct lw_remote_call *call = begin(fixture);
        assert_int_equal(filter_calls(call, 0), 0);
        for (int n = 0; n < 2; n++) {
            assert_int_equal(lw_remote_call_make_all(call, requests, LENGTH(requests)), 0);
            assert_int_equal(requests[0].result, fixture->child);
            assert_int_equal(requests[1].result, -EINVAL);
            assert_int_equal(requests[2].result, -ECANCELED);
        }
        end(call);
        assert_int_equal(count_programs(fixture), 0);
        unsigned rounds = board->rounds;
        feed(fixture, kinds[i].body);
        assert_true(pump(fixture, 5000, &board->rounds, rounds + 1));
        expect_no_harm(kinds[i].name);
        fixture_kill(fixture);
    }
}

/* Then the thread is on its way again before we can stop it: that is told. */
static void test_nor_may_it_wait(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[0]);
    struct lw_remote_call *call = begin(fixture);
    assert_int_equal(filter_calls(call, 1), one_by_one ? 0 : -EPERM);
    assert_int_equal(lw_remote_call_end(call, NULL), one_by_one ? 0 : -ESRCH);
    assert_int_equal(count_programs(fixture), 0);
    assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 5));
    expect_no_harm("no signal");
    fixture_kill(fixture);
}

/* The assembler cannot check this. */
static void test_the_wait_is_where_the_header_says(void **state)
{
    (void)state;
    static const uint8_t system_call[] = {0x0f, 0x05};
    assert_memory_equal(lw_remote_program_code + LW_REMOTE_PROGRAM_REST - sizeof(system_call),
                        system_call, sizeof(system_call));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results_of_a_list),
        cmocka_unit_test(test_an_error_ends_it),
        cmocka_unit_test(test_the_same_signal_from_elsewhere),
        cmocka_unit_test(test_the_wait_is_where_the_header_says),
        cmocka_unit_test(test_the_signal_is_refused),
        cmocka_unit_test(test_nor_may_it_wait),
    };
    int failed = cmocka_run_group_tests(tests, setup_board, teardown_board);
    one_by_one = true;
    return failed + cmocka_run_group_tests(tests, setup_board, teardown_board);
}
