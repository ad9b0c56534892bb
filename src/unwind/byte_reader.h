/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the number formats of call-frame information from bytes that may hold anything. */
#ifndef LEAKWATCH_UNWIND_BYTE_READER_H
#define LEAKWATCH_UNWIND_BYTE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What does not fit into the bytes reads as 0 and sets `failed`, for good: a caller may read on and
 * ask once. */
struct lw_byte_reader {
    const uint8_t *at, *end;
    uint64_t address; /* link-time address of *end */
    bool failed;
};

static inline struct lw_byte_reader lw_byte_reader(const uint8_t *bytes, size_t size,
                                                   uint64_t address)
{
    return (struct lw_byte_reader){.at = bytes, .end = bytes + size, .address = address + size};
}

static inline size_t lw_byte_reader_left(const struct lw_byte_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* The link-time address of the next byte. */
static inline uint64_t lw_byte_reader_address(const struct lw_byte_reader *reader)
{
    return reader->address - lw_byte_reader_left(reader);
}

/* The next `size` bytes, which are skipped; an empty reader when there are fewer. */
static inline struct lw_byte_reader lw_byte_reader_take(struct lw_byte_reader *reader,
                                                        uint64_t size)
{
    struct lw_byte_reader taken = *reader;
    if (size > lw_byte_reader_left(reader)) {
        reader->failed = true;
        size = 0;
    }
    taken.address = lw_byte_reader_address(reader) + size;
    reader->at += size;
    taken.end = reader->at;
    taken.failed = reader->failed;
    return taken;
}

/* A little-endian number of at most 8 bytes. */
static inline uint64_t lw_byte_reader_number(struct lw_byte_reader *reader, unsigned size)
{
    uint64_t number = 0;
    if (size > lw_byte_reader_left(reader)) {
        reader->failed = true;
        return 0;
    }
    for (unsigned i = 0; i < size; i++)
        number |= (uint64_t)reader->at[i] << 8 * i;
    reader->at += size;
    return number;
}

static inline uint8_t lw_byte_reader_u8(struct lw_byte_reader *reader)
{
    if (reader->at < reader->end)
        return *reader->at++;
    reader->failed = true;
    return 0;
}

/* LEB128; what exceeds 64 bits fails. */
uint64_t lw_byte_reader_unsigned(struct lw_byte_reader *reader);
int64_t lw_byte_reader_signed(struct lw_byte_reader *reader);

/* A pointer in one of the DW_EH_PE encodings (LSB core, 10.5.1) that linkers use, those relative to
 * `data` included; fails for others. Wraps. */
uint64_t lw_byte_reader_pointer(struct lw_byte_reader *reader, uint8_t encoding, uint64_t data);

#endif
