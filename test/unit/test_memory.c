/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading and writing the memory of a child process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/target/memory.h"

#define PAGE 4096

/* Four pages that the child inherits: data, data, read-only, none. */
struct fixture {
    unsigned char *pages;
    pid_t child;
    struct lw_process_memory memory;
};

static uint64_t address_of(const struct fixture *fixture, size_t offset)
{
    return (uint64_t)(uintptr_t)(fixture->pages + offset);
}

static int setup(void **state)
{
    static struct fixture fixture;
    fixture.pages =
        mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(fixture.pages != MAP_FAILED);
    for (size_t i = 0; i < 4 * PAGE; i++)
        fixture.pages[i] = (unsigned char)(i * 7 + i / PAGE);
    assert_int_equal(mprotect(fixture.pages + 2 * PAGE, PAGE, PROT_READ | PROT_EXEC), 0);
    assert_int_equal(munmap(fixture.pages + 3 * PAGE, PAGE), 0);
    fixture.child = fork();
    assert_true(fixture.child >= 0);
    if (fixture.child == 0) {
        alarm(30);
        for (;;)
            pause();
    }
    lw_error *error = lw_process_memory_init(&fixture.memory, fixture.child);
    if (error != NULL)
        fail_msg("%s", lw_error_message(error));
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    lw_process_memory_deinit(&fixture->memory);
    kill(fixture->child, SIGKILL);
    waitpid(fixture->child, NULL, 0);
    munmap(fixture->pages, 3 * PAGE);
    return 0;
}

static void test_reads(void **state)
{
    struct fixture *fixture = *state;
    struct lw_memory *memory = &fixture->memory.memory;
    unsigned char bytes[2 * PAGE];
    assert_int_equal(memory->read(memory, address_of(fixture, 100), bytes, 5000), 5000);
    assert_memory_equal(bytes, fixture->pages + 100, 5000);
    assert_int_equal(memory->read(memory, address_of(fixture, 0), bytes, 0), 0);
}

static void test_a_read_ends_at_the_edge(void **state)
{
    struct fixture *fixture = *state;
    struct lw_memory *memory = &fixture->memory.memory;
    unsigned char bytes[2 * PAGE];
    uint64_t edge = address_of(fixture, 3 * PAGE - 10);
    assert_int_equal(memory->read(memory, edge, bytes, PAGE), 10);
    assert_memory_equal(bytes, fixture->pages + 3 * PAGE - 10, 10);
    assert_int_equal(lw_memory_read_all(memory, edge, bytes, 10), 0);
    assert_int_equal(lw_memory_read_all(memory, edge, bytes, 11), -EFAULT);
    assert_int_equal(memory->read(memory, edge + 10, bytes, 1), -EFAULT);
}

static void test_wild_addresses_fail(void **state)
{
    struct fixture *fixture = *state;
    struct lw_memory *memory = &fixture->memory.memory;
    static const uint64_t wild[] = {0, 1, UINT64_MAX, 1ull << 63, 1ull << 47, UINT64_MAX - 4095};
    unsigned char bytes[64];
    for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
        assert_int_equal(memory->read(memory, wild[i], bytes, sizeof(bytes)), -EFAULT);
        assert_int_equal(lw_memory_write(memory, wild[i], "x", 1), -EFAULT);
    }
}

static void test_writes_data_and_code(void **state)
{
    struct fixture *fixture = *state;
    struct lw_memory *memory = &fixture->memory.memory;
    unsigned char bytes[8];
    uint64_t code = address_of(fixture, 2 * PAGE - 4); /* into the read-only page */
    assert_int_equal(lw_memory_write(memory, code, "\xccleaks!", 8), 0);
    assert_int_equal(lw_memory_read_all(memory, code, bytes, 8), 0);
    assert_memory_equal(bytes, "\xccleaks!", 8);
    assert_int_equal(fixture->pages[2 * PAGE], (unsigned char)(2 * PAGE * 7 + 2)); /* ours is not */
    assert_int_equal(lw_memory_write(memory, address_of(fixture, 3 * PAGE - 1), "ab", 2), -EFAULT);
}

static void test_a_process_that_is_gone(void **state)
{
    struct fixture *fixture = *state;
    struct lw_memory *memory = &fixture->memory.memory;
    unsigned char byte;
    kill(fixture->child, SIGKILL);
    assert_int_equal(waitpid(fixture->child, NULL, 0), fixture->child);
    assert_int_equal(memory->read(memory, address_of(fixture, 0), &byte, 1), -ESRCH);
    assert_int_equal(lw_memory_write(memory, address_of(fixture, 0), "x", 1), -ESRCH);

    struct lw_process_memory again;
    lw_error *error = lw_process_memory_init(&again, fixture->child);
    assert_non_null(error);
    assert_int_equal(lw_error_code(error), ESRCH);
    lw_error_destroy(error);
    lw_process_memory_deinit(&again);
}

/* From now on, process_vm_readv fails here with EPERM. */
static bool forbid_vm_readv(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a child, which reports by its exit code: a filter is for ever. */
static int read_without_vm_readv(struct fixture *fixture)
{
    struct lw_memory *memory = &fixture->memory.memory;
    unsigned char bytes[PAGE];
    uint64_t edge = address_of(fixture, 3 * PAGE - 10);
    if (!forbid_vm_readv())
        return 77;
    if (memory->read(memory, address_of(fixture, 50), bytes, 100) != 100 ||
        memcmp(bytes, fixture->pages + 50, 100) != 0)
        return 1;
    if (memory->read(memory, edge, bytes, PAGE) != 10)
        return 2;
    if (memory->read(memory, edge + 10, bytes, 1) != -EFAULT ||
        memory->read(memory, UINT64_MAX, bytes, 1) != -EFAULT)
        return 3;
    kill(fixture->child, SIGKILL);
    for (int i = 0; i < 1000; i++) { /* not our child: it is the parent that waits for it */
        if (memory->read(memory, edge, bytes, 1) == -ESRCH)
            return 0;
        usleep(1000);
    }
    return 4;
}

static void test_falls_back_to_the_mem_file(void **state)
{
    struct fixture *fixture = *state;
    int status;
    pid_t reader = fork();
    assert_true(reader >= 0);
    if (reader == 0)
        _exit(read_without_vm_readv(fixture));
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Gives at most three bytes at a time, up to address 10. */
static ssize_t short_read(struct lw_memory *memory, uint64_t address, void *buffer, size_t size)
{
    (void)memory;
    if (address >= 10)
        return address == 10 ? 0 : -EIO;
    size = size < 3 ? size : 3;
    memset(buffer, (int)address, size);
    return (ssize_t)size;
}

static void test_read_all_goes_on_after_short_reads(void **state)
{
    (void)state;
    struct lw_memory memory = {.read = short_read};
    unsigned char bytes[16];
    assert_int_equal(lw_memory_read_all(&memory, 1, bytes, 9), 0);
    assert_memory_equal(bytes, "\1\1\1\4\4\4\7\7\7", 9);
    assert_int_equal(lw_memory_read_all(&memory, 1, bytes, 10), -EFAULT);
    assert_int_equal(lw_memory_read_all(&memory, 12, bytes, 1), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_read_ends_at_the_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wild_addresses_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writes_data_and_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_process_that_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_falls_back_to_the_mem_file, setup, teardown),
        cmocka_unit_test(test_read_all_goes_on_after_short_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
