/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stack of each kind: one leaks, one fills a cache, one frees late, one grows and frees in part.
 */
#include "target.h"

#include <poll.h>

/*
 * kinds     is idle, and answers:
 *   work                  allocates and frees from now on, as these kinds do
 *   mark BLOCKS [BYTES]   allocates so many blocks and keeps them
 *   drop BLOCKS           frees so many of those, the first first
 */
enum { TICK_MS = 5, CACHE = 64, CACHE_A_TICK = 4, LATE = 256, MOST_MARKED = 4096 };

#define LATE_S   0.42
#define PARTLY_S 0.3

struct entry {
    void *block;
    double born;
};

/* Blocks that are freed at an age, in the order in which they came. */
struct queue {
    struct entry entries[LATE];
    size_t first, count;
};

static struct queue slow, partly;
static void *cache[CACHE];
static size_t cached, ticks;
static void *marked[MOST_MARKED];
static size_t mark_first, mark_count;

WATCHED static void *leak_steadily(void)
{
    void *block = malloc(96);
    KEEP(block);
    return block;
}

WATCHED static void *leak_cached(void)
{
    void *block = malloc(500);
    KEEP(block);
    return block;
}

WATCHED static void *leak_slowly(void)
{
    void *block = malloc(200);
    KEEP(block);
    return block;
}

WATCHED static void *leak_partly(void)
{
    void *block = malloc(300);
    KEEP(block);
    return block;
}

WATCHED static void *leak_marked(size_t bytes)
{
    void *block = malloc(bytes);
    KEEP(block);
    return block;
}

static void enqueue(struct queue *queue, void *block)
{
    if (queue->count == LATE)
        _exit(97);
    queue->entries[(queue->first + queue->count++) % LATE] = (struct entry){block, now_s()};
}

static void free_old(struct queue *queue, double age)
{
    while (queue->count > 0 && now_s() - queue->entries[queue->first].born >= age) {
        free(queue->entries[queue->first].block);
        queue->first = (queue->first + 1) % LATE;
        queue->count--;
    }
}

static void tick(void)
{
    leak_steadily();
    for (int i = 0; i < CACHE_A_TICK && cached < CACHE; i++)
        cache[cached++] = leak_cached();
    enqueue(&slow, leak_slowly());
    free_old(&slow, LATE_S);
    void *block = leak_partly(); /* one call, hence one stack */
    if (++ticks % 2 == 0)
        enqueue(&partly, block);
    free_old(&partly, PARTLY_S);
}

/* Whether it is to work from now on. */
static bool obey(const char *line)
{
    long blocks = 0, bytes = 1000;
    if (sscanf(line, "mark %ld %ld", &blocks, &bytes) >= 1) {
        for (long i = 0; i < blocks && mark_count < MOST_MARKED; i++)
            marked[mark_count++] = leak_marked((size_t)bytes);
    } else if (sscanf(line, "drop %ld", &blocks) == 1) {
        for (long i = 0; i < blocks && mark_first < mark_count; i++)
            free(marked[mark_first++]);
    }
    say("{\"marked\":%zu}", mark_count - mark_first);
    return strcmp(line, "work") == 0;
}

int main(void)
{
    bool works = false;
    char line[128];
    say("{\"ready\":%d}", getpid());
    for (;;) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&input, 1, works ? TICK_MS : -1) > 0) {
            if (!hear(line, sizeof line))
                return 0;
            works |= obey(line);
        } else if (works) {
            tick();
        }
    }
}
