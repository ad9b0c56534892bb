/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For tests of the agent's unwinding: stacks between guard pages as compiled code would leave them,
 * with the words that an unwinding must find. Include it once. */
#ifndef TEST_FAKE_STACK_H
#define TEST_FAKE_STACK_H

#include "agent_under_test.h"

/* Functions that do not exist, so many bytes each; their rows are the same everywhere. */
enum function {
    SMALL,     /* CFA by the stack pointer, leaves the frame pointer alone */
    LARGE,     /* the same */
    SAVES,     /* saves the frame pointer, and has it hold anything */
    SAVES_FAR, /* the same, elsewhere */
    FRAMED,    /* CFA by the frame pointer */
    VARIABLE,  /* the same, of any size */
    REALIGNED, /* CFA by a word beside the frame pointer */
    FIRST,     /* the outermost */
    RESTORER,  /* a signal handler returns to it */
    LINKAGE,   /* a procedure linkage table */
    UNKNOWN,   /* no row */
    FUNCTIONS,
    CALLABLE = FIRST
};

#define CODE        0x10000000ull
#define CODE_SIZE   256u
#define ENTRY       0x20000000ull /* the allocator function that is called */
#define GUARD       65536u
#define STACK_SIZE  262144u
#define WORDS_MAX   4096u
#define FRAMES_MAX  2048u
#define CONTEXT     936u /* what the kernel puts on the stack, about */
#define CONTEXT_FP  120u
#define CONTEXT_SP  160u
#define CONTEXT_PC  168u
#define SMALL_SIZE  16u
#define LARGE_SIZE  104u
#define SAVES_SIZE  48u
#define SAVES_SLOT  2u
#define FAR_SIZE    136u
#define FAR_SLOT    7u
#define REALIGN_CFA 8u /* below the frame pointer */

static lw_row rows[FUNCTIONS];

static inline void make_rows(void)
{
    const uint32_t beside = LW_ROW_DEREF_BIAS - REALIGN_CFA;
    rows[SMALL] = lw_row_pack(LW_ROW_SP, SMALL_SIZE, 0);
    rows[LARGE] = lw_row_pack(LW_ROW_SP, LARGE_SIZE, 0);
    rows[SAVES] = lw_row_pack(LW_ROW_SP, SAVES_SIZE, SAVES_SLOT);
    rows[SAVES_FAR] = lw_row_pack(LW_ROW_SP, FAR_SIZE, FAR_SLOT);
    rows[FRAMED] = rows[VARIABLE] = lw_row_pack(LW_ROW_FP, 16, 2);
    rows[REALIGNED] = lw_row_pack(LW_ROW_DEREF, beside, LW_ROW_SLOT_AT_FP);
    rows[FIRST] = lw_row_pack(LW_ROW_END, 0, 0);
    rows[RESTORER] = lw_row_pack(LW_ROW_SIGNAL, 0, 0);
    rows[LINKAGE] = lw_row_pack(LW_ROW_PLT, 0, 0);
    rows[UNKNOWN] = 0;
}

/* Publishes the rows, as leakwatch does. */
static inline void publish_rows(void)
{
    struct lw_agent_module_list *list = &shared->modules[0];
    for (uint32_t i = 0; i < FUNCTIONS; i++) {
        shared->row_start[i] = i * CODE_SIZE;
        shared->row[i] = rows[i];
    }
    list->list[0] = (struct lw_agent_module){
        .start = CODE, .end = CODE + FUNCTIONS * CODE_SIZE, .base = CODE, .count = FUNCTIONS};
    list->count = 1;
    memset(shared->row_cache, 0, sizeof(shared->row_cache));
    shared->version++;
}

struct frame {
    uint64_t sp, fp;
    enum function function;
    uint32_t words;
};

/* A thread's state: where it is, and how it came there. */
struct fake_stack {
    char *area; /* with guards */
    uint64_t low, high;
    uint64_t sp, fp;
    enum function function;
    uint64_t words[WORDS_MAX]; /* what an unwinding finds, outermost first */
    uint32_t word_count;
    struct frame frames[FRAMES_MAX];
    uint32_t frame_count;
    uint64_t random;
};

static inline uint64_t draw(struct fake_stack *stack)
{
    return next_random(&stack->random);
}

static inline void write_word(uint64_t address, uint64_t value)
{
    *(uint64_t *)address = value;
}

/* Two stacks are made, for handlers on their own; they are published together. */
static inline void create_stack(struct fake_stack *stack)
{
    *stack = (struct fake_stack){.random = 88172645463325252ull, .function = FIRST};
    stack->area = mmap(NULL, 2 * GUARD + STACK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(stack->area != MAP_FAILED);
    assert_int_equal(mprotect(stack->area + GUARD, STACK_SIZE, PROT_READ | PROT_WRITE), 0);
    stack->low = (uint64_t)stack->area + GUARD;
    stack->high = stack->low + STACK_SIZE;
    stack->sp = stack->high - 64;
}

static inline void destroy_stack(struct fake_stack *stack)
{
    munmap(stack->area, 2 * GUARD + STACK_SIZE);
}

static inline void publish_stacks(const struct fake_stack *a, const struct fake_stack *b)
{
    struct lw_agent_region_list *list = &shared->regions[0];
    bool swapped = b && b->low < a->low;
    const struct fake_stack *first = swapped ? b : a, *second = swapped ? a : b;
    list->list[0] = (struct lw_agent_region){.start = first->low, .end = first->high};
    list->count = 1;
    if (second)
        list->list[list->count++] =
            (struct lw_agent_region){.start = second->low, .end = second->high};
}

/* Somewhere behind a call in the function; that may be where the next function begins. */
static inline uint64_t call_site(struct fake_stack *stack, enum function function)
{
    return CODE + function * CODE_SIZE + 16 + draw(stack) % 5 * 60;
}

static inline void add_word(struct fake_stack *stack, uint64_t word)
{
    assert_true(stack->word_count < WORDS_MAX);
    stack->words[stack->word_count++] = word;
}

static inline void remember_frame(struct fake_stack *stack)
{
    assert_true(stack->frame_count < FRAMES_MAX);
    stack->frames[stack->frame_count++] = (struct frame){
        .sp = stack->sp, .fp = stack->fp, .function = stack->function, .words = stack->word_count};
}

/* The function's prologue; its return address is below the CFA already. */
static inline void begin_function(struct fake_stack *stack, enum function function, uint64_t cfa)
{
    const uint64_t fp = stack->fp;
    stack->function = function;
    switch (function) {
    case SAVES:
    case SAVES_FAR:
        write_word(cfa - 8 * (function == SAVES ? SAVES_SLOT : FAR_SLOT), fp);
        stack->fp = draw(stack) % 2 ? draw(stack) : stack->low + draw(stack) % STACK_SIZE / 8 * 8;
        stack->sp = cfa - (function == SAVES ? SAVES_SIZE : FAR_SIZE);
        break;
    case FRAMED:
    case VARIABLE:
        stack->fp = cfa - 16;
        write_word(stack->fp, fp);
        stack->sp = stack->fp - 32 - (function == VARIABLE ? draw(stack) % 30 * 8 : 0);
        break;
    case REALIGNED:
        stack->fp = (cfa - 64) & ~63ull;
        write_word(stack->fp, fp);
        write_word(stack->fp - REALIGN_CFA, cfa);
        stack->sp = stack->fp - 48;
        break;
    default:
        stack->sp = cfa - (function == LARGE ? LARGE_SIZE : SMALL_SIZE);
    }
}

/* Calls the function; the return address is the caller's word of the stack. */
static inline void call_from(struct fake_stack *stack, enum function function, uint64_t pc)
{
    remember_frame(stack);
    write_word(stack->sp - 8, pc);
    add_word(stack, pc);
    begin_function(stack, function, stack->sp);
}

static inline void call_function(struct fake_stack *stack, enum function function)
{
    call_from(stack, function, call_site(stack, stack->function));
}

/* A signal interrupts the function at `pc`: its handler begins on this stack, or on `other`. */
static inline void interrupt_at(struct fake_stack *stack, uint64_t pc, enum function handler,
                                uint64_t handler_sp)
{
    const uint64_t context = (handler_sp - 128 - CONTEXT) & ~15ull;
    const uint64_t restorer = CODE + RESTORER * CODE_SIZE + 16;
    remember_frame(stack);
    write_word(context + CONTEXT_FP, stack->fp);
    write_word(context + CONTEXT_SP, stack->sp);
    write_word(context + CONTEXT_PC, pc);
    add_word(stack, pc | LW_AGENT_EXACT_PC);
    write_word(context - 8, restorer);
    add_word(stack, restorer);
    begin_function(stack, handler, context);
}

static inline void return_from_function(struct fake_stack *stack)
{
    const struct frame *frame = &stack->frames[--stack->frame_count];
    stack->sp = frame->sp;
    stack->fp = frame->fp;
    stack->function = frame->function;
    stack->word_count = frame->words;
}

/* ---- the allocator function that is watched ---- */

static struct lw_agent_site site;
static uint64_t next_block = 0x700000000000;

static inline void *give_block(uint64_t size)
{
    (void)size;
    return (void *)(next_block += 16);
}

/* What a call of it leaves: where its return address is. */
static inline uint64_t call_allocator(struct fake_stack *stack, uint64_t pc)
{
    write_word(stack->sp - 8, pc);
    return stack->sp - 8;
}

void *malloc_recorded(uint64_t size, const uint64_t *sp, uint64_t fp,
                      const struct lw_agent_site *site);

/* The number of the stack that the wrapper of malloc records. */
static inline uint32_t record_at(uint64_t sp, uint64_t fp)
{
    uint64_t key;
    void *block = malloc_recorded(1, (const uint64_t *)sp, fp, &site);
    uint64_t value = take((uint64_t)block, &key);
    assert_int_not_equal(value, 0);
    return lw_agent_record_stack(value);
}

/* Where a thread's id is, from its thread pointer. */
static inline uint32_t find_tid_offset(uint32_t tid)
{
    for (uint32_t offset = 8; offset < 4096; offset += 4)
        if (*(const uint32_t *)(thread_pointer() + offset) == tid)
            return offset;
    return 0;
}

#endif
