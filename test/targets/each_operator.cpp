/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leaks exactly 30 000 bytes through each operator new of C++, and throws out of some. */
#include "target.h"

#include <new>

/*
 * each_operator
 *   begin     leaks; answers with what
 *   free      frees it all through the matching operator delete; answers
 *   throw N   N times an operator new that cannot succeed throws; answers with how many were caught
 *   count     answers with how often it was asked
 */
namespace
{
constexpr int blocks_each = 30;
constexpr size_t block_bytes = 1000;
// libstdc++ rounds the size up to the alignment before it calls aligned_alloc: 1 024 is not what
// was asked for
constexpr auto wide = std::align_val_t(64);

WATCHED void *leak_new(size_t size)
{
    void *block = ::operator new(size);
    KEEP(block);
    return block;
}

WATCHED void *leak_new_array(size_t size)
{
    void *block = ::operator new[](size);
    KEEP(block);
    return block;
}

WATCHED void *leak_new_nothrow(size_t size)
{
    void *block = ::operator new(size, std::nothrow);
    KEEP(block);
    return block;
}

WATCHED void *leak_new_array_nothrow(size_t size)
{
    void *block = ::operator new[](size, std::nothrow);
    KEEP(block);
    return block;
}

WATCHED void *leak_new_aligned(size_t size)
{
    void *block = ::operator new(size, wide);
    KEEP(block);
    return block;
}

WATCHED void *leak_new_array_aligned(size_t size)
{
    void *block = ::operator new[](size, wide);
    KEEP(block);
    return block;
}

WATCHED void *leak_new_aligned_nothrow(size_t size)
{
    void *block = ::operator new(size, wide, std::nothrow);
    KEEP(block);
    return block;
}

WATCHED void *leak_new_array_aligned_nothrow(size_t size)
{
    void *block = ::operator new[](size, wide, std::nothrow);
    KEEP(block);
    return block;
}

struct variant {
    const char *name;
    void *(*leak)(size_t size);
    void (*free)(void *block);
    void *blocks[blocks_each];
};

variant variants[] = {
    {"leak_new", leak_new, [](void *block) { ::operator delete(block); }, {}},
    {"leak_new_array", leak_new_array, [](void *block) { ::operator delete[](block); }, {}},
    {"leak_new_nothrow",
     leak_new_nothrow,
     [](void *block) { ::operator delete(block, std::nothrow); },
     {}},
    {"leak_new_array_nothrow",
     leak_new_array_nothrow,
     [](void *block) { ::operator delete[](block, std::nothrow); },
     {}},
    {"leak_new_aligned",
     leak_new_aligned,
     [](void *block) { ::operator delete(block, block_bytes, wide); },
     {}},
    {"leak_new_array_aligned",
     leak_new_array_aligned,
     [](void *block) { ::operator delete[](block, wide); },
     {}},
    {"leak_new_aligned_nothrow",
     leak_new_aligned_nothrow,
     [](void *block) { ::operator delete(block, wide, std::nothrow); },
     {}},
    {"leak_new_array_aligned_nothrow",
     leak_new_array_aligned_nothrow,
     [](void *block) { ::operator delete[](block, wide, std::nothrow); },
     {}},
};

void leak_all()
{
    for (variant &each : variants)
        for (void *&block : each.blocks)
            if ((block = each.leak(block_bytes)) == nullptr)
                _exit(98);
}

void free_all()
{
    for (variant &each : variants)
        for (void *&block : each.blocks)
            each.free(block);
}

void say_all()
{
    char text[2048] = "";
    size_t used = 0;
    for (const variant &each : variants)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s\"%s\":{\"bytes\":%zu,\"blocks\":%d}", used ? "," : "",
                                 each.name, blocks_each * block_bytes, blocks_each);
    say("{\"leaks\":{%s}}", text);
}

WATCHED bool fails_to_allocate()
{
    try {
        void *block = ::operator new(SIZE_MAX / 4);
        KEEP(block);
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}
} // namespace

int main()
{
    say("{\"ready\":%d}", getpid());
    char line[128];
    unsigned long questions = 0;
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "begin", 0, &number)) {
            leak_all();
            say_all();
        } else if (is_command(line, "free", 0, &number)) {
            free_all();
            say("{\"free\":true}");
        } else if (is_command(line, "throw", 1, &number)) {
            long caught = 0;
            for (long i = 0; i < number; i++)
                caught += fails_to_allocate();
            say("{\"caught\":%ld}", caught);
        } else if (is_command(line, "count", 0, &number)) {
            say("{\"progress\":%lu}", ++questions);
        }
    }
    return 0;
}
