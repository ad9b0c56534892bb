/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files at places that somebody else has chosen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leakwatch/base/file.h"

static char directory[] = "/tmp/test_file-XXXXXX";

static int go_there(void **state)
{
    (void)state;
    return mkdtemp(directory) && chdir(directory) == 0 ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    unlink("file");
    unlink("fifo");
    unlink("link");
    return chdir("/") == 0 ? rmdir(directory) : -1;
}

static void test_regular(void **state)
{
    (void)state;
    struct stat status;
    int made = open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(made, "x", 1), 1);
    assert_int_equal(fstat(made, &status), 0);
    close(made);
    assert_int_equal(symlink("file", "link"), 0);
    static const char *const names[] = {"file", "link"};
    for (int i = 0; i < 2; i++) {
        char byte = 0;
        int fd = lw_file_open_regular(names[i], i ? status.st_ino : 0);
        assert_true(fd >= 0);
        assert_int_equal(read(fd, &byte, 1), 1);
        assert_int_equal(byte, 'x');
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        close(fd);
    }
    assert_int_equal(lw_file_open_regular("file", status.st_ino + 1), -1);
}

/* A FIFO without a writer would hold up whoever opens it. */
static void test_others(void **state)
{
    (void)state;
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(lw_file_open_regular("fifo", 0), -1);
    assert_int_equal(lw_file_open_regular("/dev/zero", 0), -1);
    assert_int_equal(lw_file_open_regular(directory, 0), -1);
    assert_int_equal(lw_file_open_regular("nothing", 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regular),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, go_there, leave);
}
