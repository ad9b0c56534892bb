/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gives damaged copies of real libraries to all that reads the target's files. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/symbol/symbolizer.h"
#include "leakwatch/target/memory.h"
#include "leakwatch/target/module.h"
#include "leakwatch/unwind/row_table.h"
#include "probe/flow.h"

/*
 * fuzz_readers SECONDS [SEED [FILE...]]
 *
 * Each round damages a copy and reads it in a child process; one that dies, works for longer than
 * ROUND_S or is stuck for STUCK_S, is told with its seed, with which the round can be repeated
 * (SECONDS 0: this one alone), and fails the run. Memory beyond reason fails it too: ROUND_BYTES
 * where the sanitizers do not forbid a limit.
 */
#define ROUND_S     20
#define STUCK_S     300
#define ROUND_BYTES (4ull << 30)
#define PER_CHILD   10 /* rounds: to fork is slow with the sanitizers */
#define LARGEST     (64u << 20)

static const char *const default_files[] = {
    "/proc/self/exe",
    "/lib64/ld-linux-x86-64.so.2",
    "/usr/lib/x86_64-linux-gnu/libelf.so.1",
    "/usr/lib/x86_64-linux-gnu/libm.so.6",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
};

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    uint64_t x = random_state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t below(uint64_t limit)
{
    return limit ? next_random() % limit : 0;
}

struct file {
    uint8_t *bytes;
    size_t size;
};

static struct file read_whole(const char *path)
{
    struct file file = {0};
    struct stat status;
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0 || status.st_size > LARGEST)
        return file;
    file.bytes = malloc((size_t)status.st_size);
    if (!file.bytes)
        exit(3);
    if (read(fd, file.bytes, (size_t)status.st_size) == status.st_size)
        file.size = (size_t)status.st_size;
    return file;
}

/* ---- damage ---- */

static void damage_word(struct file *file, size_t at)
{
    static const uint64_t odd[] = {0,          1,          0x7f,           0xff,
                                   0x7fffffff, UINT32_MAX, UINT64_MAX / 2, UINT64_MAX};
    const size_t widths[] = {1, 2, 4, 8};
    const size_t width = widths[below(4)];
    uint64_t value = next_random();
    if (below(2))
        value = odd[below(sizeof(odd) / sizeof(odd[0]))];
    if (at + width <= file->size)
        memcpy(file->bytes + at, &value, width);
}

static void damage_range(struct file *file, uint64_t start, uint64_t size)
{
    if (start >= file->size)
        return;
    size = size < file->size - start ? size : file->size - start;
    for (uint64_t count = 1 + below(below(4) ? 4 : 400); count > 0 && size > 0; count--)
        damage_word(file, start + below(size));
}

/* A section of which the readers make something, of the file as it was. */
static void damage_section(struct file *file, const struct file *whole)
{
    Elf64_Ehdr header;
    Elf64_Shdr section;
    if (whole->size < sizeof(header))
        return;
    memcpy(&header, whole->bytes, sizeof(header));
    for (unsigned tries = 0; tries < 50 && header.e_shnum > 0; tries++) {
        uint64_t at = header.e_shoff + below(header.e_shnum) * sizeof(section);
        if (at + sizeof(section) > whole->size)
            return;
        memcpy(&section, whole->bytes + at, sizeof(section));
        bool is_read = (section.sh_flags & SHF_ALLOC) == 0 || section.sh_type != SHT_PROGBITS ||
                       (section.sh_flags & SHF_EXECINSTR) == 0;
        if (section.sh_type == SHT_NOBITS || !is_read)
            continue;
        damage_range(file, section.sh_offset, section.sh_size);
        return;
    }
}

static void damage(struct file *file, const struct file *whole)
{
    Elf64_Ehdr header = {0};
    memcpy(&header, whole->bytes, sizeof(header) < whole->size ? sizeof(header) : whole->size);
    for (uint64_t count = 1 + below(3); count > 0; count--) {
        switch (below(8)) {
        case 0:
            damage_range(file, 16, sizeof(Elf64_Ehdr) - 16);
            break;
        case 1:
            damage_range(file, header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr));
            break;
        case 2:
            damage_range(file, header.e_shoff, header.e_shnum * sizeof(Elf64_Shdr));
            break;
        case 3:
            file->size = below(file->size);
            break;
        default:
            damage_section(file, whole);
        }
    }
}

/* ---- reading ---- */

struct reader {
    struct lw_process_memory memory;
    struct lw_module_table *modules;
    struct lw_module *module; /* which is given other files */
};

static void read_image(const struct lw_elf_image *image)
{
    static const char *const names[] = {"malloc", "free", "_Znwm", "_dl_debug_state"};
    struct lw_elf_symbol found[8];
    uint64_t address, size;
    uint8_t bytes[64];
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    lw_elf_image_eh_frame_hdr(image, &address, &size);
    lw_elf_image_section(image, ".eh_frame", &address, &size);
    for (size_t i = 0; i < 4; i++) {
        size_t n = lw_elf_image_find_symbols(image, names[i], found, 8);
        for (size_t j = 0; j < n && j < 2; j++) {
            const struct lw_address_list none = {0};
            struct lw_flow_summary summary = {0};
            bool enters;
            lw_flow_walk(image, found[j].address, &none, true, &summary);
            lw_flow_summary_deinit(&summary);
            lw_flow_enters(image, found[j].address, 5, &enters);
        }
    }
    for (unsigned i = 0; i < 50 && count > 0; i++) {
        const struct lw_elf_segment *segment = &segments[below(count)];
        uint64_t at = segment->address + below(segment->memory_size);
        lw_elf_image_read(image, at, bytes, sizeof(bytes));
        lw_elf_image_symbol_at(image, at, found);
        lw_elf_image_got_symbol(image, at & ~7ull);
    }
}

static void read_rows(const struct lw_elf_image *image)
{
    struct lw_row_table table;
    if (lw_row_table_compile(image, &table) != 0)
        return;
    for (unsigned i = 0; i < 50; i++)
        lw_row_table_find(&table, table.base + below(1 << 24));
    for (size_t i = 1; i < table.count; i++)
        if (table.start[i] <= table.start[i - 1])
            abort();
    lw_row_table_deinit(&table);
}

static void read_symbols(const struct reader *reader, const struct lw_elf_image *image)
{
    struct lw_symbolizer *symbolizer = lw_symbolizer_create(reader->modules);
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    for (unsigned i = 0; i < 20 && count > 0; i++) {
        const struct lw_elf_segment *segment = &segments[below(count)];
        const struct lw_symbol *symbols;
        size_t n = lw_symbolizer_resolve(symbolizer, reader->module->id,
                                         segment->address + below(segment->memory_size), below(2),
                                         &symbols);
        for (size_t j = 0; j < n; j++)
            if (symbols[j].function && strlen(symbols[j].function) == SIZE_MAX)
                abort();
    }
    lw_symbolizer_destroy(symbolizer);
}

static void read_all(struct reader *reader, const struct file *file)
{
    struct lw_elf_image *image, *from_memory;
    lw_auto_close int fd = memfd_create("damaged", MFD_CLOEXEC);
    if (fd < 0 || write(fd, file->bytes, file->size) != (ssize_t)file->size)
        exit(3);
    if (lw_elf_image_open_memory(file->bytes, file->size, &from_memory) == 0) {
        read_image(from_memory);
        lw_elf_image_close(from_memory);
    }
    if (lw_elf_image_open(fd, &image) != 0)
        return;
    read_image(image);
    read_rows(image);
    struct lw_elf_image *own_image = reader->module->image;
    int own_fd = reader->module->fd;
    reader->module->image = image;
    reader->module->fd = fd;
    read_symbols(reader, image);
    reader->module->image = own_image;
    reader->module->fd = own_fd;
    lw_elf_image_close(image);
}

/* Seconds of processor time, which the machine's other work does not use up, and of any time. */
static void set_limits(time_t working, unsigned any)
{
    const struct itimerval timer = {.it_value.tv_sec = working};
    setitimer(ITIMER_PROF, &timer, NULL);
    alarm(any);
}

static void run_round(struct reader *reader, const struct file *files, size_t count, uint64_t seed)
{
    random_state = seed;
    const struct file *whole = &files[below(count)];
    struct file damaged = {.bytes = malloc(whole->size), .size = whole->size};
    if (!damaged.bytes)
        exit(3);
    memcpy(damaged.bytes, whole->bytes, whole->size);
    damage(&damaged, whole);
    /* exactly as large as it is, so that reading on is noticed */
    uint8_t *fitted = realloc(damaged.bytes, damaged.size ? damaged.size : 1);
    damaged.bytes = fitted ? fitted : damaged.bytes;
    set_limits(ROUND_S, STUCK_S);
    read_all(reader, &damaged);
    set_limits(0, 0);
    free(damaged.bytes);
}

/* ---- rounds ---- */

static struct reader open_reader(void)
{
    struct reader reader;
    if (lw_process_memory_init(&reader.memory, getpid()) != NULL ||
        !(reader.modules = lw_module_table_create(getpid(), &reader.memory.memory)) ||
        lw_module_table_refresh(reader.modules, NULL) != 0)
        exit(3);
    reader.module =
        (struct lw_module *)lw_module_table_find(reader.modules, (uintptr_t)open_reader);
    return reader;
}

static _Noreturn void run_child(const struct file *files, size_t count, uint64_t seed,
                                unsigned rounds, volatile uint64_t *at)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#ifndef __SANITIZE_ADDRESS__
    const struct rlimit limit = {ROUND_BYTES, ROUND_BYTES};
    setrlimit(RLIMIT_AS, &limit);
#endif
    struct reader reader = open_reader();
    for (unsigned i = 0; i < rounds; i++) {
        *at = seed + i;
        run_round(&reader, files, count, seed + i);
    }
    lw_module_table_destroy(reader.modules);
    lw_process_memory_deinit(&reader.memory);
    exit(0);
}

int main(int argc, char **argv)
{
    const unsigned long seconds = argc > 1 ? strtoul(argv[1], NULL, 10) : 5;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct file files[32];
    size_t count = 0;
    const size_t given = argc > 3 ? (size_t)argc - 3 : sizeof(default_files) / sizeof(char *);
    for (size_t i = 0; i < given && count < 32; i++) {
        struct file file = read_whole(argc > 3 ? argv[3 + i] : default_files[i]);
        if (file.size > sizeof(Elf64_Ehdr))
            files[count++] = file;
        else
            free(file.bytes);
    }
    volatile uint64_t *at =
        mmap(NULL, sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (count == 0 || at == MAP_FAILED) {
        fprintf(stderr, "fuzz_readers: no file to read\n");
        return 2;
    }
    lw_log_set_level(LW_LOG_ERROR);
    const uint64_t end = lw_clock_now() + seconds * LW_NS_PER_SECOND, first = seed;
    unsigned failures = 0;
    const unsigned rounds = seconds ? PER_CHILD : 1;
    do {
        int status;
        pid_t child = fork();
        if (child == 0)
            run_child(files, count, seed, rounds, at);
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 2;
        seed += rounds;
        if (status != 0) {
            fprintf(stderr, "fuzz_readers: seed %llu: status %#x (repeat: fuzz_readers 0 %llu)\n",
                    (unsigned long long)*at, (unsigned)status, (unsigned long long)*at);
            failures++;
            seed = *at + 1;
        }
    } while (lw_clock_now() < end && failures < 10);
    printf("fuzz_readers: %llu rounds on %zu files, %u failures\n",
           (unsigned long long)(seed - first), count, failures);
    for (size_t i = 0; i < count; i++)
        free(files[i].bytes);
    return failures > 0;
}
