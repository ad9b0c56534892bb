/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks and the blocks of counts: equal stacks get one number. */
#include "agent.h"

#define TAG_MASK (~(uint64_t)(LW_AGENT_STACKS - 1))

/* Includes what else tells stacks apart. */
static uint64_t full_hash(const struct stack_key *key)
{
    uint64_t epoch = __atomic_load_n(&shared->epoch, __ATOMIC_RELAXED);
    uint64_t hash = mix(key->hash + mix(key->entry + epoch) + key->truncated);
    return hash & TAG_MASK ? hash : ~hash; /* a word of the index is never 0 */
}

/* Writes a new stack's record; its number, or 0 when there is no room. */
static uint32_t create(const struct stack_key *key, uint64_t hash)
{
    const uint32_t depth = key->depth + 1;
    if (__atomic_load_n(&shared->next_stack, __ATOMIC_RELAXED) >=
            LW_AGENT_STACKS - LW_AGENT_FIRST_STACK - LW_AGENT_THREADS ||
        __atomic_load_n(&shared->next_word, __ATOMIC_RELAXED) >=
            LW_AGENT_STACK_WORDS - LW_AGENT_SPARE_WORDS - control->barred_words)
        return 0;
    uint32_t number = add_shared(&shared->next_stack, 1) + LW_AGENT_FIRST_STACK;
    uint64_t first = __atomic_fetch_add(&shared->next_word, depth, __ATOMIC_RELAXED);
    uint64_t *words = &shared->stack_words[first];
    words[0] = key->entry | LW_AGENT_EXACT_PC;
    for (uint32_t i = 0; i < key->depth; i++)
        words[1 + i] = key->frames[key->outermost_first ? key->depth - 1 - i : i].pc;
    struct lw_agent_stack *stack = &shared->stacks[number];
    stack->hash = hash;
    stack->first = (uint32_t)first;
    stack->truncated = key->truncated;
    stack->epoch = __atomic_load_n(&shared->epoch, __ATOMIC_RELAXED);
    __atomic_store_n(&stack->depth, (uint16_t)depth, __ATOMIC_RELEASE);
    return number;
}

static uint32_t no_room(void)
{
    add_shared(&shared->no_stack, 1);
    return LW_AGENT_STACK_UNKNOWN;
}

static bool is_stack(uint64_t word, uint64_t hash)
{
    return ((word ^ hash) & TAG_MASK) == 0 &&
           shared->stacks[word & (LW_AGENT_STACKS - 1)].hash == hash;
}

OUTLINE uint32_t agent_intern(const struct stack_key *key)
{
    const uint64_t hash = full_hash(key);
    uint64_t *level = shared->stack_index;
    uint32_t number = 0;
    for (unsigned i = 0; i < LW_AGENT_INDEX_LEVELS; i++) {
        const uint32_t words = 1u << (LW_AGENT_INDEX_LOG + 3 * i);
        uint64_t *group = level + hash % (words / LW_AGENT_INDEX_PROBES) * LW_AGENT_INDEX_PROBES;
        for (unsigned j = 0; j < LW_AGENT_INDEX_PROBES; j++) {
            uint64_t word = __atomic_load_n(&group[j], __ATOMIC_ACQUIRE);
            if (word == 0) {
                if (number == 0 && (number = create(key, hash)) == 0)
                    return no_room();
                if (__atomic_compare_exchange_n(&group[j], &word, (hash & TAG_MASK) | number, false,
                                                __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
                    return number;
            }
            if (is_stack(word, hash))
                return (uint32_t)word & (LW_AGENT_STACKS - 1);
        }
        level += words;
    }
    return no_room();
}

OUTLINE uint32_t agent_counts_block(struct lw_agent_thread *thread, uint32_t index)
{
    uint32_t *entry = &thread->directory[index];
    if (__atomic_load_n(&shared->next_block, __ATOMIC_RELAXED) >=
        LW_AGENT_COUNT_BLOCKS - LW_AGENT_THREADS)
        return 0; /* of nobody */
    uint32_t none = 0, block = add_shared(&shared->next_block, 1) + 1;
    /* A signal handler may have come between. */
    return __atomic_compare_exchange_n(entry, &none, block, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED)
               ? block
               : none;
}
