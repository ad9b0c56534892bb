/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The unwinder, on the stacks of stopped children and on stacks that are nothing but noise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stopped_child.h"

/* ---- What the children run at the end of their chain of calls. ---- */

KEPT static void recurse(int depth)
{
    if (depth == 0)
        raise(SIGSTOP);
    else
        recurse(depth - 1);
    NOT_THE_END;
}

static void recurse_deeply(void)
{
    recurse(10000);
    NOT_THE_END;
}

extern const char interrupted_here[];
KEPT static void be_interrupted(void)
{
    __asm__ volatile(".globl interrupted_here\ninterrupted_here: ud2");
    NOT_THE_END;
}

KEPT static void on_signal(int signal)
{
    (void)signal;
    raise(SIGSTOP);
    NOT_THE_END;
}

static void handle_signal(int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(SIGILL, &action, NULL);
    be_interrupted();
    NOT_THE_END;
}

static void handle_on_this_stack(void)
{
    handle_signal(0);
    NOT_THE_END;
}

static void handle_on_other_stack(void)
{
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof(memory)};
    sigaltstack(&stack, NULL);
    handle_signal(SA_ONSTACK);
    NOT_THE_END;
}

static void *generate_code(const void *code, size_t size)
{
    void *memory =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        _exit(1);
    memcpy(memory, code, size);
    return memory;
}

/* As handle_signal, with a trampoline of our own that has no call-frame information. */
static void handle_with_own_trampoline(void)
{
    /* mov $15,%rax; syscall */
    void *trampoline = generate_code("\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05", 9);
    const struct {
        void (*handler)(int);
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {on_signal, 0x04000000 /* SA_RESTORER */, trampoline, 0};
    syscall(SYS_rt_sigaction, SIGILL, &action, NULL, 8);
    be_interrupted();
    NOT_THE_END;
}

static void call_null(void)
{
    leaf_function *volatile none = NULL;
    none();
    NOT_THE_END;
}

static void use_vdso(void)
{
    struct timespec now;
    raise(SIGSTOP);
    clock_gettime(CLOCK_MONOTONIC, &now);
    (void)drand48(); /* is bound now, unless the test is linked otherwise */
    raise(SIGSTOP);
}

static void *run_thread(void *unused)
{
    be_traced();
    f1(stop_here);
    return unused;
}

static void start_thread(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_thread, NULL) == 0)
        pthread_join(thread, NULL);
}

static void call_code_with_frames(void)
{
    /* push %rbp; mov %rsp,%rbp; sub $0x20,%rsp; call *%rdi; leave; ret */
    *(void **)&call_through = generate_code("\x55\x48\x89\xe5\x48\x83\xec\x20\xff\xd7\xc9\xc3", 12);
    f1(stop_here);
}

static void call_code_without_frames(void)
{
    /* push %rbp; mov $8,%ebp; call *%rdi; pop %rbp; ret */
    *(void **)&call_through = generate_code("\x55\xbd\x08\x00\x00\x00\xff\xd7\x5d\xc3", 10);
    f1(stop_here);
}

static void stop_at_entry_of_code(void)
{
    /* int3; ret */
    *(void **)&call_through = generate_code("\xcc\xc3", 2);
    f1(stop_here);
}

/* ---- The tests. ---- */

static void run_chain(void)
{
    f1(stop_here);
}

static void test_chain(void **state)
{
    (void)state;
    struct child *child = child_start(run_chain, SIGSTOP);
    child_unwind(child, 64);
    assert_false(child->frames[0].is_return);
    assert_int_equal(child->frames[0].pc, lw_registers_pc(&child->registers));
    assert_chain(child, "_start");
    assert_true(find_frame(child, "main") < child->count);

    size_t whole = child->count;
    child_unwind(child, whole);
    assert_int_equal(child->count, whole);
    assert_false(child->truncated);
    for (size_t max = 1; max < whole; max++) {
        child_unwind(child, max);
        assert_int_equal(child->count, max);
        assert_true(child->truncated);
    }
    lw_unwinder_flush(child->unwinder);
    child_unwind(child, 64);
    assert_int_equal(child->count, whole);
    assert_chain(child, "_start");
    child_end(child);
}

/* The file cannot be read: everything is found in the target's memory. */
static void test_no_image(void **state)
{
    (void)state;
    struct child *child = child_start(run_chain, SIGSTOP);
    struct lw_elf_image *images[256];
    size_t count = lw_module_table_count(child->modules);
    assert_in_range(count, 1, 256);
    for (uint32_t id = 1; id <= count; id++) {
        struct lw_module *module = (struct lw_module *)lw_module_table_get(child->modules, id);
        images[id - 1] = module->image;
        module->image = NULL;
    }
    child_unwind(child, 64);
    for (uint32_t id = 1; id <= count; id++)
        ((struct lw_module *)lw_module_table_get(child->modules, id))->image = images[id - 1];
    assert_chain(child, "_start");
    child_end(child);
}

static void run_handler(void)
{
    f1(handle_on_this_stack);
}

static void run_handler_without_table(void)
{
    f1(handle_with_own_trampoline);
}

static void run_handler_elsewhere(void)
{
    f1(handle_on_other_stack);
}

static void check_signal_frame(void (*body)(void))
{
    struct child *child = child_start(body, SIGILL);
    ptrace(PTRACE_CONT, child->pid, NULL, SIGILL);
    wait_for_stop(child, SIGSTOP);
    child_unwind(child, 64);
    assert_chain(child, "_start");
    size_t handler = find_frame(child, "on_signal"), interrupted = handler + 2;
    assert_true(interrupted < child->count);
    assert_false(child->frames[handler + 1].is_return); /* the trampoline */
    assert_false(child->frames[interrupted].is_return);
    assert_int_equal(child->frames[interrupted].pc, (uintptr_t)interrupted_here);
    assert_true(child->frames[interrupted + 1].is_return);
    child_end(child);
}

static void test_signal_handler(void **state)
{
    (void)state;
    check_signal_frame(run_handler);
    check_signal_frame(run_handler_elsewhere);
    check_signal_frame(run_handler_without_table);
}

static void test_thread(void **state)
{
    (void)state;
    struct child *child = child_start_thread(start_thread, SIGSTOP);
    child_unwind(child, 64);
    size_t first = find_frame(child, "f1");
    assert_string_equal(frame_function(child, first + 1), "run_thread");
    assert_true(child->count > first + 2);
    assert_false(child->truncated);
    assert_int_equal(find_frame(child, "main"), child->count);
    child_end(child);
}

static void run_recursion(void)
{
    f1(recurse_deeply);
}

static void test_recursion(void **state)
{
    (void)state;
    struct child *child = child_start(run_recursion, SIGSTOP);
    static const size_t maxima[] = {64, 1024};
    for (size_t i = 0; i < 2; i++) {
        child_unwind(child, maxima[i]);
        assert_int_equal(child->count, maxima[i]);
        assert_true(child->truncated);
        assert_string_equal(frame_function(child, maxima[i] - 1), "recurse");
    }
    child_unwind(child, MAX_FRAMES);
    assert_chain(child, "_start");
    size_t first = find_frame(child, "recurse");
    for (size_t i = 0; i <= 10000; i++)
        assert_string_equal(frame_function(child, first + i), "recurse");
    assert_string_equal(frame_function(child, first + 10002), "f5");
    child_end(child);
}

static void test_generated_code(void **state)
{
    (void)state;
    struct child *child = child_start(call_code_with_frames, SIGSTOP);
    child_unwind(child, 64);
    assert_false(child->truncated);
    size_t f4_at = find_frame(child, "f4");
    assert_string_equal(frame_function(child, f4_at + 1), "");
    assert_string_equal(frame_function(child, f4_at + 2), "f3");
    assert_string_equal(frame_function(child, child->count - 1), "_start");
    child_end(child);

    child = child_start(call_code_without_frames, SIGSTOP);
    child_unwind(child, 64);
    assert_true(child->truncated);
    assert_int_equal(find_frame(child, "f4") + 2, child->count);
    child_end(child);

    child = child_start(stop_at_entry_of_code, SIGTRAP);
    child_unwind(child, 64);
    assert_false(child->truncated);
    assert_int_equal(find_frame(child, "f3"), 1);
    assert_string_equal(frame_function(child, child->count - 1), "_start");
    child_end(child);
}

static void run_null(void)
{
    f1(call_null);
}

static void test_call_through_null(void **state)
{
    (void)state;
    struct child *child = child_start(run_null, SIGSEGV);
    assert_int_equal(lw_registers_pc(&child->registers), 0);
    child_unwind(child, 64);
    assert_string_equal(frame_function(child, 1), "call_null");
    assert_chain(child, "_start");
    child_end(child);
}

static void run_vdso(void)
{
    f1(use_vdso);
}

/* At every instruction of a system call made through the vdso, or without it. */
static void test_every_instruction(void **state)
{
    (void)state;
    struct child *child = child_start(run_vdso, SIGSTOP);
    size_t in_vdso = 0, steps = 0, own = 0, left_own = 0;
    bool has_vdso = false;
    for (uint32_t id = 1; id <= lw_module_table_count(child->modules); id++)
        has_vdso = has_vdso || lw_module_table_get(child->modules, id)->is_vdso;
    for (; steps < 20000; steps++) {
        int status;
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, child->pid, NULL, NULL), 0);
        assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
        assert_true(WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGSTOP)
            break;
        assert_int_equal(lw_registers_read(child->pid, &child->registers), 0);
        const struct lw_module *module =
            lw_module_table_find(child->modules, lw_registers_pc(&child->registers));
        assert_non_null(module);
        uint64_t left = lw_unwinder_left_to_libunwind(child->unwinder);
        child_unwind(child, 64);
        assert_chain(child, "_start");
        in_vdso += module->is_vdso;
        if (module->is_executable) { /* the linkage table is there too */
            left_own += lw_unwinder_left_to_libunwind(child->unwinder) - left;
            own++;
        }
    }
    assert_in_range(steps, 10, 19999);
    if (has_vdso)
        assert_true(in_vdso > 5);
    assert_true(own > 5);
    assert_int_equal(left_own, without_rows ? own : 0);
    child_end(child);
}

/* What is flushed is found again; rows are used for all of it, or for none. */
static void test_flush(void **state)
{
    (void)state;
    struct child *child = child_start(run_chain, SIGSTOP);
    lw_unwinder_prepare(child->unwinder);
    for (uint64_t i = 1; i <= 3; i++) {
        child_unwind(child, 64);
        assert_chain(child, "_start");
        assert_int_equal(lw_unwinder_left_to_libunwind(child->unwinder), without_rows ? i : 0);
        lw_unwinder_flush(child->unwinder);
    }
    child_end(child);
}

static void test_bad_registers(void **state)
{
    (void)state;
    struct child *child = child_start(run_chain, SIGSTOP);
    const struct lw_registers good = child->registers;
    static char not_code[64];
    const uint64_t bad_stacks[] = {0, 8, 0x1001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63, 0x10000};
    for (size_t i = 0; i < sizeof(bad_stacks) / sizeof(bad_stacks[0]); i++) {
        child->registers = good;
        lw_registers_set_sp(&child->registers, bad_stacks[i]);
        child_unwind(child, 64);
        assert_true(child->truncated);
        child->registers.native.rbp = bad_stacks[i];
        child_unwind(child, 64);
        assert_true(child->truncated);
    }
    const uint64_t bad_pcs[] = {0, 1, (uintptr_t)not_code, UINT64_MAX, 1ull << 63};
    for (size_t i = 0; i < sizeof(bad_pcs) / sizeof(bad_pcs[0]); i++) {
        child->registers = good;
        child->registers.native.rbp = 3;
        lw_registers_set_sp(&child->registers, (uintptr_t)not_code);
        lw_registers_set_pc(&child->registers, bad_pcs[i]);
        child_unwind(child, 64);
        assert_int_equal(child->count, 1);
        assert_int_equal(child->frames[0].pc, bad_pcs[i]);
        assert_true(child->truncated);
    }
    child_end(child);
}

/* ---- Noise. ---- */

struct noisy_memory {
    struct lw_memory memory;
    struct lw_memory *real;
    uint64_t stack, stack_end;     /* every word is random */
    uint64_t damaged, damaged_end; /* some bytes are */
    uint64_t code, code_end;       /* random words often point here */
    uint64_t random, reads;
};

static uint64_t next_random(struct noisy_memory *noise)
{
    noise->random ^= noise->random << 13;
    noise->random ^= noise->random >> 7;
    noise->random ^= noise->random << 17;
    return noise->random;
}

static uint64_t random_word(struct noisy_memory *noise)
{
    uint64_t r = next_random(noise);
    switch (next_random(noise) % 16) {
    case 0:
        return 0;
    case 1:
        return r;
    case 2:
    case 3:
        return noise->stack + r % (noise->stack_end - noise->stack);
    case 4:
        return (noise->stack + r % (noise->stack_end - noise->stack)) & ~7ull;
    default:
        return noise->code + r % (noise->code_end - noise->code);
    }
}

static ssize_t read_noise(struct lw_memory *memory, uint64_t address, void *buffer, size_t size)
{
    struct noisy_memory *noise = (struct noisy_memory *)memory;
    noise->reads++;
    if (address < noise->stack || address >= noise->stack_end) {
        ssize_t got = noise->real->read(noise->real, address, buffer, size);
        for (ssize_t i = 0; i < got; i++)
            if (address + i >= noise->damaged && address + i < noise->damaged_end &&
                next_random(noise) % 16 == 0)
                ((uint8_t *)buffer)[i] = (uint8_t)next_random(noise);
        return got;
    }
    if (size > noise->stack_end - address)
        size = noise->stack_end - address;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = random_word(noise);
        memcpy((char *)buffer + i, &word, size - i < 8 ? size - i : 8);
    }
    return (ssize_t)size;
}

static void make_noise(struct child *child, struct noisy_memory *noise)
{
    *noise = (struct noisy_memory){.memory.read = read_noise,
                                   .real = &child->memory.memory,
                                   .stack = 0x7000000000,
                                   .stack_end = 0x7000000000 + (1 << 20),
                                   .random = 88172645463325252ull};
    lw_unwinder_destroy(child->unwinder);
    lw_module_table_destroy(child->modules);
    attach_unwinder(child, &noise->memory);
    const struct lw_module *libc =
        lw_module_table_find(child->modules, lw_registers_pc(&child->registers));
    assert_non_null(libc);
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(libc->image, &count);
    for (size_t i = 0; i < count; i++) {
        if (!segments[i].executable)
            continue;
        noise->code = libc->bias + segments[i].address;
        noise->code_end = noise->code + segments[i].memory_size;
    }
    assert_true(noise->code_end > noise->code);
}

static void test_random_stacks(void **state)
{
    (void)state;
    struct child *child = child_start(run_chain, SIGSTOP);
    struct noisy_memory noise;
    make_noise(child, &noise);
    size_t frames = 0;
    for (int i = 0; i < 2000; i++) {
        uint64_t *words = (uint64_t *)&child->registers.native;
        for (size_t j = 0; j < sizeof(child->registers.native) / sizeof(uint64_t); j++)
            words[j] = random_word(&noise);
        if (i % 4 != 0) { /* at least the first step succeeds */
            lw_registers_set_sp(&child->registers, noise.stack + next_random(&noise) % 4096 * 8);
            lw_registers_set_pc(&child->registers,
                                noise.code + next_random(&noise) % (noise.code_end - noise.code));
        }
        noise.reads = 0;
        child_unwind(child, 1 + next_random(&noise) % 256);
        frames += child->count;
        assert_in_range(noise.reads, 1, 10000);
    }
    assert_true(frames > 4000); /* otherwise this tries nothing */
    child_end(child);
}

/* Call-frame information that is wrong in every sixteenth byte. */
static void test_damaged_tables(void **state)
{
    (void)state;
    struct child *child = child_start(run_chain, SIGSTOP);
    struct noisy_memory noise;
    make_noise(child, &noise);
    const struct lw_module *libc = lw_module_table_find(child->modules, noise.code);
    uint64_t address, size;
    assert_true(lw_elf_image_eh_frame_hdr(libc->image, &address, &size));
    for (int i = 0; i < 300; i++) {
        /* With the header and search table intact, and not. */
        noise.damaged = libc->bias + address + (i % 2 ? size : 0);
        noise.damaged_end = libc->end;
        lw_unwinder_flush(child->unwinder);
        child_unwind(child, 64);
    }
    child_end(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_no_image),
        cmocka_unit_test(test_signal_handler),
        cmocka_unit_test(test_thread),
        cmocka_unit_test(test_recursion),
        cmocka_unit_test(test_generated_code),
        cmocka_unit_test(test_call_through_null),
        cmocka_unit_test(test_every_instruction),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_bad_registers),
        cmocka_unit_test(test_random_stacks),
        cmocka_unit_test(test_damaged_tables),
    };
    if (share_memory() < 0)
        return 1;
    return RUN_BOTH_WAYS(tests);
}
