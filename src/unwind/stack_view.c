/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stopped thread's memory as unwinding reads it: words, of stacks and of constant pages. */
#include "stack_view.h"

#include <errno.h>

#include "leakwatch/base/cleanup.h"

#define WORD         sizeof(uint64_t)
#define LARGEST_READ (32u << 10)
/* A gap between two frames that is worth reading as part of the window. */
#define LARGEST_GAP (64u << 10)

void lw_stack_view_init(struct lw_stack_view *view, struct lw_memory *memory,
                        struct lw_module_layouts *layouts)
{
    *view = (struct lw_stack_view){.memory = memory, .layouts = layouts};
}

static void forget_windows(struct lw_stack_view *view)
{
    for (unsigned i = 0; i < LW_STACK_VIEW_WINDOWS; i++)
        view->windows[i].end = view->windows[i].start;
    view->opened = 0;
}

static void forget_pages(struct lw_stack_view *view)
{
    for (size_t i = 0; i < view->pages.capacity; i++)
        if (view->pages.entries[i].key != UINT64_MAX)
            free((void *)(uintptr_t)view->pages.entries[i].value);
    lw_map_deinit(&view->pages);
}

void lw_stack_view_flush(struct lw_stack_view *view)
{
    forget_pages(view);
    forget_windows(view);
}

void lw_stack_view_deinit(struct lw_stack_view *view)
{
    lw_stack_view_flush(view);
    for (unsigned i = 0; i < LW_STACK_VIEW_WINDOWS; i++)
        free(view->windows[i].bytes);
}

/* The copy of a constant page, valid until the next call; NULL for other pages. */
static const uint8_t *constant_page(struct lw_stack_view *view, uint64_t page)
{
    uint64_t value;
    if (lw_map_get(&view->pages, page, &value))
        return (const uint8_t *)(uintptr_t)value;
    if (!lw_module_layouts_is_constant(view->layouts, page))
        return NULL;

    if (view->pages.count >= LW_STACK_VIEW_PAGES)
        forget_pages(view);
    lw_auto_free uint8_t *copy = malloc(LW_PAGE_SIZE);
    if (!copy || lw_memory_read_all(view->memory, page, copy, LW_PAGE_SIZE) < 0 ||
        lw_map_set(&view->pages, page, (uintptr_t)copy) < 0)
        return NULL;
    return lw_take_pointer(copy);
}

static bool read_constant(struct lw_stack_view *view, uint64_t address, uint64_t *word)
{
    size_t offset = address % LW_PAGE_SIZE;
    const uint8_t *page = constant_page(view, address - offset);
    if (!page)
        return false;
    size_t head = LW_PAGE_SIZE - offset < WORD ? LW_PAGE_SIZE - offset : WORD;
    memcpy(word, page + offset, head);
    if (head == WORD)
        return true;
    page = constant_page(view, address + head);
    if (!page)
        return false;
    memcpy((uint8_t *)word + head, page, WORD - head);
    return true;
}

static bool read_window(const struct lw_stack_window *window, uint64_t address, uint64_t *word)
{
    if (address < window->start || address > window->end || window->end - address < WORD)
        return false;
    memcpy(word, window->bytes + (address - window->start), WORD);
    return true;
}

/* Reads on from the window's end to beyond the address, if that is near. */
static bool extend_window(struct lw_stack_view *view, struct lw_stack_window *window,
                          uint64_t address)
{
    size_t size = window->end - window->start;
    if (size == 0 || address < window->start || address - window->start > size + LARGEST_GAP)
        return false;
    uint64_t needed = address + WORD - window->end;
    size_t wanted = needed > window->next_extension ? needed : window->next_extension;
    if (wanted > LW_STACK_WINDOW_MAX - size)
        wanted = LW_STACK_WINDOW_MAX - size;
    if (wanted < needed)
        return false;
    ssize_t got = view->memory->read(view->memory, window->end, window->bytes + size, wanted);
    if (got <= 0 || (size_t)got > wanted)
        return false;
    window->end += (size_t)got;
    if (window->next_extension < LARGEST_READ)
        window->next_extension *= 2;
    return true;
}

static struct lw_stack_window *open_window(struct lw_stack_view *view, uint64_t address,
                                           size_t size)
{
    /* The first one, at the stack pointer, stays; the others take turns. */
    unsigned turn = view->opened < LW_STACK_VIEW_WINDOWS
                        ? view->opened
                        : 1 + view->opened % (LW_STACK_VIEW_WINDOWS - 1);
    struct lw_stack_window *window = &view->windows[turn];
    if (!window->bytes)
        window->bytes = malloc(LW_STACK_WINDOW_MAX);
    if (!window->bytes)
        return NULL;
    window->start = window->end = address & ~(WORD - 1);
    window->next_extension = LW_STACK_FIRST_READ;
    view->opened++;
    ssize_t got = view->memory->read(view->memory, window->start, window->bytes, size);
    if (got > 0 && (size_t)got <= size)
        window->end += (size_t)got;
    return window;
}

void lw_stack_view_begin(struct lw_stack_view *view, uint64_t sp, size_t size)
{
    forget_windows(view);
    view->frozen = view->denied = false;
    view->reach = sp;
    open_window(view, sp, size);
}

/*
 * Of a running thread, stacks change; what call-frame information refers to in a module's data (a
 * personality routine's address) does not, unless the stack is there too. No window is opened:
 * there may be stack next to the word.
 */
static int read_while_running(struct lw_stack_view *view, uint64_t address, uint64_t *word)
{
    const uint64_t sp = view->windows[0].start;
    if (lw_module_layouts_find(view->layouts, address) &&
        !lw_module_layouts_find(view->layouts, sp) &&
        lw_memory_read_all(view->memory, address, word, WORD) == 0)
        return 0;
    view->denied = true;
    return -EFAULT;
}

int lw_stack_view_read(struct lw_stack_view *view, uint64_t address, uint64_t *word)
{
    if (address > UINT64_MAX - LW_STACK_WINDOW_MAX)
        return -EFAULT;
    for (unsigned i = 0; i < LW_STACK_VIEW_WINDOWS; i++)
        if (read_window(&view->windows[i], address, word)) {
            if (i == 0 && address + WORD > view->reach)
                view->reach = address + WORD;
            return 0;
        }
    if (read_constant(view, address, word))
        return 0;
    if (view->frozen)
        return read_while_running(view, address, word);
    for (unsigned i = 0; i < LW_STACK_VIEW_WINDOWS; i++)
        if (extend_window(view, &view->windows[i], address)) {
            if (i == 0)
                view->reach = address + WORD;
            return read_window(&view->windows[i], address, word) ? 0 : -EFAULT;
        }
    const struct lw_stack_window *window = open_window(view, address, LW_STACK_FIRST_READ);
    return window && read_window(window, address, word) ? 0 : -EFAULT;
}

bool lw_stack_view_holds(struct lw_stack_view *view, uint64_t address, const uint8_t *bytes,
                         size_t size)
{
    uint64_t word;
    const size_t rest = size - WORD;
    return lw_stack_view_read(view, address, &word) == 0 && memcmp(&word, bytes, WORD) == 0 &&
           lw_stack_view_read(view, address + rest, &word) == 0 &&
           memcmp(&word, bytes + rest, WORD) == 0;
}
