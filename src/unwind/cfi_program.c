/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs programs of call-frame instructions (DWARF 5, 6.4.2) and packs what they say into rows. */
#include "cfi_program.h"

#include <dwarf.h>
#include <libunwind.h> /* numbers of registers, which are DWARF's */
#include <string.h>

#include "leakwatch/arch/frame.h"

#define WORD ((int64_t)sizeof(uint64_t))
/* Compilers nest two states at most. */
#define STATES_MAX 8
#define OPERAND    0x3f /* of the three instructions that hold one, in the low bits */

struct program {
    const struct lw_cfi_common *common;
    struct lw_byte_reader reader;
    struct lw_row_sink *sink; /* NULL: of a CIE */
    uint64_t location, end;
    struct lw_cfi_rules rules;
    struct lw_cfi_rules states[STATES_MAX];
    unsigned state_count;
    bool failed, done;
};

/* ---- From rules to rows. ---- */

static bool is_saved_at(const struct lw_rule *rule, uint64_t slot)
{
    return rule->form == LW_RULE_AT_REGISTER && rule->number == UNW_TDEP_SP &&
           rule->offset == (int64_t)slot;
}

/* Whether the rules are those of what the kernel pushes for a signal handler. */
static bool is_signal_context(const struct lw_cfi_rules *rules)
{
    const struct lw_signal_context context = lw_frame_signal_context(0);
    const struct lw_cfa *cfa = &rules->cfa;
    return cfa->form == LW_CFA_DEREF && cfa->number == UNW_TDEP_SP &&
           cfa->offset == (int64_t)context.sp && is_saved_at(&rules->return_address, context.pc) &&
           is_saved_at(&rules->frame_pointer, context.fp) &&
           (rules->stack_pointer.form == LW_RULE_IS_CFA ||
            is_saved_at(&rules->stack_pointer, context.sp));
}

/* The distance below the CFA at which the frame pointer is saved, as a slot. */
static bool slot_at(int64_t distance, uint32_t *slot)
{
    if (distance <= 0 || distance % WORD != 0 || distance / WORD > LW_ROW_SLOT_MAX)
        return false;
    *slot = (uint32_t)(distance / WORD);
    return true;
}

static bool frame_pointer_slot(const struct lw_cfi_rules *rules, uint32_t *slot)
{
    const struct lw_rule *rule = &rules->frame_pointer;
    *slot = 0;
    if (rule->form == LW_RULE_SAME)
        return true;
    if (rule->form == LW_RULE_AT_CFA)
        return rule->offset != INT64_MIN && slot_at(-rule->offset, slot);
    if (rule->form != LW_RULE_AT_REGISTER)
        return false;
    if (rule->number == lw_frame_pointer_number && rule->offset == 0) {
        *slot = LW_ROW_SLOT_AT_FP;
        return true;
    }
    int64_t distance;
    return rules->cfa.form == LW_CFA_REGISTER && rules->cfa.number == rule->number &&
           !__builtin_sub_overflow(rules->cfa.offset, rule->offset, &distance) &&
           slot_at(distance, slot);
}

static lw_row pack_offset(enum lw_row_kind kind, int64_t offset, uint32_t slot)
{
    if (offset < 0 || offset % WORD != 0 || offset / WORD > LW_ROW_OFFSET_MAX)
        return LW_ROW_NONE;
    return lw_row_pack(kind, (uint32_t)offset, slot);
}

/* A row is true or LW_ROW_NONE. */
static lw_row pack(const struct lw_cfi_rules *rules, bool is_signal_frame)
{
    const struct lw_rule *return_address = &rules->return_address;
    const struct lw_cfa *cfa = &rules->cfa;
    uint32_t slot;
    if (return_address->form == LW_RULE_UNDEFINED)
        return lw_row_pack(LW_ROW_END, 0, 0);
    if (is_signal_frame)
        return is_signal_context(rules) ? lw_row_pack(LW_ROW_SIGNAL, 0, 0) : LW_ROW_NONE;
    if (return_address->form != LW_RULE_AT_CFA || return_address->offset != -WORD ||
        rules->stack_pointer.form != LW_RULE_IS_CFA || !frame_pointer_slot(rules, &slot))
        return LW_ROW_NONE;
    if (cfa->form == LW_CFA_PLT)
        return slot == 0 ? lw_row_pack(LW_ROW_PLT, 0, 0) : LW_ROW_NONE;
    if (cfa->form == LW_CFA_REGISTER && cfa->number == UNW_TDEP_SP)
        return pack_offset(LW_ROW_SP, cfa->offset, slot);
    if (cfa->form == LW_CFA_OTHER || cfa->number != lw_frame_pointer_number)
        return LW_ROW_NONE;
    if (cfa->form == LW_CFA_REGISTER)
        return pack_offset(LW_ROW_FP, cfa->offset, slot);
    if (cfa->offset < -LW_ROW_DEREF_BIAS || cfa->offset >= LW_ROW_DEREF_BIAS)
        return LW_ROW_NONE;
    return pack_offset(LW_ROW_DEREF, cfa->offset + LW_ROW_DEREF_BIAS, slot);
}

/* ---- Expressions. ---- */

/* CFA = sp + 8 + ((pc & 15) >= 11 ? 8 : 0): an entry of 16 bytes pushes in front of the eleventh.
 */
static const uint8_t plt_expression[] = {
    DW_OP_breg7, 8,        DW_OP_breg16, 0,         DW_OP_lit15, DW_OP_and,
    DW_OP_lit11, DW_OP_ge, DW_OP_lit3,   DW_OP_shl, DW_OP_plus,
};

static struct lw_byte_reader take_expression(struct lw_byte_reader *reader)
{
    return lw_byte_reader_take(reader, lw_byte_reader_unsigned(reader));
}

/* `register + offset` at the reader. */
static bool read_register_offset(struct lw_byte_reader *reader, uint64_t *number, int64_t *offset)
{
    uint8_t operation = lw_byte_reader_u8(reader);
    if (operation >= DW_OP_breg0 && operation <= DW_OP_breg31)
        *number = operation - DW_OP_breg0;
    else if (operation == DW_OP_bregx)
        *number = lw_byte_reader_unsigned(reader);
    else
        return false;
    *offset = lw_byte_reader_signed(reader);
    return !reader->failed;
}

static struct lw_cfa read_cfa_expression(struct lw_byte_reader expression)
{
    struct lw_cfa cfa = {.form = LW_CFA_OTHER};
    if (lw_byte_reader_left(&expression) == sizeof(plt_expression) &&
        memcmp(expression.at, plt_expression, sizeof(plt_expression)) == 0)
        cfa.form = LW_CFA_PLT;
    else if (read_register_offset(&expression, &cfa.number, &cfa.offset)) {
        size_t left = lw_byte_reader_left(&expression);
        if (left == 0)
            cfa.form = LW_CFA_REGISTER;
        else if (left == 1 && *expression.at == DW_OP_deref)
            cfa.form = LW_CFA_DEREF;
    }
    return cfa;
}

static struct lw_rule read_rule_expression(struct lw_byte_reader expression)
{
    struct lw_rule rule = {.form = LW_RULE_OTHER};
    if (read_register_offset(&expression, &rule.number, &rule.offset) &&
        lw_byte_reader_left(&expression) == 0)
        rule.form = LW_RULE_AT_REGISTER;
    return rule;
}

/* ---- Instructions. ---- */

static int64_t scaled(struct program *program, int64_t factored)
{
    int64_t offset;
    if (__builtin_mul_overflow(factored, program->common->data_factor, &offset))
        program->failed = true;
    return offset;
}

static int64_t read_factored(struct program *program)
{
    uint64_t factored = lw_byte_reader_unsigned(&program->reader);
    if (factored > INT64_MAX)
        program->failed = true;
    return scaled(program, (int64_t)(factored & INT64_MAX));
}

static int64_t read_signed_factored(struct program *program)
{
    return scaled(program, lw_byte_reader_signed(&program->reader));
}

static int64_t read_offset(struct program *program)
{
    uint64_t offset = lw_byte_reader_unsigned(&program->reader);
    if (offset > INT64_MAX)
        program->failed = true;
    return (int64_t)(offset & INT64_MAX);
}

static struct lw_rule *rule_of(struct lw_cfi_rules *rules, uint64_t number)
{
    if (number == lw_frame_pointer_number)
        return &rules->frame_pointer;
    if (number == UNW_TDEP_SP)
        return &rules->stack_pointer;
    return number == UNW_TDEP_IP ? &rules->return_address : NULL;
}

static void set_rule(struct program *program, uint64_t number, struct lw_rule rule)
{
    struct lw_rule *kept = rule_of(&program->rules, number);
    if (kept)
        *kept = rule;
}

static void set_saved(struct program *program, uint64_t number, int64_t offset)
{
    set_rule(program, number, (struct lw_rule){.form = LW_RULE_AT_CFA, .offset = offset});
}

static void restore_rule(struct program *program, uint64_t number)
{
    /* A CIE has nothing to restore. */
    if (!program->sink)
        program->failed = true;
    struct lw_cfi_rules initial = program->common->initial;
    const struct lw_rule *rule = rule_of(&initial, number);
    if (rule)
        set_rule(program, number, *rule);
}

static void emit(struct program *program)
{
    lw_row row = pack(&program->rules, program->common->is_signal_frame);
    if (!program->sink->take(program->sink, program->location, row))
        program->done = true;
}

static void advance_to(struct program *program, uint64_t location)
{
    if (!program->sink || location < program->location) {
        program->failed = true;
        return;
    }
    if (location > program->location)
        emit(program);
    program->location = location;
    if (location >= program->end)
        program->done = true;
}

static void advance(struct program *program, uint64_t factored)
{
    uint64_t distance, location;
    if (__builtin_mul_overflow(factored, program->common->code_factor, &distance) ||
        __builtin_add_overflow(program->location, distance, &location))
        program->failed = true;
    else if (!program->reader.failed)
        advance_to(program, location);
}

static void remember_state(struct program *program)
{
    if (program->state_count < STATES_MAX)
        program->states[program->state_count++] = program->rules;
    else
        program->failed = true;
}

static void restore_state(struct program *program)
{
    if (program->state_count > 0)
        program->rules = program->states[--program->state_count];
    else
        program->failed = true;
}

/* False: the instruction is not one of these. */
static bool run_location(struct program *program, uint8_t operation)
{
    struct lw_byte_reader *reader = &program->reader;
    switch (operation) {
    case DW_CFA_nop:
        return true;
    case DW_CFA_set_loc: {
        uint64_t location = lw_byte_reader_pointer(reader, program->common->encoding, 0);
        if (!reader->failed)
            advance_to(program, location);
        return true;
    }
    case DW_CFA_advance_loc1:
        advance(program, lw_byte_reader_u8(reader));
        return true;
    case DW_CFA_advance_loc2:
        advance(program, lw_byte_reader_number(reader, 2));
        return true;
    case DW_CFA_advance_loc4:
        advance(program, lw_byte_reader_number(reader, 4));
        return true;
    case DW_CFA_remember_state:
        remember_state(program);
        return true;
    case DW_CFA_restore_state:
        restore_state(program);
        return true;
    case DW_CFA_GNU_args_size:
        lw_byte_reader_unsigned(reader);
        return true;
    default:
        return false;
    }
}

static bool run_cfa(struct program *program, uint8_t operation)
{
    struct lw_byte_reader *reader = &program->reader;
    struct lw_cfa *cfa = &program->rules.cfa;
    bool needs_register = false;
    switch (operation) {
    case DW_CFA_def_cfa:
    case DW_CFA_def_cfa_sf:
        cfa->form = LW_CFA_REGISTER;
        cfa->number = lw_byte_reader_unsigned(reader);
        cfa->offset =
            operation == DW_CFA_def_cfa ? read_offset(program) : read_signed_factored(program);
        break;
    case DW_CFA_def_cfa_register:
        cfa->number = lw_byte_reader_unsigned(reader);
        needs_register = true;
        break;
    case DW_CFA_def_cfa_offset:
        cfa->offset = read_offset(program);
        needs_register = true;
        break;
    case DW_CFA_def_cfa_offset_sf:
        cfa->offset = read_signed_factored(program);
        needs_register = true;
        break;
    case DW_CFA_def_cfa_expression:
        *cfa = read_cfa_expression(take_expression(reader));
        break;
    default:
        return false;
    }
    /* They change one half of a rule, so there must be one. */
    if (needs_register && cfa->form != LW_CFA_REGISTER)
        program->failed = true;
    return true;
}

static bool run_rule(struct program *program, uint8_t operation)
{
    struct lw_byte_reader *reader = &program->reader;
    const struct lw_rule other = {.form = LW_RULE_OTHER};
    uint64_t number = lw_byte_reader_unsigned(reader);
    switch (operation) {
    case DW_CFA_offset_extended:
        set_saved(program, number, read_factored(program));
        return true;
    case DW_CFA_offset_extended_sf:
        set_saved(program, number, read_signed_factored(program));
        return true;
    case DW_CFA_restore_extended:
        restore_rule(program, number);
        return true;
    case DW_CFA_undefined:
        set_rule(program, number, (struct lw_rule){.form = LW_RULE_UNDEFINED});
        return true;
    case DW_CFA_same_value:
        set_rule(program, number, (struct lw_rule){.form = LW_RULE_SAME});
        return true;
    case DW_CFA_expression:
        set_rule(program, number, read_rule_expression(take_expression(reader)));
        return true;
    case DW_CFA_register:
    case DW_CFA_val_offset:
        lw_byte_reader_unsigned(reader);
        break;
    case DW_CFA_val_offset_sf:
        lw_byte_reader_signed(reader);
        break;
    case DW_CFA_val_expression:
        take_expression(reader);
        break;
    default:
        return false;
    }
    set_rule(program, number, other);
    return true;
}

static void run_one(struct program *program)
{
    uint8_t operation = lw_byte_reader_u8(&program->reader), operand = operation & OPERAND;
    switch (operation & ~OPERAND) {
    case DW_CFA_advance_loc:
        advance(program, operand);
        return;
    case DW_CFA_offset:
        set_saved(program, operand, read_factored(program));
        return;
    case DW_CFA_restore:
        restore_rule(program, operand);
        return;
    }
    if (!run_location(program, operation) && !run_cfa(program, operation) &&
        !run_rule(program, operation))
        program->failed = true;
}

/* True: every instruction was understood. */
static bool run(struct program *program)
{
    while (!program->done && !program->failed && lw_byte_reader_left(&program->reader) > 0) {
        run_one(program);
        if (program->reader.failed)
            program->failed = true;
    }
    return !program->failed;
}

struct lw_cfi_rules lw_cfi_default_rules(void)
{
    /* What a function must leave as it finds it has not changed until something is said of it. */
    return (struct lw_cfi_rules){.frame_pointer.form = LW_RULE_SAME,
                                 .stack_pointer.form = LW_RULE_IS_CFA};
}

bool lw_cfi_run_common(struct lw_cfi_common *common, struct lw_byte_reader instructions)
{
    struct program program = {.common = common, .reader = instructions, .rules = common->initial};
    if (!run(&program))
        return false;
    common->initial = program.rules;
    return true;
}

void lw_cfi_run(const struct lw_cfi_common *common, struct lw_byte_reader instructions,
                uint64_t start, uint64_t end, struct lw_row_sink *sink)
{
    struct program program = {
        .common = common,
        .reader = instructions,
        .sink = sink,
        .location = start,
        .end = end,
        .rules = common->initial,
    };
    if (!run(&program))
        sink->take(sink, program.location, LW_ROW_NONE);
    else if (!program.done)
        emit(&program);
}
