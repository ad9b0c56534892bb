/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the ledger: each live block once, whatever the agent is about. */
#include "shared_memory.h"

#include <pthread.h>

#include "../../src/probe/record_scan.h"
#include "leakwatch/base/map.h"

#define HEAP 0x560000000000ull

struct visits {
    struct lw_map by_address; /* -> size */
    uint64_t count, twice, bytes;
    struct record_block last;
};

static void visit(void *context, const struct record_block *block)
{
    struct visits *visits = context;
    visits->count++;
    visits->bytes += block->size;
    visits->twice += lw_map_get(&visits->by_address, block->address, NULL);
    visits->last = *block;
    assert_int_equal(lw_map_set(&visits->by_address, block->address, block->size), 0);
}

static uint64_t scan(struct visits *visits)
{
    uint64_t missed = 0;
    *visits = (struct visits){0};
    assert_int_equal(record_scan_blocks(memory_fd, memory, memory->tick, visit, visits, &missed),
                     0);
    lw_map_deinit(&visits->by_address);
    return missed;
}

static struct lw_agent_record *record_at(uint64_t bucket, unsigned i)
{
    return &memory->ledger[bucket][i];
}

static void write_record(struct lw_agent_record *record, uint64_t address, uint64_t size)
{
    record->key = lw_agent_record_key(address, NOW_TICK);
    record->value = lw_agent_record_value(size, NOW_TICK, 0, 2);
}

static void test_fields(void **state)
{
    (void)state;
    struct visits visits;
    agent_put(HEAP + 8, 12345, NOW_TICK - 3, 7, 0xabcde);
    assert_int_equal(scan(&visits), 0);
    assert_int_equal(visits.count, 1);
    assert_int_equal(visits.last.address, HEAP + 8);
    assert_int_equal(visits.last.size, 12345);
    assert_int_equal(visits.last.age, 3);
    assert_int_equal(visits.last.rate, 7);
    assert_int_equal(visits.last.stack, 0xabcde);
}

static void test_incomplete_records(void **state)
{
    (void)state;
    struct visits visits;
    record_at(0, 0)->key = lw_agent_record_key(HEAP, NOW_TICK); /* claimed */
    record_at(1, 3)->value = lw_agent_record_value(1, NOW_TICK, 0, 2);
    write_record(record_at(LW_AGENT_BUCKETS - 1, 3), HEAP + 64, 5);
    long before = memory_blocks();
    assert_int_equal(scan(&visits), 0);
    assert_int_equal(visits.count, 1);
    assert_int_equal(visits.last.size, 5);
    assert_int_equal(memory_blocks(), before);
}

static void test_giants(void **state)
{
    (void)state;
    struct visits visits;
    struct lw_agent_thread *thread = agent_thread(0);
    const uint64_t least = LW_AGENT_SIZE_GIANT - 1;
    agent_put(HEAP, least - 1, 1, 0, 2);
    assert_int_equal(scan(&visits), 0);
    assert_int_equal(visits.bytes, least - 1);
    agent_free(HEAP);

    agent_keep_giant(thread, HEAP + 4096, 7ull << 40);
    agent_keep_giant(thread, HEAP, least);
    agent_put(HEAP, least, 1, 0, 2);
    agent_put(HEAP + 4096, 7ull << 40, 1, 0, 2);
    long before = memory_blocks();
    assert_int_equal(scan(&visits), 0);
    assert_int_equal(visits.count, 2);
    assert_int_equal(visits.bytes, least + (7ull << 40));
    assert_int_equal(memory_blocks(), before);

    agent_giant_size(HEAP + 4096, true); /* as if there had been no room */
    assert_int_equal(scan(&visits), 0);
    assert_int_equal(visits.bytes, 2 * least);

    /* As its record says, it is no smaller. */
    memory->giants[LW_AGENT_GIANTS - 1] = (struct lw_agent_giant){HEAP + 4096, 5};
    assert_int_equal(scan(&visits), 0);
    assert_int_equal(visits.bytes, 2 * least);

    /* The last of them, beyond pages that do not exist. */
    memory->giants[LW_AGENT_GIANTS - 1] = (struct lw_agent_giant){HEAP + 4096, 3ull << 30};
    before = memory_blocks();
    assert_int_equal(scan(&visits), 0);
    assert_int_equal(visits.bytes, least + (3ull << 30));
    assert_int_equal(memory_blocks(), before);
}

/* In every pair of generations, near and far. */
static void test_missed_across_generations(void **state)
{
    (void)state;
    struct visits visits;
    uint64_t random = 1234567;
    for (uint32_t older = 0; older < LW_AGENT_GENERATIONS - 1; older++) {
        for (uint32_t newer = older + 1; newer < LW_AGENT_GENERATIONS; newer++) {
            uint64_t address = next_random(&random) % (1ull << 47) & ~15ull;
            for (unsigned way = 0; way < 4; way++) {
                struct lw_agent_record *old =
                    record_at(way & 1 ? lw_agent_near_bucket(address, older)
                                      : lw_agent_far_bucket(address, older),
                              address >> 5 & 3);
                struct lw_agent_record *new =
                    record_at(way & 2 ? lw_agent_near_bucket(address, newer)
                                      : lw_agent_far_bucket(address, newer),
                              way);
                write_record(old, address, 10);
                write_record(new, address, 20);
                long before = memory_blocks();
                assert_int_equal(scan(&visits), 1);
                assert_int_equal(visits.count, 1);
                assert_int_equal(visits.last.size, 20);
                assert_int_equal(memory_blocks(), before);
                memset(old, 0, sizeof(*old));
                memset(new, 0, sizeof(*new));
            }
        }
    }
}

/* The agent claims the block's own record without looking at the others. */
static void test_missed_in_one_generation(void **state)
{
    (void)state;
    struct visits visits;
    const uint64_t address = HEAP;
    const uint64_t places[][2] = {{lw_agent_near_bucket(address, 0), 2},
                                  {lw_agent_far_bucket(address, 0), 1}};
    for (size_t i = 0; i < 2; i++) {
        struct lw_agent_record *old = record_at(places[i][0], (unsigned)places[i][1]);
        write_record(old, address, 10);
        assert_int_equal(scan(&visits), 0);
        assert_int_equal(visits.count, 1);
        assert_false(agent_put(address, 20, NOW_TICK, 0, 2));
        assert_int_equal(scan(&visits), 1);
        assert_int_equal(visits.count, 1);
        assert_int_equal(visits.last.size, 20);
        agent_free(address);
        memset(old, 0, sizeof(*old));
    }
}

/* More than fit the first generations, at addresses of a heap and of large mappings, with frees. */
static void test_each_block_once(void **state)
{
    (void)state;
    enum { COUNT = 300000 };
    struct visits visits;
    uint64_t live = 0, bytes = 0, heap = HEAP, mapping = 0x7f0000000000ull, random = 99;
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t size = 16 + next_random(&random) % 100, address = heap + 16;
        heap += (size + 31) & ~15ull;
        if (i % 4 == 0) {
            address = mapping + 16;
            mapping += 4096 * (1 + next_random(&random) % 3);
        }
        agent_put(address, size, NOW_TICK, 0, 2);
        if (next_random(&random) % 8 == 0) {
            assert_int_not_equal(agent_free(address), 0);
            continue;
        }
        live++;
        bytes += size;
    }
    assert_true(memory->newest >= 2);
    long before = memory_blocks();
    assert_int_equal(scan(&visits), 0);
    assert_int_equal(memory_blocks(), before);
    assert_int_equal(visits.twice, 0);
    assert_int_equal(visits.count, live);
    assert_int_equal(visits.bytes, bytes);
}

/* ---- while the agent writes ---- */

#define SCANS 20000

static _Atomic bool finished;

static uint64_t key_of_round(uint64_t address, uint64_t round)
{
    return lw_agent_record_key(address, (uint32_t)(round & LW_AGENT_TICK_MASK));
}

/* The stack, which is beside the size, says the low bits of the tick, which are beside the address.
 */
static uint64_t value_of_round(uint64_t address, uint64_t round)
{
    return lw_agent_record_value(address & 0xffff, (uint32_t)(round & LW_AGENT_TICK_MASK), 0,
                                 (uint32_t)(round % LW_AGENT_STACKS));
}

/* Two blocks that want the same record, in turn. */
static void *alternate(void *unused)
{
    for (uint64_t round = 0; !finished; round++) {
        uint64_t address = HEAP + round % 2 * 16;
        struct replaced replaced = {0};
        insert(key_of_round(address, round), value_of_round(address, round), &replaced);
        agent_free(address);
    }
    return unused;
}

/* One block that is freed and given out again, and has another record each time. */
static void *move_about(void *unused)
{
    const uint64_t address = HEAP + 4096;
    struct lw_agent_record *bucket = memory->ledger[lw_agent_near_bucket(address, 0)];
    for (uint64_t round = 0; !finished; round++) {
        struct lw_agent_record *record = &bucket[round % 2 ? address >> 5 & 3 : 2];
        uint64_t key;
        claim(record, key_of_round(address, round), value_of_round(address, round));
        release(record, &key);
    }
    return unused;
}

static void check_block(void *context, const struct record_block *block)
{
    uint64_t *seen = context;
    (*seen)++;
    assert_int_equal(block->size, block->address & 0xffff);
    if (block->age != 0)
        assert_int_equal((0u - block->age) % LW_AGENT_STACKS, block->stack);
}

static void test_while_the_agent_writes(void **state)
{
    (void)state;
    void *(*const writers[])(void *) = {alternate, move_about};
    pthread_t threads[2];
    uint64_t seen = 0, missed = 0;
    finished = false;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writers[i], NULL), 0);
    for (int i = 0; i < SCANS; i++)
        assert_int_equal(record_scan_blocks(memory_fd, memory, 0, check_block, &seen, &missed), 0);
    finished = true;
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(seen > 0);
    assert_int_equal(missed, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_fields),
        TEST(test_incomplete_records),
        TEST(test_giants),
        TEST(test_missed_across_generations),
        TEST(test_missed_in_one_generation),
        TEST(test_each_block_once),
        TEST(test_while_the_agent_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
