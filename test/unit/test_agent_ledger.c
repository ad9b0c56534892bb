/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's ledger against a model, through several generations, alone and by several threads. */
#include "agent_under_test.h"

#include <stdatomic.h>
#include <stdlib.h>

#define BASE       0x7f0000000000ull
#define OPERATIONS 3000000u
#define BLOCKS     400000u

/* What is put in for an address at a tick: the value follows from the key, so that a reader can
 * tell one that belongs to another key. */
static uint64_t value_of(uint64_t key)
{
    uint64_t hash = key * 0xd6e8feb86659fd93ull;
    return lw_agent_record_value(hash >> 40, (uint32_t)(key & 0xfffff),
                                 (uint32_t)(hash >> 30) % LW_AGENT_RATES,
                                 (uint32_t)(hash >> 8) % LW_AGENT_STACKS);
}

/* Blocks of the sizes that allocators hand out, page by page: 8 bytes apart at the least. */
static uint64_t address_of(uint32_t block)
{
    static const uint64_t strides[] = {32, 48, 112, 512, 1024, 4096, 5008, 204800};
    uint32_t kind = block % 8;
    return BASE + ((uint64_t)kind << 36) + block / 8 * strides[kind] + 16;
}

struct model {
    uint64_t *keys; /* by block; 0: not live */
    uint32_t live;
};

static void put_block(struct model *model, uint32_t block, uint32_t tick)
{
    struct replaced replaced = {0};
    uint64_t key = lw_agent_record_key(address_of(block), tick);
    assert_true(insert(key, value_of(key), &replaced));
    assert_int_equal(replaced.value, 0);
    model->keys[block] = key;
    model->live++;
}

static void take_block(struct model *model, uint32_t block)
{
    uint64_t key = 0;
    uint64_t value = take(address_of(block), &key);
    assert_int_equal(key, model->keys[block]);
    assert_int_equal(value, value_of(key));
    model->keys[block] = 0;
    model->live--;
}

/* The newest generation is not full yet, but some blocks may be in the next one. */
static uint64_t used_buckets(void)
{
    return lw_agent_first_bucket(__atomic_load_n(&shared->newest, __ATOMIC_ACQUIRE) + 2);
}

static uint64_t count_records(void)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < used_buckets(); i++)
        for (unsigned j = 0; j < LW_AGENT_BUCKET_RECORDS; j++)
            count += shared->ledger[i][j].key != 0;
    return count;
}

static void test_random_operations(void **state)
{
    (void)state;
    struct model model = {.keys = calloc(BLOCKS, sizeof(*model.keys))};
    uint64_t random = 88172645463325252ull;
    assert_non_null(model.keys);
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        uint64_t r = next_random(&random);
        uint32_t block = (uint32_t)(r >> 32) % BLOCKS;
        /* It fills, then is half empty, and fills again. */
        bool grows = i / (OPERATIONS / 3) != 1;
        if (model.keys[block] == 0 && (grows || r % 4 == 0))
            put_block(&model, block, i);
        else if (model.keys[block] != 0 && (!grows || r % 4 == 0))
            take_block(&model, block);
        else if (model.keys[block] == 0)
            assert_int_equal(take(address_of(block), &(uint64_t){0}), 0);
    }
    assert_true(shared->newest >= 2);
    assert_int_equal(count_records(), model.live);
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (model.keys[i])
            take_block(&model, i);
    assert_int_equal(count_records(), 0);
    free(model.keys);
}

/* The address is given out again while it is thought live. */
static void test_missed_free(void **state)
{
    (void)state;
    struct replaced replaced = {0};
    uint64_t first = lw_agent_record_key(BASE, 1), second = lw_agent_record_key(BASE, 2), key = 0;
    assert_true(insert(first, value_of(first), &replaced));
    assert_true(insert(second, value_of(second), &replaced));
    assert_int_equal(replaced.key, first);
    assert_int_equal(replaced.value, value_of(first));
    assert_int_equal(take(BASE, &key), value_of(second));
    assert_int_equal(key, second);
    assert_int_equal(take(BASE, &key), 0);
}

/* ---- by several threads ---- */

#define OWN_BLOCKS (BLOCKS / TEST_THREADS)

static atomic_uint writers, wrong_takes;
static atomic_ulong seen;

/* Blocks are this thread's alone, as they are while a program has them; buckets are everybody's. */
static void write_blocks(unsigned number)
{
    uint64_t random = 0x9e3779b97f4a7c15ull * (number + 1);
    uint64_t *keys = calloc(OWN_BLOCKS, sizeof(*keys));
    for (uint32_t i = 0; keys && i < OPERATIONS / TEST_THREADS; i++) {
        uint32_t own = (uint32_t)(next_random(&random) >> 32) % OWN_BLOCKS;
        uint64_t address = address_of(own * TEST_THREADS + number), key = 0;
        struct replaced replaced = {0};
        if (keys[own] == 0) {
            keys[own] = lw_agent_record_key(address, i);
            wrong_takes += !insert(keys[own], value_of(keys[own]), &replaced) || replaced.value;
        } else if (i % 3 == 0) {
            wrong_takes += take(address, &key) != value_of(keys[own]) || key != keys[own];
            keys[own] = 0;
        }
    }
    for (uint32_t i = 0; keys && i < OWN_BLOCKS; i++)
        if (keys[i])
            wrong_takes += take(lw_agent_record_address(keys[i]), &(uint64_t){0}) == 0;
    wrong_takes += keys == NULL;
    free(keys);
    writers--;
}

/* As record_scan.c reads: a value counts when its key was there before and after. */
static unsigned count_torn(uint64_t bucket)
{
    unsigned torn = 0;
    for (unsigned i = 0; i < LW_AGENT_BUCKET_RECORDS; i++) {
        const struct lw_agent_record *record = &shared->ledger[bucket][i];
        uint64_t key = __atomic_load_n(&record->key, __ATOMIC_ACQUIRE);
        uint64_t value = __atomic_load_n(&record->value, __ATOMIC_ACQUIRE);
        if (key == 0 || key == LW_AGENT_TAKEN || value == 0 ||
            __atomic_load_n(&record->key, __ATOMIC_ACQUIRE) != key)
            continue;
        torn += value != value_of(key);
        seen++;
    }
    return torn;
}

static void *read_records(void *argument)
{
    unsigned *torn = argument;
    while (writers > 0)
        for (uint64_t i = 0; i < used_buckets(); i++)
            *torn += count_torn(i);
    return NULL;
}

static void test_threads_and_a_reader(void **state)
{
    (void)state;
    pthread_t reader;
    unsigned torn = 0;
    writers = TEST_THREADS;
    assert_int_equal(pthread_create(&reader, NULL, read_records, &torn), 0);
    on_threads(write_blocks);
    pthread_join(reader, NULL);
    assert_int_equal(wrong_takes, 0);
    assert_int_equal(torn, 0);
    assert_true(seen > 1000000);
    assert_true(shared->newest >= 2);
    assert_int_equal(count_records(), 0);
}

/* The same few records again and again. */
#define HOT_BLOCKS 8u

static uint64_t hot_address(unsigned number, uint32_t block)
{
    return BASE + ((uint64_t)block * TEST_THREADS + number) * 16;
}

static void write_hot_blocks(unsigned number)
{
    for (uint32_t i = 0; i < OPERATIONS / TEST_THREADS; i++) {
        struct replaced replaced = {0};
        uint64_t address = hot_address(number, i % HOT_BLOCKS);
        uint64_t key = lw_agent_record_key(address, i), found = 0;
        wrong_takes += !insert(key, value_of(key), &replaced);
        wrong_takes += take(address, &found) != value_of(key) || found != key;
    }
    writers--;
}

static void *read_hot_records(void *argument)
{
    unsigned *torn = argument;
    while (writers > 0)
        for (uint32_t i = 0; i < HOT_BLOCKS * TEST_THREADS; i++)
            *torn += count_torn(
                lw_agent_near_bucket(hot_address(i % TEST_THREADS, i / TEST_THREADS), 0));
    return NULL;
}

static void test_few_records(void **state)
{
    (void)state;
    pthread_t reader;
    unsigned torn = 0;
    writers = TEST_THREADS;
    wrong_takes = 0;
    assert_int_equal(pthread_create(&reader, NULL, read_hot_records, &torn), 0);
    on_threads(write_hot_blocks);
    pthread_join(reader, NULL);
    assert_int_equal(wrong_takes, 0);
    assert_int_equal(torn, 0);
}

/* ---- where there is no room ---- */

static void fill_bucket(struct lw_agent_record *bucket)
{
    for (unsigned i = 0; i < LW_AGENT_BUCKET_RECORDS; i++)
        bucket[i] = (struct lw_agent_record){.key = UINT64_MAX - i, .value = 1};
}

/* All generations are full, as far as this address goes. */
static void test_no_room(void **state)
{
    (void)state;
    const uint64_t address = BASE + 64, key = lw_agent_record_key(address, 7);
    struct replaced replaced = {0};
    uint64_t found = 0;
    for (uint32_t i = 0; i < LW_AGENT_GENERATIONS; i++) {
        fill_bucket(near_bucket(address, i));
        fill_bucket(far_bucket(address, i));
    }
    assert_false(insert(key, value_of(key), &replaced));
    assert_int_equal(shared->newest, LW_AGENT_GENERATIONS - 1);
    assert_int_equal(take(address, &found), 0);
    far_bucket(address, LW_AGENT_GENERATIONS - 1)[3] = (struct lw_agent_record){0};
    assert_true(insert(key, value_of(key), &replaced));
    assert_int_equal(take(address, &found), value_of(key));
    assert_int_equal(found, key);
}

static void test_less_room(void **state)
{
    (void)state;
    const uint64_t address = BASE + 64, key = lw_agent_record_key(address, 7);
    struct replaced replaced = {0};
    agent_control.barred_generations = LW_AGENT_GENERATIONS - 2;
    for (uint32_t i = 0; i < 2; i++) {
        fill_bucket(near_bucket(address, i));
        fill_bucket(far_bucket(address, i));
    }
    assert_false(insert(key, value_of(key), &replaced));
    assert_int_equal(shared->newest, 1);
    agent_control.barred_generations = LW_AGENT_GENERATIONS - 3;
    assert_true(insert(key, value_of(key), &replaced));
}

static void test_giants(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = &shared->threads[0];
    for (uint64_t i = 1; i <= LW_AGENT_GIANTS; i++)
        agent_keep_giant(thread, i << 32, i << 31);
    assert_int_equal(thread->dropped_blocks, 0);
    agent_keep_giant(thread, 1, 1);
    assert_int_equal(thread->dropped_blocks, 1);
    for (uint64_t i = 1; i <= LW_AGENT_GIANTS; i += 7)
        assert_int_equal(agent_giant_size(i << 32, i % 2), i << 31);
    assert_int_equal(agent_giant_size(1ull << 32, false), LW_AGENT_SIZE_GIANT);
    assert_int_equal(agent_giant_size(8ull << 32, false), 8ull << 31);
    agent_keep_giant(thread, 1, 12345);
    assert_int_equal(agent_giant_size(1, false), 12345);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        agent_test(test_random_operations),
        agent_test(test_missed_free),
        agent_test(test_threads_and_a_reader),
        agent_test(test_few_records),
        agent_test(test_no_room),
        agent_test(test_less_room),
        agent_test(test_giants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
