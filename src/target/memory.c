/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory of a live process, through process_vm_readv and /proc/PID/mem. */
#include "leakwatch/target/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "leakwatch/target/process.h"

/* The kernel has several words for "there is no memory": /proc/PID/mem says EIO, an address in the
 * negative half or past the end of user space is EINVAL. */
static int memory_errno(int code)
{
    return code == EIO || code == EINVAL ? -EFAULT : -code;
}

static ssize_t mem_file_read(int fd, uint64_t address, void *buffer, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (char *)buffer + done, size - done, (off_t)(address + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (done > 0)
                break;
            /* The file reads as empty once the address space is gone (exit or exec). */
            return n == 0 ? -ESRCH : memory_errno(errno);
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static ssize_t process_memory_read(struct lw_memory *memory, uint64_t address, void *buffer,
                                   size_t size)
{
    const struct lw_process_memory *process = (const struct lw_process_memory *)memory;
    if (size == 0)
        return 0;
    struct iovec local = {.iov_base = buffer, .iov_len = size};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
    ssize_t n = process_vm_readv(process->pid, &local, 1, &remote, 1, 0);
    if (n > 0)
        return n;
    if (n == 0)
        return -EFAULT;
    /* The open file stays good where the process id does not: once the process has become
     * non-dumpable or changed its user, and after its main thread has ended before the others
     * (ESRCH). */
    if (errno == EPERM || errno == ENOSYS || errno == ESRCH)
        return mem_file_read(process->fd, address, buffer, size);
    return memory_errno(errno);
}

/* process_vm_writev honours page protection; writes to this file do not (FOLL_FORCE), and a private
 * mapping gets its own copy of the page. */
static int process_memory_write(struct lw_memory *memory, uint64_t address, const void *buffer,
                                size_t size)
{
    const struct lw_process_memory *process = (const struct lw_process_memory *)memory;
    size_t done = 0;
    while (done < size) {
        ssize_t n =
            pwrite(process->fd, (const char *)buffer + done, size - done, (off_t)(address + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return memory_errno(errno);
        if (n == 0)
            return -ESRCH;
        done += (size_t)n;
    }
    return 0;
}

lw_error *lw_process_memory_init(struct lw_process_memory *memory, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    memory->memory.read = process_memory_read;
    memory->memory.write = process_memory_write;
    memory->pid = pid;
    memory->fd = open(path, O_RDWR | O_CLOEXEC);
    if (memory->fd >= 0)
        return NULL;
    int code = errno;
    if (code == EACCES || code == EPERM)
        return lw_process_explain_eperm(pid);
    if (code == ENOENT || code == ESRCH)
        return lw_error_create(ESRCH, "process %d is gone: nothing is left to watch", (int)pid);
    return lw_error_create(code, "cannot open %s: %s", path, strerror(code));
}

void lw_process_memory_deinit(struct lw_process_memory *memory)
{
    if (memory->fd >= 0)
        close(memory->fd);
    memory->fd = -1;
}

bool lw_process_memory_is_gone(const struct lw_process_memory *memory)
{
    char byte;
    return pread(memory->fd, &byte, sizeof(byte), 0) == 0; /* EIO: it is there, but not at 0 */
}

int lw_memory_read_all(struct lw_memory *memory, uint64_t address, void *buffer, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = memory->read(memory, address + done, (char *)buffer + done, size - done);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EFAULT;
        done += (size_t)n;
    }
    return 0;
}

int lw_memory_write(struct lw_memory *memory, uint64_t address, const void *buffer, size_t size)
{
    return memory->write(memory, address, buffer, size);
}
