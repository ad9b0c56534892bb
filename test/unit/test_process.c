/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What /proc tells of a process, which processes are refused, and what the refusals say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/target/permission.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/target/process.h"

/* Consumes the error, which must hold every one of the NULL-ended texts on one line. */
static void check_error(lw_error *error, int code, ...)
{
    assert_non_null(error);
    const char *message = lw_error_message(error), *text;
    va_list texts;
    va_start(texts, code);
    while ((text = va_arg(texts, const char *)) != NULL) {
        if (strstr(message, text) == NULL)
            fail_msg("\"%s\" is not in \"%s\"", text, message);
    }
    va_end(texts);
    assert_null(strchr(message, '\n'));
    assert_int_equal(lw_error_code(error), code);
    lw_error_destroy(error);
}

static const char *decimal(int number)
{
    static char text[16];
    snprintf(text, sizeof(text), "%d", number);
    return text;
}

/* A child that waits to be killed, for 30 s. */
static pid_t spawn(void)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(30);
        for (;;)
            pause();
    }
    return child;
}

static void reap(pid_t child)
{
    kill(child, SIGKILL);
    while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
        ;
}

static void test_parses_status(void **state)
{
    (void)state;
    struct lw_task_status status;
    assert_int_equal(lw_task_status_parse(&status, "Name:\ta\\nState:\\\\\tZ)\n"
                                                   "Umask:\t0022\n"
                                                   "State:\tt (tracing stop)\n"
                                                   "Tgid:\t4100\n"
                                                   "Pid:\t4101\n"
                                                   "PPid:\t17\n"
                                                   "TracerPid:\t99\n"
                                                   "Uid:\t1000\t1001\t1002\t1003\n"
                                                   "VmSize:\t    9000 kB\n"
                                                   "VmRSS:\t    5000 kB\n"
                                                   "Threads:\t12\n"
                                                   "SigPnd:\t0000000000000001\n"
                                                   "ShdPnd:\t0000000000000100\n"
                                                   "SigBlk:\t8000000000000000\n"
                                                   "SigIgn:\t0000000000001000\n"
                                                   "SigCgt:\t00000001800004ec\n"
                                                   "Seccomp:\t2\n"
                                                   "voluntary_ctxt_switches:\t150\n"),
                     0);
    assert_string_equal(status.name, "a\nState:\\\tZ)");
    assert_int_equal(status.state, 't');
    assert_int_equal(status.sleeps, 150);
    assert_int_equal(status.tgid, 4100);
    assert_int_equal(status.ppid, 17);
    assert_int_equal(status.tracer, 99);
    assert_int_equal(status.uid, 1000);
    assert_int_equal(status.euid, 1001);
    assert_int_equal(status.threads, 12);
    assert_int_equal(status.seccomp, 2);
    assert_int_equal(status.rss_bytes, 5000 * 1024);
    assert_int_equal(status.signals_pending, 0x101);
    assert_int_equal(status.signals_directed, 1);
    assert_true(status.signals_blocked == 1ull << 63);
    assert_int_equal(status.signals_ignored, 0x1000);
    assert_int_equal(status.signals_caught, 0x1800004ec);
}

static void test_status_that_is_none(void **state)
{
    (void)state;
    struct lw_task_status status;
    assert_int_equal(lw_task_status_parse(&status, ""), -EINVAL);
    assert_int_equal(lw_task_status_parse(&status, "\n\n"), -EINVAL);
    assert_int_equal(lw_task_status_parse(&status, "Name:\tx\nTgid:\t1\nUid:\t0\t0\n"), -EINVAL);
    assert_int_equal(lw_task_status_parse(&status, "Name:\tx\nState:\t\nTgid:\t1\nUid:\t0\t0\n"),
                     -EINVAL);
    /* A kernel thread's name may be longer than a task's; no memory lines. */
    assert_int_equal(lw_task_status_parse(&status, "Name:\tkworker/u8:3-events_unbound\n"
                                                   "State:\tI (idle)\nTgid:\t9\nUid:\t0\t0\n"),
                     0);
    assert_string_equal(status.name, "kworker/u8:3-ev");
    assert_int_equal(status.rss_bytes, 0);
}

static void test_reads_a_process_with_a_nasty_name(void **state)
{
    (void)state;
    uint64_t before = lw_process_start_time(getpid());
    assert_true(before > 0);
    assert_int_equal(prctl(PR_SET_NAME, "x) R 1 2\n(\\)"), 0);
    struct lw_task_status status;
    assert_int_equal(lw_task_status_read(getpid(), getpid(), &status), 0);
    assert_string_equal(status.name, "x) R 1 2\n(\\)");
    assert_int_equal(status.state, 'R');
    assert_int_equal(status.tgid, getpid());
    assert_int_equal(status.ppid, getppid());
    assert_int_equal(status.threads, 1);
    assert_false(status.kernel_thread);
    assert_true(lw_process_start_time(getpid()) == before);
    assert_int_equal(prctl(PR_SET_NAME, "test_process"), 0);

    uint64_t rss = lw_process_rss(getpid());
    assert_true(rss > 100 * 1024 && rss < 1ull << 40);
    char *exe = lw_process_exe(getpid());
    char self[4096] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    assert_string_equal(exe, self);
    free(exe);
}

static void test_a_process_that_is_gone(void **state)
{
    (void)state;
    struct lw_task_status status;
    pid_t child = spawn();
    reap(child);
    assert_int_equal(lw_task_status_read(child, child, &status), -ESRCH);
    assert_int_equal(lw_task_status_read(getpid(), child, &status), -ESRCH);
    assert_int_equal(lw_process_rss(child), 0);
    assert_int_equal(lw_process_start_time(child), 0);
    assert_null(lw_process_exe(child));
    assert_int_equal(lw_process_shares_memory(getpid(), child), -ESRCH);
    check_error(lw_process_check(child), ESRCH, "no process", decimal(child), NULL);
    check_error(lw_process_check(0), ESRCH, "no process", NULL);
    check_error(lw_process_check(-5), ESRCH, "no process", NULL);
}

static void test_accepts_an_ordinary_process(void **state)
{
    (void)state;
    pid_t child = spawn();
    lw_error *error = lw_process_check(child);
    if (error != NULL)
        fail_msg("%s", lw_error_message(error));
    reap(child);
}

static void test_refuses_itself(void **state)
{
    (void)state;
    check_error(lw_process_check(getpid()), EINVAL, "itself", NULL);
}

static void *report_tid(void *pipe_end)
{
    pid_t tid = gettid();
    assert_int_equal(write(*(int *)pipe_end, &tid, sizeof(tid)), sizeof(tid));
    pause();
    return NULL;
}

/* A child with two threads; *tid is the second. */
static pid_t spawn_threads(pid_t *tid)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        pthread_t thread;
        alarm(30);
        pthread_create(&thread, NULL, report_tid, &ends[1]);
        for (;;)
            pause();
    }
    assert_int_equal(read(ends[0], tid, sizeof(*tid)), sizeof(*tid));
    close(ends[0]);
    close(ends[1]);
    return child;
}

static void test_refuses_a_thread(void **state)
{
    (void)state;
    pid_t tid;
    pid_t child = spawn_threads(&tid);
    struct lw_task_status status;
    assert_int_equal(lw_task_status_read(child, tid, &status), 0);
    assert_int_equal(status.tgid, child);
    assert_int_equal(status.threads, 2);
    check_error(lw_process_check(tid), EINVAL, "thread of process", "leakwatch -p", decimal(child),
                NULL);
    reap(child);
}

static void test_refuses_a_kernel_thread(void **state)
{
    (void)state;
    struct lw_task_status status;
    if (lw_task_status_read(2, 2, &status) != 0 || strcmp(status.name, "kthreadd") != 0)
        skip(); /* in a PID namespace */
    assert_true(status.kernel_thread);
    check_error(lw_process_check(2), EINVAL, "kernel thread", "kthreadd", NULL);
}

static void test_refuses_a_zombie(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    struct lw_task_status status;
    assert_int_equal(lw_task_status_read(child, child, &status), 0);
    assert_false(status.kernel_thread);
    check_error(lw_process_check(child), ESRCH, "zombie", "parent", decimal(getpid()), NULL);
    reap(child);
}

static void test_refuses_a_process_whose_main_thread_ended(void **state)
{
    (void)state;
    int ends[2];
    pid_t tid;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        alarm(30);
        pthread_create(&thread, NULL, report_tid, &ends[1]);
        syscall(SYS_exit, 0);
    }
    assert_int_equal(read(ends[0], &tid, sizeof(tid)), sizeof(tid));
    struct lw_task_status status = {0};
    for (int i = 0; i < 1000 && status.state != 'Z'; i++) {
        assert_int_equal(lw_task_status_read(child, child, &status), 0);
        usleep(1000);
    }
    check_error(lw_process_check(child), ENOTSUP, "main thread", NULL);
    close(ends[0]);
    close(ends[1]);
    reap(child);
}

static void test_refuses_a_traced_process(void **state)
{
    (void)state;
    pid_t tid;
    pid_t child = spawn_threads(&tid);
    if (ptrace(PTRACE_SEIZE, tid, 0, 0) != 0) { /* one thread only */
        reap(child);
        skip();
    }
    check_error(lw_process_check(child), EBUSY, "already traced by test_process (PID",
                decimal(getpid()), "detach", NULL);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, 0, 0), 0);
    assert_int_equal(waitpid(tid, NULL, __WALL), tid);
    assert_int_equal(ptrace(PTRACE_DETACH, tid, 0, 0), 0);
    assert_null(lw_process_check(child));
    reap(child);
}

/* An ELF32 program that pauses for ever: eax = 29 (pause), int 0x80, again. */
static int write_program32(void)
{
    static const unsigned char code[] = {0xb8, 0x1d, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7};
    struct {
        Elf32_Ehdr header;
        Elf32_Phdr segment;
        unsigned char code[sizeof(code)];
    } file = {
        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_386,
                   .e_version = EV_CURRENT,
                   .e_entry = 0x8048000 + sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr),
                   .e_phoff = sizeof(Elf32_Ehdr),
                   .e_ehsize = sizeof(Elf32_Ehdr),
                   .e_phentsize = sizeof(Elf32_Phdr),
                   .e_phnum = 1},
        .segment = {.p_type = PT_LOAD,
                    .p_vaddr = 0x8048000,
                    .p_filesz = sizeof(file),
                    .p_memsz = sizeof(file),
                    .p_flags = PF_R | PF_X,
                    .p_align = 4096},
    };
    memcpy(file.code, code, sizeof(code));
    int fd = memfd_create("program32", MFD_CLOEXEC);
    assert_int_equal(write(fd, &file, sizeof(file)), sizeof(file));
    return fd;
}

static void test_refuses_a_32_bit_program(void **state)
{
    (void)state;
    lw_auto_close int program = write_program32();
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        char *const none[] = {NULL};
        alarm(30);
        fexecve(program, none, none);
        _exit(write(ends[1], "x", 1) == 1 ? 126 : 127);
    }
    close(ends[1]);
    char byte;
    bool failed = read(ends[0], &byte, 1) == 1;
    close(ends[0]);
    if (!failed)
        check_error(lw_process_check(child), ENOTSUP, "32-bit", "64-bit programs only", NULL);
    reap(child);
    if (failed)
        skip(); /* a kernel without 32-bit support */
}

static void test_exe_of_a_deleted_file(void **state)
{
    (void)state;
    char directory[] = "/tmp/lw-process-XXXXXX", path[64], command[128];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/sleeper", directory);
    snprintf(command, sizeof(command), "cp /bin/sleep %s", path);
    assert_int_equal(system(command), 0);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        execl(path, "sleeper", "30", NULL);
        _exit(127);
    }
    close(ends[1]);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 0); /* until exec has closed the other end */
    close(ends[0]);
    unlink(path);
    rmdir(directory);
    lw_auto_free char *exe = lw_process_exe(child);
    assert_non_null(exe);
    assert_string_equal(exe, path);
    assert_null(lw_process_check(child));
    reap(child);
}

static int wait_in_clone(void *nothing)
{
    (void)nothing;
    pause();
    return 0;
}

static void test_shared_memory(void **state)
{
    (void)state;
    static char stack[65536] __attribute__((aligned(16)));
    int self = lw_process_shares_memory(getpid(), getpid());
    if (self == -ENOSYS || self == -EPERM)
        skip();
    assert_int_equal(self, 1);
    pid_t copy = spawn();
    assert_int_equal(lw_process_shares_memory(getpid(), copy), 0);
    reap(copy);
    pid_t sharer = clone(wait_in_clone, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
    assert_true(sharer > 0);
    assert_int_equal(lw_process_shares_memory(getpid(), sharer), 1);
    reap(sharer);
}

/* In a child that has become nobody; its exit code tells. */
static int look_as_nobody(pid_t other)
{
    if (setgid(65534) != 0 || setuid(65534) != 0)
        return 77;
    lw_error *error = lw_process_check(other);
    if (error == NULL)
        return 1;
    const char *message = lw_error_message(error);
    bool good = lw_error_code(error) == EPERM && strstr(message, "belongs to user root") != NULL &&
                strstr(message, "sudo leakwatch -p") != NULL;
    if (!good)
        fprintf(stderr, "%s\n", message);
    lw_error_destroy(error);
    return good ? 0 : 2;
}

static void test_refuses_a_process_of_another_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    pid_t other = spawn(), looker = fork();
    if (looker == 0)
        _exit(look_as_nobody(other));
    int status;
    assert_int_equal(waitpid(looker, &status, 0), looker);
    reap(other);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_explains_every_obstacle(void **state)
{
    (void)state;
    const struct lw_permission_facts plain = {.pid = 42,
                                              .name = "redis",
                                              .user = "bob",
                                              .uid = 1000,
                                              .euid = 1000,
                                              .our_euid = 1000,
                                              .dumpable = true};
    struct lw_permission_facts facts = plain;
    check_error(lw_permission_explain(&facts), EPERM, "redis", "user namespace", "sudo", NULL);
    facts.yama_scope = 1;
    check_error(lw_permission_explain(&facts), EPERM, "sysctl kernel.yama.ptrace_scope=0",
                "sudo leakwatch -p 42", NULL);
    facts.yama_scope = 2;
    check_error(lw_permission_explain(&facts), EPERM, "ptrace_scope is 2", "CAP_SYS_PTRACE", NULL);
    facts.dumpable = false; /* to lower the scope would not help */
    check_error(lw_permission_explain(&facts), EPERM, "not dumpable", NULL);
    facts.uid = facts.euid = 7;
    check_error(lw_permission_explain(&facts), EPERM, "belongs to user bob", "sudo leakwatch -p 42",
                NULL);
    facts.our_euid = 0;
    check_error(lw_permission_explain(&facts), EPERM, "without CAP_SYS_PTRACE",
                "--cap-add=SYS_PTRACE", NULL);
    facts.yama_scope = 3;
    check_error(lw_permission_explain(&facts), EPERM, "reboot", NULL);

    facts = plain;
    facts.we_can_ptrace = facts.we_can_override = true;
    facts.yama_scope = 1;
    check_error(lw_permission_explain(&facts), EPERM, "although we have", "SELinux", NULL);
    facts.yama_scope = 3;
    check_error(lw_permission_explain(&facts), EPERM, "ptrace_scope is 3", NULL);

    facts = plain;
    facts.we_can_ptrace = true;
    facts.uid = facts.euid = 7;
    check_error(lw_permission_explain(&facts), EPERM, "another user", "CAP_DAC_OVERRIDE too", NULL);
    facts = plain;
    facts.we_can_ptrace = true;
    facts.dumpable = false;
    check_error(lw_permission_explain(&facts), EPERM, "not dumpable", "CAP_DAC_OVERRIDE too", NULL);
}

static void test_explains_a_live_process(void **state)
{
    (void)state;
    pid_t child = spawn();
    check_error(lw_process_explain_eperm(child), EPERM, decimal(child), NULL);
    reap(child);
    check_error(lw_process_explain_eperm(child), ESRCH, decimal(child), "ended", NULL);
}

static void test_names_states(void **state)
{
    (void)state;
    assert_string_equal(lw_process_state_name(getpid()), "running");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        for (;;)
            pause();
    int status;
    kill(child, SIGSTOP);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_string_equal(lw_process_state_name(child), "stopped");
    kill(child, SIGKILL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    assert_string_equal(lw_process_state_name(child), "exited");
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_string_equal(lw_process_state_name(child), "gone");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses_status),
        cmocka_unit_test(test_status_that_is_none),
        cmocka_unit_test(test_reads_a_process_with_a_nasty_name),
        cmocka_unit_test(test_a_process_that_is_gone),
        cmocka_unit_test(test_accepts_an_ordinary_process),
        cmocka_unit_test(test_refuses_itself),
        cmocka_unit_test(test_refuses_a_thread),
        cmocka_unit_test(test_refuses_a_kernel_thread),
        cmocka_unit_test(test_refuses_a_zombie),
        cmocka_unit_test(test_refuses_a_process_whose_main_thread_ended),
        cmocka_unit_test(test_refuses_a_traced_process),
        cmocka_unit_test(test_refuses_a_32_bit_program),
        cmocka_unit_test(test_exe_of_a_deleted_file),
        cmocka_unit_test(test_shared_memory),
        cmocka_unit_test(test_refuses_a_process_of_another_user),
        cmocka_unit_test(test_explains_every_obstacle),
        cmocka_unit_test(test_explains_a_live_process),
        cmocka_unit_test(test_names_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
