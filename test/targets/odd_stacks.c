/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Allocates from stacks that are unlike others. */
#include "target.h"

#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

/*
 * odd_stacks
 *   distinct N    leaks N blocks of 16 bytes, each from a stack of its own
 *   alternate N   leaks N blocks of 24 bytes from a signal handler on an alternate stack
 *   coroutine N   leaks N blocks of 32 bytes, each from a coroutine (makecontext) of its own
 *   jit N         leaks N blocks of 40 bytes from code without unwind information: in turn with a
 *                 frame pointer, and with anything else in its register
 *   corrupt N     N times: allocates from a stack of garbage, which ends at a guard page; leaks
 *                 the first 10 blocks, of 48 bytes
 *   modules N     maps N libraries
 *   count         answers with how often it was asked
 */
#define PAGE      4096ul
#define GARBAGE   (4 * PAGE) /* at most so much, above what the calls need */
#define NEEDED    (16 * PAGE)
#define LEAKED    10
#define PLAN      "{\"leaks\":{\"%s\":{\"bytes\":%ld,\"blocks\":%ld}}}"
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

static unsigned long random_state = 1;

static unsigned long next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

#define DEFINE_LEAK(name, size)                                                                    \
    WATCHED static void *name(void)                                                                \
    {                                                                                              \
        void *block = malloc(size);                                                                \
        KEEP(block);                                                                               \
        return block;                                                                              \
    }
DEFINE_LEAK(leak_distinct, 16)
DEFINE_LEAK(leak_alternate, 24)
DEFINE_LEAK(leak_coroutine, 32)
DEFINE_LEAK(leak_jit, 40)
DEFINE_LEAK(leak_corrupt, 48)

/* ---- as many stacks as there are numbers of so many bits ---- */

WATCHED static void walk(unsigned long path, int bits);

WATCHED static void walk_left(unsigned long path, int bits)
{
    walk(path >> 1, bits - 1);
    STAY();
}

WATCHED static void walk_right(unsigned long path, int bits)
{
    walk(path >> 1, bits - 1);
    STAY();
}

WATCHED static void walk(unsigned long path, int bits)
{
    if (bits == 0)
        KEEP(leak_distinct());
    else if (path & 1)
        walk_right(path, bits);
    else
        walk_left(path, bits);
    STAY();
}

/* ---- a signal handler's own ---- */

static void on_signal(int number)
{
    (void)number;
    KEEP(leak_alternate());
}

static void install_handler(void)
{
    stack_t stack = {.ss_size = NEEDED};
    stack.ss_sp = mmap(NULL, NEEDED, PROT_READ | PROT_WRITE, ANONYMOUS, -1, 0);
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    if (sigaltstack(&stack, NULL) != 0 || sigaction(SIGUSR2, &action, NULL) != 0)
        _exit(97);
}

/* ---- stacks that have just been mapped, below a guard page ---- */

static char *map_stack(size_t size)
{
    char *base = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE, ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + size, PAGE, PROT_NONE) != 0)
        _exit(96);
    return base;
}

static ucontext_t outside, inside;

static void run_coroutine(void)
{
    KEEP(leak_coroutine());
    STAY();
}

static void coroutine(void)
{
    char *stack = map_stack(NEEDED);
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = NEEDED;
    inside.uc_link = &outside;
    makecontext(&inside, run_coroutine, 0);
    swapcontext(&outside, &inside);
    munmap(stack, NEEDED + PAGE);
}

/* call_on(sp, fp, function): calls it on another stack, with this in rbp. */
__asm__(".pushsection .text\n"
        ".globl call_on\n"
        "call_on: .cfi_startproc\n"
        "push %rbp\n push %rbx\n mov %rsp, %rbx\n"
        "mov %rdi, %rsp\n mov %rsi, %rbp\n call *%rdx\n"
        "mov %rbx, %rsp\n pop %rbx\n pop %rbp\n ret\n"
        ".cfi_endproc\n"
        "call_on_end:\n"
        ".popsection\n");
void call_on(void *sp, unsigned long fp, void *(*function)(void));
extern const char call_on_end[];

static __typeof__(call_on) *copy_of_call_on(void)
{
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        _exit(95);
    memcpy(page, (const char *)call_on, (size_t)(call_on_end - (const char *)call_on));
    if (mprotect(page, PAGE, PROT_READ | PROT_EXEC) != 0)
        _exit(94);
    return (__typeof__(call_on) *)page;
}

static __typeof__(call_on) *copy; /* without unwind information */

static unsigned long garbage(const char *base, size_t size)
{
    const unsigned long number = next_random(), start = (unsigned long)base;
    switch (number % 8) {
    case 0:
        return start + size - 8 * (number >> 8 & 7); /* about the guard page */
    case 1:
        return start + size + (number >> 8) % PAGE; /* in it */
    case 2:
        return start + (number >> 8) % size;
    case 3:
        return start + ((number >> 8) % size & ~7ul);
    case 4:
        return (unsigned long)malloc +
               (number >> 8) % (16 * PAGE); /* code with all kinds of rows */
    case 5:
        return (unsigned long)leak_corrupt + (number >> 8) % PAGE;
    case 6:
        return number >> 8 & 1 ? 0 : ~0ul;
    default:
        return number;
    }
}

static void on_garbage(__typeof__(call_on) *call, void *(*function)(void))
{
    size_t size = NEEDED + PAGE * (1 + next_random() % (GARBAGE / PAGE));
    char *base = map_stack(size);
    unsigned long *top = (unsigned long *)(base + size) - 1 - next_random() % 500;
    for (unsigned long *word = top; word < (unsigned long *)(base + size); word++)
        *word = garbage(base, size);
    call(top - ((unsigned long)top % 16 != 0), garbage(base, size), function);
    munmap(base, size + PAGE);
}

static void *allocate_and_free(void)
{
    void *block = malloc(48);
    KEEP(block);
    free(block);
    return NULL;
}

static void corrupt(long count)
{
    for (long i = 0; i < count; i++)
        on_garbage(i % 3 == 0 ? call_on : copy, i < LEAKED ? leak_corrupt : allocate_and_free);
}

/* Each is a file of its own, which has no name; no more of a library than its first page. */
static void map_modules(long count)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
    } file = {.header = {.e_type = ET_DYN,
                         .e_machine = EM_X86_64,
                         .e_version = EV_CURRENT,
                         .e_phoff = sizeof(Elf64_Ehdr),
                         .e_ehsize = sizeof(Elf64_Ehdr),
                         .e_phentsize = sizeof(Elf64_Phdr),
                         .e_phnum = 1},
              .segment = {.p_type = PT_LOAD,
                          .p_flags = PF_R | PF_X,
                          .p_filesz = PAGE,
                          .p_memsz = PAGE,
                          .p_align = PAGE}};
    memcpy(file.header.e_ident, ELFMAG "\x02\x01\x01", 7);
    for (long i = 0; i < count; i++) {
        int fd = memfd_create("library", 0);
        if (fd < 0 || write(fd, &file, sizeof(file)) != sizeof(file) || ftruncate(fd, PAGE) != 0 ||
            mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED)
            _exit(93);
        close(fd);
    }
}

static void jit(long count)
{
    for (long i = 0; i < count; i++) {
        if (i % 2 == 0) {
            char *base = map_stack(NEEDED);
            unsigned long *frame = (unsigned long *)(base + NEEDED) - 2;
            frame[0] = frame[1] = 0; /* the outermost */
            copy(frame - 2, (unsigned long)frame, leak_jit);
            munmap(base, NEEDED + PAGE);
        } else {
            on_garbage(copy, leak_jit);
        }
    }
}

int main(void)
{
    install_handler();
    copy = copy_of_call_on();
    say("{\"ready\":%d}", getpid());
    char line[128];
    unsigned long questions = 0;
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "distinct", 1, &number)) {
            for (long i = 0; i < number; i++)
                walk((unsigned long)i, 17);
            say(PLAN, "leak_distinct", 16 * number, number);
        } else if (is_command(line, "alternate", 1, &number)) {
            for (long i = 0; i < number; i++)
                raise(SIGUSR2);
            say(PLAN, "leak_alternate", 24 * number, number);
        } else if (is_command(line, "coroutine", 1, &number)) {
            for (long i = 0; i < number; i++)
                coroutine();
            say(PLAN, "leak_coroutine", 32 * number, number);
        } else if (is_command(line, "jit", 1, &number)) {
            jit(number);
            say(PLAN, "leak_jit", 40 * number, number);
        } else if (is_command(line, "corrupt", 1, &number)) {
            corrupt(number);
            say(PLAN, "leak_corrupt", 48l * LEAKED, (long)LEAKED);
        } else if (is_command(line, "modules", 1, &number)) {
            map_modules(number);
            say("{\"mapped\":%ld}", number);
        } else if (is_command(line, "count", 0, &number)) {
            say("{\"progress\":%lu}", ++questions);
        }
    }
    return 0;
}
