/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the number formats of call-frame information from bytes that may hold anything. */
#include "byte_reader.h"

#include <dwarf.h>

#define FORMAT_BITS   0x0f
#define RELATIVE_BITS 0xf0

/* *last is the byte that ended the number, *width how many bits there were. */
static uint64_t read_leb128(struct lw_byte_reader *reader, uint8_t *last, unsigned *width)
{
    uint64_t number = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = lw_byte_reader_u8(reader);
        if (shift < 64)
            number |= (uint64_t)(byte & 0x7f) << shift;
        else
            reader->failed = true;
        shift += 7;
    } while ((byte & 0x80) && !reader->failed);
    *last = byte;
    *width = shift;
    return reader->failed ? 0 : number;
}

uint64_t lw_byte_reader_unsigned(struct lw_byte_reader *reader)
{
    uint8_t last;
    unsigned width;
    uint64_t number = read_leb128(reader, &last, &width);
    if (width > 64 && last > 1)
        reader->failed = true;
    return reader->failed ? 0 : number;
}

int64_t lw_byte_reader_signed(struct lw_byte_reader *reader)
{
    uint8_t last;
    unsigned width;
    uint64_t number = read_leb128(reader, &last, &width);
    if ((last & 0x40) && width < 64)
        number |= UINT64_MAX << width;
    return reader->failed ? 0 : (int64_t)number;
}

static uint64_t read_format(struct lw_byte_reader *reader, uint8_t format)
{
    switch (format) {
    case DW_EH_PE_udata2:
        return lw_byte_reader_number(reader, 2);
    case DW_EH_PE_sdata2:
        return (uint64_t)(int16_t)lw_byte_reader_number(reader, 2);
    case DW_EH_PE_udata4:
        return lw_byte_reader_number(reader, 4);
    case DW_EH_PE_sdata4:
        return (uint64_t)(int32_t)lw_byte_reader_number(reader, 4);
    case DW_EH_PE_absptr:
    case DW_EH_PE_udata8:
    case DW_EH_PE_sdata8:
        return lw_byte_reader_number(reader, 8);
    case DW_EH_PE_uleb128:
        return lw_byte_reader_unsigned(reader);
    case DW_EH_PE_sleb128:
        return (uint64_t)lw_byte_reader_signed(reader);
    default:
        reader->failed = true;
        return 0;
    }
}

uint64_t lw_byte_reader_pointer(struct lw_byte_reader *reader, uint8_t encoding, uint64_t data)
{
    const uint64_t here = lw_byte_reader_address(reader);
    uint64_t pointer = read_format(reader, encoding & FORMAT_BITS);
    switch (encoding & RELATIVE_BITS) {
    case DW_EH_PE_absptr:
        return pointer;
    case DW_EH_PE_pcrel:
        return pointer + here;
    case DW_EH_PE_datarel:
        return pointer + data;
    default:
        reader->failed = true;
        return 0;
    }
}
