// SPDX-License-Identifier: GPL-2.0-or-later
// Busy with all that makes stacks odd: exceptions, realigned frames, stacks of variable size, lazy
// binding, callbacks from libraries, recursion, and signal handlers on a stack of their own.
#include <alloca.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <sys/time.h>
#include <unistd.h>

#define KEPT __attribute__((noipa))

static volatile sig_atomic_t signals;

KEPT static void on_alarm(int)
{
    char text[64];
    snprintf(text, sizeof(text), "%d", static_cast<int>(signals));
    signals = signals + 1;
}

KEPT static void use(void *bytes)
{
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

KEPT static int throw_at(int depth)
{
    std::string local(40, 'x');
    if (depth == 0)
        throw std::runtime_error(local);
    return throw_at(depth - 1) + static_cast<int>(local.size());
}

/* gcc reaches its arguments through a register of its own, and its frame through rbp. */
KEPT static int realigned(int depth)
{
    alignas(64) char aligned[128];
    char *variable = static_cast<char *>(alloca(16 + depth * 24));
    memset(variable, depth, 16);
    use(aligned);
    use(variable);
    int result = depth;
    if (depth > 0) {
        try {
            result += realigned(depth - 1);
        } catch (const std::logic_error &) {
            result = 0;
        }
    } else {
        result += throw_at(3);
    }
    use(aligned);
    return result;
}

KEPT static int compare(const void *a, const void *b)
{
    const int left = *static_cast<const int *>(a), right = *static_cast<const int *>(b);
    return (left > right) - (left < right);
}

KEPT static void sort()
{
    int numbers[200];
    for (int &number : numbers)
        number = rand();
    qsort(numbers, 200, sizeof(numbers[0]), compare);
    use(numbers);
}

KEPT static long recurse(int depth)
{
    if (depth == 0) {
        void *block = malloc(100);
        use(block);
        free(block);
        return 0;
    }
    long result = 1 + recurse(depth - 1);
    use(&result);
    return result;
}

static void handle_alarms()
{
    static char memory[65536];
    stack_t stack = {};
    stack.ss_sp = memory;
    stack.ss_size = sizeof(memory);
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_handler = on_alarm;
    action.sa_flags = SA_ONSTACK | SA_RESTART;
    sigaction(SIGVTALRM, &action, nullptr);
    const itimerval every = {{0, 2000}, {0, 2000}};
    setitimer(ITIMER_VIRTUAL, &every, nullptr);
}

/* unwound [DEPTH]: recurses so deep, again and again. */
int main(int argc, char **argv)
{
    const int depth = argc > 1 ? atoi(argv[1]) : 20;
    handle_alarms();
    puts("{\"ready\":1}");
    fflush(stdout);
    for (;;) {
        try {
            realigned(4);
        } catch (const std::runtime_error &) {
        }
        sort();
        recurse(depth);
    }
}
