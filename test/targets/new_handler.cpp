// SPDX-License-Identifier: GPL-2.0-or-later
// Has no memory to get, and a new-handler that says so by an exception of its own, once.
// Commands: count ("corrupt": how often anything else came of it).
#include "target.h"

#include <atomic>
#include <new>
#include <thread>

struct exhausted {
};

static std::atomic<long> progress, corrupt;
static int calls;

static void give_up()
{
    calls++;
    std::set_new_handler(nullptr);
    throw exhausted();
}

static bool ends_in_exception(bool aligned)
{
    const size_t too_much = size_t(1) << 62;
    calls = 0;
    std::set_new_handler(give_up);
    try {
        void *block =
            aligned ? operator new(too_much, std::align_val_t(64)) : operator new(too_much);
        KEEP(block);
    } catch (exhausted &) {
        return calls == 1;
    } catch (std::bad_alloc &) {
    }
    return false;
}

static void work()
{
    for (;; progress++) {
        corrupt += !ends_in_exception(progress % 2);
        sleep_ms(1);
    }
}

int main()
{
    char line[64];
    std::thread(work).detach();
    say("{\"pid\":%d}", int(getpid()));
    while (hear(line, sizeof line))
        say("{\"progress\":%ld,\"corrupt\":%ld}", progress.load(), corrupt.load());
    return 0;
}
