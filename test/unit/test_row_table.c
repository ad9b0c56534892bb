/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compiling call-frame information to rows: every rule, from .eh_frame sections made by hand. */
#include "made_eh_frame.h"

/* ---- Expectations: the row of function n, `distance` bytes from its start. ---- */

static struct lw_row_table table;

#define assert_row(n, distance, expected)                                                          \
    assert_int_equal(lw_row_table_find(&table, FUNCTION(n) + (distance)), expected)

static lw_row sp_row(uint32_t offset, uint32_t slot)
{
    return lw_row_pack(LW_ROW_SP, offset, slot);
}

static lw_row fp_row(uint32_t offset, uint32_t slot)
{
    return lw_row_pack(LW_ROW_FP, offset, slot);
}

static lw_row deref_row(int32_t offset, uint32_t slot)
{
    return lw_row_pack(LW_ROW_DEREF, (uint32_t)(offset + LW_ROW_DEREF_BIAS), slot);
}

static void begin(void)
{
    begin_file(true, true, false);
}

static void end(void)
{
    table = compile();
}

static void test_frame_with_frame_pointer(void **state)
{
    (void)state;
    begin();
    PUT_FDE(DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 16, DW_CFA_offset | RBP, 2,
            DW_CFA_advance_loc | 3, DW_CFA_def_cfa_register, RBP, DW_CFA_offset | RBX, 3,
            DW_CFA_advance_loc1, 0x80, DW_CFA_GNU_args_size, 0x10, DW_CFA_def_cfa, RSP, 8);
    end();
    assert_row(0, -1, LW_ROW_NONE);
    assert_row(0, 0, sp_row(8, 0));
    assert_row(0, 1, sp_row(16, 2));
    assert_row(0, 3, sp_row(16, 2));
    assert_row(0, 4, fp_row(16, 2));
    assert_row(0, 0x83, fp_row(16, 2));
    assert_row(0, 0x84, sp_row(8, 2));
    assert_row(0, 0xff, sp_row(8, 2));
    assert_row(1, 0, LW_ROW_NONE);
    assert_int_equal(table.count, 5);
    lw_row_table_deinit(&table);
}

static void test_remembered_and_restored(void **state)
{
    (void)state;
    begin();
    PUT_FDE(DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 16, DW_CFA_offset | RBP, 2,
            DW_CFA_remember_state, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 0x80, 1,
            DW_CFA_remember_state, DW_CFA_advance_loc | 1, DW_CFA_restore | RBP,
            DW_CFA_def_cfa_offset, 8, DW_CFA_advance_loc | 1, DW_CFA_restore_state,
            DW_CFA_advance_loc2, 0, 0, DW_CFA_advance_loc | 1, DW_CFA_restore_state,
            DW_CFA_advance_loc4, 1, 0, 0, 0, DW_CFA_restore_extended, RBP);
    /* More is restored than was remembered. */
    PUT_FDE(DW_CFA_advance_loc | 1, DW_CFA_restore_state);
    end();
    assert_row(0, 1, sp_row(16, 2));
    assert_row(0, 2, sp_row(128, 2));
    assert_row(0, 3, sp_row(8, 0));
    assert_row(0, 4, sp_row(128, 2));
    assert_row(0, 5, sp_row(16, 2));
    assert_row(0, 6, sp_row(16, 0));
    assert_row(1, 0, sp_row(8, 0));
    assert_row(1, 1, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

/* What gcc does where the stack is realigned. */
static void test_realigned_stack(void **state)
{
    (void)state;
    begin();
    PUT_FDE(DW_CFA_advance_loc | 5, DW_CFA_def_cfa, R10, 0, DW_CFA_advance_loc | 9,
            DW_CFA_expression, RBP, 2, DW_OP_breg6, 0, DW_CFA_advance_loc | 5,
            DW_CFA_def_cfa_expression, 3, DW_OP_breg6, 0x78, DW_OP_deref, DW_CFA_advance_loc | 1,
            DW_CFA_def_cfa, R10, 0, DW_CFA_advance_loc | 1, DW_CFA_def_cfa, RSP, 8,
            DW_CFA_restore | RBP);
    end();
    assert_row(0, 0, sp_row(8, 0));
    assert_row(0, 5, LW_ROW_NONE);
    assert_row(0, 14, LW_ROW_NONE);
    assert_row(0, 19, deref_row(-8, LW_ROW_SLOT_AT_FP));
    assert_row(0, 20, LW_ROW_NONE);
    assert_row(0, 21, sp_row(8, 0));
    lw_row_table_deinit(&table);
}

static void test_expressions(void **state)
{
    (void)state;
    begin();
    PUT_FDE(DW_CFA_def_cfa_expression, 2, DW_OP_breg7, 0x18);
    PUT_FDE(DW_CFA_def_cfa_offset, 32, DW_CFA_expression, RBP, 2, DW_OP_breg7, 8);
    PUT_FDE(DW_CFA_def_cfa, RBP, 16, DW_CFA_expression, RBP, 2, DW_OP_breg6, 0);
    PUT_FDE(DW_CFA_expression, RBP, 2, DW_OP_breg6, 8);
    PUT_FDE(DW_CFA_def_cfa_expression, 4, DW_OP_breg6, 0x78, DW_OP_deref, DW_OP_deref);
    PUT_FDE(DW_CFA_def_cfa_expression, 3, DW_OP_breg7, 8, DW_OP_deref);
    PUT_FDE(DW_CFA_val_expression, RBX, 2, DW_OP_breg6, 8);
    PUT_FDE(DW_CFA_val_expression, RBP, 2, DW_OP_breg6, 8);
    PUT_FDE(DW_CFA_def_cfa_expression, 0);
    PUT_FDE(DW_CFA_def_cfa_expression, 3, DW_OP_bregx, RBP, 16);
    /* Longer than the entry. */
    PUT_FDE(DW_CFA_def_cfa_expression, 60, DW_OP_breg7, 8);
    end();
    assert_row(0, 0, sp_row(24, 0));
    assert_row(1, 0, sp_row(32, 3));
    assert_row(2, 0, fp_row(16, LW_ROW_SLOT_AT_FP));
    assert_row(3, 0, LW_ROW_NONE);
    assert_row(4, 0, LW_ROW_NONE);
    assert_row(5, 0, LW_ROW_NONE);
    assert_row(6, 0, sp_row(8, 0));
    assert_row(7, 0, LW_ROW_NONE);
    assert_row(8, 0, LW_ROW_NONE);
    assert_row(9, 0, fp_row(16, 0));
    assert_row(10, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

static void test_linkage_table(void **state)
{
    (void)state;
    begin();
    PUT_FDE(DW_CFA_def_cfa_offset, 16, DW_CFA_advance_loc | 6, DW_CFA_def_cfa_offset, 24,
            DW_CFA_advance_loc | 10, DW_CFA_def_cfa_expression, 11, DW_OP_breg7, 8, DW_OP_breg16, 0,
            DW_OP_lit15, DW_OP_and, DW_OP_lit11, DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus);
    /* Of another layout. */
    PUT_FDE(DW_CFA_def_cfa_expression, 11, DW_OP_breg7, 8, DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and,
            DW_OP_lit9, DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus);
    end();
    assert_row(0, 5, sp_row(16, 0));
    assert_row(0, 6, sp_row(24, 0));
    assert_row(0, 16, lw_row_pack(LW_ROW_PLT, 0, 0));
    assert_row(1, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

static void test_registers_elsewhere(void **state)
{
    (void)state;
    begin();
    PUT_FDE(DW_CFA_undefined, RA);
    PUT_FDE(DW_CFA_undefined, RBP);
    PUT_FDE(DW_CFA_register, RBP, RBX);
    PUT_FDE(DW_CFA_register, RBX, RBP);
    PUT_FDE(DW_CFA_register, RA, RBX);
    PUT_FDE(DW_CFA_offset | RA, 2);
    PUT_FDE(DW_CFA_same_value, RA);
    PUT_FDE(DW_CFA_val_offset, RBP, 2);
    PUT_FDE(DW_CFA_val_offset_sf, RSP, 0x7f);
    PUT_FDE(DW_CFA_offset_extended, RBP, 3);
    PUT_FDE(DW_CFA_offset_extended_sf, RBP, 4);
    PUT_FDE(DW_CFA_offset_extended_sf, RBP, 0x7f); /* above the CFA */
    PUT_FDE(DW_CFA_offset | RBP, 2, DW_CFA_same_value, RBP);
    PUT_FDE(DW_CFA_same_value, RSP);
    PUT_FDE(DW_CFA_def_cfa, RBX, 16);
    PUT_FDE(DW_CFA_offset | RBP, 0xfe, 7); /* the last slot */
    PUT_FDE(DW_CFA_offset | RBP, 0xff, 7); /* one more */
    end();
    assert_row(0, 0, lw_row_pack(LW_ROW_END, 0, 0));
    assert_row(1, 0, LW_ROW_NONE);
    assert_row(2, 0, LW_ROW_NONE);
    assert_row(3, 0, sp_row(8, 0));
    for (unsigned i = 4; i <= 8; i++)
        assert_row(i, 0, LW_ROW_NONE);
    assert_row(9, 0, sp_row(8, 3));
    assert_row(10, 0, sp_row(8, 4));
    assert_row(11, 0, LW_ROW_NONE);
    assert_row(12, 0, sp_row(8, 0));
    assert_row(13, 0, LW_ROW_NONE);
    assert_row(14, 0, LW_ROW_NONE);
    assert_row(15, 0, sp_row(8, LW_ROW_SLOT_MAX));
    assert_row(16, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

static void test_limits_of_offsets(void **state)
{
    (void)state;
    begin();
    PUT_FDE(DW_CFA_def_cfa_offset, 0xf8, 0xff, 0x7f); /* LW_ROW_OFFSET_MAX * 8 */
    PUT_FDE(DW_CFA_def_cfa_offset, 0x80, 0x80, 0x80, 1);
    PUT_FDE(DW_CFA_def_cfa_offset, 12);
    PUT_FDE(DW_CFA_def_cfa_offset_sf, 0x7e); /* 16 */
    PUT_FDE(DW_CFA_def_cfa_sf, RBP, 0x7c);   /* 32 */
    PUT_FDE(DW_CFA_def_cfa_sf, RBP, 1);      /* -8 */
    PUT_FDE(DW_CFA_def_cfa_offset, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1);
    PUT_FDE(DW_CFA_def_cfa_offset, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1);
    PUT_FDE(DW_CFA_def_cfa_offset_sf, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f);
    end();
    assert_row(0, 0, sp_row(0x1ffff8, 0));
    assert_row(1, 0, LW_ROW_NONE);
    assert_row(2, 0, LW_ROW_NONE);
    assert_row(3, 0, sp_row(16, 0));
    assert_row(4, 0, fp_row(32, 0));
    for (unsigned i = 5; i <= 8; i++)
        assert_row(i, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

static void test_unknown_instructions(void **state)
{
    (void)state;
    begin();
    PUT_FDE(DW_CFA_advance_loc | 4, DW_CFA_low_user, DW_CFA_advance_loc | 4, DW_CFA_def_cfa, RSP,
            16);
    /* An offset alone needs a register. */
    PUT_FDE(DW_CFA_def_cfa_expression, 3, DW_OP_breg6, 0x78, DW_OP_deref, DW_CFA_advance_loc | 4,
            DW_CFA_def_cfa_offset, 16);
    /* The function ends before its program does. */
    PUT_FDE(DW_CFA_advance_loc2, 0, 1, DW_CFA_def_cfa_offset, 16);
    end();
    assert_row(0, 3, sp_row(8, 0));
    assert_row(0, 4, LW_ROW_NONE);
    assert_row(0, 8, LW_ROW_NONE);
    assert_row(1, 3, deref_row(-8, 0));
    assert_row(1, 4, LW_ROW_NONE);
    assert_row(2, 0xff, sp_row(8, 0));
    assert_row(3, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

/* As glibc's __restore_rt has it: 160 and 168 are where rsp and rip are in a struct ucontext. */
static void test_signal_frames(void **state)
{
    (void)state;
    const uint8_t context[] = {
        DW_CFA_def_cfa_expression, 4,   DW_OP_breg7, 0xa0,        1,    DW_OP_deref,
        DW_CFA_expression,         RA,  3,           DW_OP_breg7, 0xa8, 1,
        DW_CFA_expression,         RSP, 3,           DW_OP_breg7, 0xa0, 1};
    begin();
    put_cie("zRS", context, sizeof(context));
    PUT_FDE(DW_CFA_expression, RBP, 3, DW_OP_breg7, 0xf8, 0);
    PUT_FDE(DW_CFA_expression, RBP, 3, DW_OP_breg7, 0xf0, 0);
    PUT_FDE(DW_CFA_nop);
    put_cie("zRS", usual, sizeof(usual));
    PUT_FDE(DW_CFA_nop);
    PUT_FDE(DW_CFA_undefined, RA);
    end();
    assert_row(0, 0, lw_row_pack(LW_ROW_SIGNAL, 0, 0));
    assert_row(1, 0, LW_ROW_NONE);
    assert_row(2, 0, LW_ROW_NONE);
    assert_row(3, 0, LW_ROW_NONE);
    assert_row(4, 0, lw_row_pack(LW_ROW_END, 0, 0));
    lw_row_table_deinit(&table);
}

static void test_augmentations(void **state)
{
    (void)state;
    begin();
    put_cie("zPLR", usual, sizeof(usual));
    PUT_FDE(DW_CFA_nop);
    put_cie("zQR", usual, sizeof(usual)); /* unknown: so is what follows */
    PUT_FDE(DW_CFA_nop);
    put_cie("zR", usual, sizeof(usual));
    file.bytes[file.cie + 8] = 9; /* version */
    PUT_FDE(DW_CFA_nop);
    put_cie("zR", usual, sizeof(usual));
    file.bytes[file.cie + 14] = 15; /* the return address's register */
    PUT_FDE(DW_CFA_nop);
    put_cie("zR", usual, sizeof(usual));
    file.bytes[file.cie + 12] = 4; /* code alignment */
    PUT_FDE(DW_CFA_advance_loc | 2, DW_CFA_def_cfa_offset, 16);
    end();
    assert_row(0, 0, sp_row(8, 0));
    assert_row(1, 0, LW_ROW_NONE);
    assert_row(2, 0, LW_ROW_NONE);
    assert_row(3, 0, LW_ROW_NONE);
    assert_row(4, 7, sp_row(8, 0));
    assert_row(4, 8, sp_row(16, 0));
    lw_row_table_deinit(&table);
}

static void put_two_functions(void)
{
    PUT_FDE(DW_CFA_nop);
    PUT_FDE(DW_CFA_def_cfa_offset, 16);
}

static void assert_two_functions(void)
{
    table = compile();
    assert_row(0, 0xff, sp_row(8, 0));
    assert_row(1, 0, sp_row(16, 0));
    assert_row(2, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

static void test_ways_to_the_section(void **state)
{
    (void)state;
    begin_file(true, true, false);
    put_two_functions();
    assert_two_functions();
    begin_file(true, false, false); /* the rest of the segment is zero, which ends the section */
    put_two_functions();
    assert_two_functions();
    begin_file(true, false, true);
    put_two_functions();
    assert_two_functions();
    begin_file(false, false, true);
    PUT_FDE(DW_CFA_nop);
    put32(0); /* what crtend.o brings, in the middle */
    PUT_FDE(DW_CFA_def_cfa_offset, 16);
    assert_two_functions();
    begin_file(false, false, false);
    put_two_functions();
    table = compile();
    assert_int_equal(table.count, 0);
    assert_row(0, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

static void test_unsorted(void **state)
{
    (void)state;
    const uint8_t sixteen[] = {DW_CFA_def_cfa_offset, 16};
    begin_file(false, false, true);
    put_fde_at(FUNCTION(1), 0x100, sixteen, sizeof(sixteen));
    put_fde_at(FUNCTION(0), 0x100, NULL, 0);
    assert_two_functions();
}

/* Which function is meant where they overlap is not known. */
static void test_overlapping(void **state)
{
    (void)state;
    const uint8_t sixteen[] = {DW_CFA_def_cfa_offset, 16};
    begin();
    put_fde_at(FUNCTION(0), 0x180, NULL, 0);
    put_fde_at(FUNCTION(1), 0x100, sixteen, sizeof(sixteen));
    put_fde_at(FUNCTION(3), 0x100, NULL, 0);
    put_fde_at(FUNCTION(3), 0x100, sixteen, sizeof(sixteen));
    end();
    assert_row(0, 0xff, sp_row(8, 0));
    assert_row(1, 0, LW_ROW_NONE);
    assert_row(1, 0x7f, LW_ROW_NONE);
    assert_row(1, 0x80, sp_row(16, 0));
    assert_row(1, 0xff, sp_row(16, 0));
    assert_row(3, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

/* The directory names a function that the section has at another address, or not at all. */
static void test_wrong_directory(void **state)
{
    (void)state;
    begin();
    put_two_functions();
    PUT_FDE(DW_CFA_nop);
    set32(HDR + 12 + 8, FUNCTION(1) + 4 - BASE - HDR);
    set32(HDR + 12 + 16 + 4, 0x700000);
    end();
    assert_row(0, 0xff, sp_row(8, 0));
    assert_row(1, 0, LW_ROW_NONE);
    assert_row(1, 4, LW_ROW_NONE);
    assert_row(2, 0, LW_ROW_NONE);
    lw_row_table_deinit(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_with_frame_pointer),
        cmocka_unit_test(test_remembered_and_restored),
        cmocka_unit_test(test_realigned_stack),
        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_linkage_table),
        cmocka_unit_test(test_registers_elsewhere),
        cmocka_unit_test(test_limits_of_offsets),
        cmocka_unit_test(test_unknown_instructions),
        cmocka_unit_test(test_signal_frames),
        cmocka_unit_test(test_augmentations),
        cmocka_unit_test(test_ways_to_the_section),
        cmocka_unit_test(test_unsorted),
        cmocka_unit_test(test_overlapping),
        cmocka_unit_test(test_wrong_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
