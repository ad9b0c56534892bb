/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libunwind's accessors, and stepping with them. */
#include "cursor.h"

#include "leakwatch/arch/frame.h"

/* Exported by libunwind for unwinders such as this one and perf's, but declared in none of its
 * installed headers. */
extern int UNW_OBJ(dwarf_search_unwind_table)(unw_addr_space_t space, unw_word_t ip,
                                              unw_dyn_info_t *table, unw_proc_info_t *info,
                                              int need_unwind_info, void *argument);

/* Program counters whose unwinding libunwind remembers. */
#define CACHED_ROWS 4096
/* Words that one unwind may read: call-frame information is the target's and may hold a DWARF
 * expression that loops for ever. */
#define READ_BUDGET (1u << 18)

static int find_proc_info(unw_addr_space_t space, unw_word_t ip, unw_proc_info_t *info,
                          int need_unwind_info, void *argument)
{
    struct lw_cursor *cursor = argument;
    const struct lw_module_layout *layout = lw_module_layouts_find(cursor->layouts, ip);
    int result = -UNW_ENOINFO;
    if (layout && layout->has_table) {
        unw_dyn_info_t table = layout->table;
        result =
            UNW_OBJ(dwarf_search_unwind_table)(space, ip, &table, info, need_unwind_info, argument);
    }
    cursor->no_table = result < 0;
    return result;
}

static void put_unwind_info(unw_addr_space_t space, unw_proc_info_t *info, void *argument)
{
    (void)space, (void)info, (void)argument;
}

static int get_dyn_info_list_addr(unw_addr_space_t space, unw_word_t *address, void *argument)
{
    (void)space, (void)address, (void)argument;
    return -UNW_ENOINFO;
}

static int access_mem(unw_addr_space_t space, unw_word_t address, unw_word_t *value, int write,
                      void *argument)
{
    struct lw_cursor *cursor = argument;
    (void)space;
    if (write || cursor->read_budget == 0)
        return -UNW_EINVAL;
    cursor->read_budget--;
    uint64_t word;
    if (lw_stack_view_read(cursor->view, address, &word) < 0)
        return -UNW_EINVAL;
    *value = word;
    return 0;
}

/* libunwind numbers the registers as DWARF does, with the program counter in the place of the
 * return address. */
static int access_reg(unw_addr_space_t space, unw_regnum_t number, unw_word_t *value, int write,
                      void *argument)
{
    const struct lw_cursor *cursor = argument;
    const struct lw_position *start = &cursor->start;
    uint64_t word;
    (void)space;
    if (write || number < 0)
        return -UNW_EREADONLYREG;
    if (number == UNW_TDEP_IP)
        word = start->pc;
    else if (number == UNW_TDEP_SP)
        word = start->sp;
    else if ((unsigned)number == lw_frame_pointer_number)
        word = start->fp;
    else if (start->only || !lw_registers_dwarf(cursor->registers, (unsigned)number, &word))
        return -UNW_EBADREG;
    *value = word;
    return 0;
}

static int access_fpreg(unw_addr_space_t space, unw_regnum_t number, unw_fpreg_t *value, int write,
                        void *argument)
{
    (void)space, (void)number, (void)value, (void)write, (void)argument;
    return -UNW_EBADREG;
}

static int resume(unw_addr_space_t space, unw_cursor_t *cursor, void *argument)
{
    (void)space, (void)cursor, (void)argument;
    return -UNW_EINVAL;
}

static int get_proc_name(unw_addr_space_t space, unw_word_t address, char *buffer, size_t size,
                         unw_word_t *offset, void *argument)
{
    (void)space, (void)address, (void)buffer, (void)size, (void)offset, (void)argument;
    return -UNW_ENOINFO;
}

bool lw_cursor_init(struct lw_cursor *cursor, struct lw_module_layouts *layouts,
                    struct lw_stack_view *view)
{
    *cursor = (struct lw_cursor){
        .layouts = layouts,
        .view = view,
        .accessors =
            {
                .find_proc_info = find_proc_info,
                .put_unwind_info = put_unwind_info,
                .get_dyn_info_list_addr = get_dyn_info_list_addr,
                .access_mem = access_mem,
                .access_reg = access_reg,
                .access_fpreg = access_fpreg,
                .resume = resume,
                .get_proc_name = get_proc_name,
            },
    };
    cursor->space = unw_create_addr_space(&cursor->accessors, 0);
    if (!cursor->space)
        return false;
    unw_set_caching_policy(cursor->space, UNW_CACHE_GLOBAL);
    /* Failure leaves the small cache that libunwind begins with. */
    (void)unw_set_cache_size(cursor->space, CACHED_ROWS, 0);
    return true;
}

void lw_cursor_deinit(struct lw_cursor *cursor)
{
    unw_destroy_addr_space(cursor->space);
}

void lw_cursor_flush(struct lw_cursor *cursor)
{
    unw_flush_cache(cursor->space, 0, 0);
}

void lw_cursor_begin(struct lw_cursor *cursor, const struct lw_registers *registers)
{
    cursor->registers = registers;
    cursor->read_budget = READ_BUDGET;
}

bool lw_cursor_place(struct lw_cursor *cursor, const struct lw_position *position)
{
    cursor->start = *position;
    return unw_init_remote(&cursor->cursor, cursor->space, cursor) == 0;
}

uint64_t lw_cursor_frame_pointer(struct lw_cursor *cursor)
{
    unw_word_t fp;
    unw_regnum_t number = (unw_regnum_t)lw_frame_pointer_number;
    return unw_get_reg(&cursor->cursor, number, &fp) == 0 ? fp : UINT64_MAX;
}

enum lw_cursor_step lw_cursor_step(struct lw_cursor *cursor, uint64_t *pc, uint64_t *sp)
{
    unw_word_t next_pc, next_sp;
    cursor->no_table = false;
    int result = unw_step(&cursor->cursor);
    /* Without a table libunwind guesses, and does not say so. */
    if (cursor->no_table)
        return LW_CURSOR_NO_TABLE;
    if (result < 0 || unw_get_reg(&cursor->cursor, UNW_REG_IP, &next_pc) < 0 ||
        unw_get_reg(&cursor->cursor, UNW_REG_SP, &next_sp) < 0)
        return LW_CURSOR_FAILED;
    *pc = next_pc;
    *sp = next_sp;
    return result == 0 ? LW_CURSOR_OUTERMOST : LW_CURSOR_FRAME;
}
