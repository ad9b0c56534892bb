/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The .eh_frame section of an ELF file: its functions, and the program of each. */
#include "eh_frame.h"

#include <dwarf.h>
#include <errno.h>
#include <libunwind.h>
#include <stdlib.h>
#include <string.h>

#define SECTION_MAX (256u << 20) /* bytes that are read; the largest programs have a tenth */
#define FIRST_READ  (64u << 10)
/* How often every byte may be decoded: linkers share none, but a CIE may be forgotten. */
#define RUNS_MAX 4

/* .eh_frame_hdr (LSB core, 10.6.2). */
#define HDR_VERSION   1
#define HDR_TABLE     (DW_EH_PE_datarel | DW_EH_PE_sdata4)
#define HDR_TABLE_ROW 8

#define LENGTH_64     UINT32_MAX /* announces the 64-bit format, which no linker writes */
#define LENGTH_SIZE   4
#define CIE_ID        0
#define CIE_VERSION_1 1
#define CIE_VERSION_3 3
#define FORMAT_BITS   0x0f

/* What .eh_frame_hdr says. */
struct directory {
    uint8_t *bytes;
    uint64_t address;            /* of itself */
    uint64_t section;            /* link-time address of .eh_frame */
    struct lw_byte_reader table; /* empty: there is none to search */
};

/* Reads what the file has at [address, address + size). The size is the file's word, and is not
 * taken for granted. */
static int read_bytes(const struct lw_elf_image *image, uint64_t address, uint64_t size,
                      uint8_t **bytes, size_t *got)
{
    *bytes = NULL;
    *got = 0;
    size = size < SECTION_MAX ? size : SECTION_MAX;
    for (size_t capacity = FIRST_READ; *got < size; capacity *= 2) {
        capacity = capacity < size ? capacity : (size_t)size;
        uint8_t *grown = realloc(*bytes, capacity);
        if (grown == NULL)
            return -ENOMEM;
        *bytes = grown;
        size_t wanted = capacity - *got;
        size_t part = lw_elf_image_read(image, address + *got, grown + *got, wanted);
        *got += part;
        if (part < wanted)
            break;
    }
    return 0;
}

/* ---- Common information entries. ---- */

/* What the characters of the augmentation string add to a CIE, in their order. */
static bool read_augmentation(struct lw_cfi_common *common, const char *letters,
                              struct lw_byte_reader *reader)
{
    if (letters[0] == '\0')
        return true;
    if (letters[0] != 'z')
        return false;
    common->has_augmentation = true;
    struct lw_byte_reader data = lw_byte_reader_take(reader, lw_byte_reader_unsigned(reader));
    for (const char *letter = letters + 1; *letter != '\0'; letter++) {
        switch (*letter) {
        case 'L': /* how exception tables are pointed at */
            lw_byte_reader_u8(&data);
            break;
        case 'P': { /* the personality routine: its value does not matter, but its size does */
            uint8_t encoding = lw_byte_reader_u8(&data);
            lw_byte_reader_pointer(&data, encoding & FORMAT_BITS, 0);
            break;
        }
        case 'R':
            common->encoding = lw_byte_reader_u8(&data);
            break;
        case 'S':
            common->is_signal_frame = true;
            break;
        default:
            return false;
        }
    }
    return !data.failed;
}

static bool read_common(struct lw_eh_frame *frame, uint32_t offset, struct lw_cfi_common *common)
{
    struct lw_byte_reader reader =
        lw_byte_reader(frame->bytes + offset, frame->size - offset, frame->address + offset);
    uint64_t length = lw_byte_reader_number(&reader, LENGTH_SIZE);
    if (length == LENGTH_64)
        return false;
    reader = lw_byte_reader_take(&reader, length);
    if (reader.failed || frame->budget < length)
        return false;
    frame->budget -= length;
    uint64_t id = lw_byte_reader_number(&reader, LENGTH_SIZE);
    uint8_t version = lw_byte_reader_u8(&reader);
    if (reader.failed || id != CIE_ID || (version != CIE_VERSION_1 && version != CIE_VERSION_3))
        return false;

    const char *letters = (const char *)reader.at;
    size_t letters_size = strnlen(letters, lw_byte_reader_left(&reader));
    lw_byte_reader_take(&reader, (uint64_t)letters_size + 1);
    if (reader.failed)
        return false;
    common->code_factor = lw_byte_reader_unsigned(&reader);
    common->data_factor = lw_byte_reader_signed(&reader);
    uint64_t return_address =
        version == CIE_VERSION_1 ? lw_byte_reader_u8(&reader) : lw_byte_reader_unsigned(&reader);
    if (return_address != UNW_TDEP_IP || !read_augmentation(common, letters, &reader) ||
        reader.failed)
        return false;
    return lw_cfi_run_common(common, reader);
}

/* The CIE at this offset of the section, valid until the next call; NULL: not understood. */
static const struct lw_cfi_common *find_common(struct lw_eh_frame *frame, uint32_t offset)
{
    struct lw_cie *cie = &frame->cies[offset / LENGTH_SIZE % LW_CIE_SLOTS];
    if (!cie->known || cie->offset != offset) {
        *cie = (struct lw_cie){
            .known = true, .offset = offset, .common.initial = lw_cfi_default_rules()};
        cie->is_usable = read_common(frame, offset, &cie->common);
    }
    return cie->is_usable ? &cie->common : NULL;
}

/* ---- Frame description entries. ---- */

static uint32_t offset_of(const struct lw_eh_frame *frame, const uint8_t *at)
{
    return (uint32_t)(at - frame->bytes);
}

/* Reads the rest of an entry of which `id` was read last; false: malformed. */
static bool read_fde(struct lw_eh_frame *frame, struct lw_byte_reader *reader, uint64_t id,
                     struct lw_fde *function)
{
    uint32_t id_offset = offset_of(frame, reader->at) - LENGTH_SIZE;
    if (id == CIE_ID || id > id_offset)
        return false;
    function->common = id_offset - (uint32_t)id;
    const struct lw_cfi_common *common = find_common(frame, function->common);
    if (common == NULL)
        return false;
    function->start = lw_byte_reader_pointer(reader, common->encoding, 0);
    uint64_t size = lw_byte_reader_pointer(reader, common->encoding & FORMAT_BITS, 0);
    /* Its data points at the function's exception table. */
    if (common->has_augmentation)
        lw_byte_reader_take(reader, lw_byte_reader_unsigned(reader));
    if (reader->failed || __builtin_add_overflow(function->start, size, &function->end))
        return false;
    function->instructions = offset_of(frame, reader->at);
    function->instructions_end = offset_of(frame, reader->end);
    return true;
}

static bool is_code(const struct lw_eh_frame *frame, uint64_t address)
{
    return address >= frame->code_start && address < frame->code_end;
}

/* Adds the function to which a row of the directory's table points. */
static int add_listed(struct lw_eh_frame *frame, uint64_t start, uint64_t address)
{
    uint64_t offset = address - frame->address;
    struct lw_fde function;
    if (!is_code(frame, start))
        return 0;
    bool usable = false;
    if (offset < frame->size) {
        struct lw_byte_reader reader =
            lw_byte_reader(frame->bytes + offset, frame->size - offset, address);
        uint64_t length = lw_byte_reader_number(&reader, LENGTH_SIZE);
        reader = lw_byte_reader_take(&reader, length);
        uint64_t id = lw_byte_reader_number(&reader, LENGTH_SIZE);
        usable = !reader.failed && length != LENGTH_64 && read_fde(frame, &reader, id, &function) &&
                 function.start == start;
    }
    if (!usable)
        function = (struct lw_fde){.start = start, .end = start};
    return lw_vector_push(&frame->functions, function);
}

static int list_from_table(struct lw_eh_frame *frame, struct directory *directory)
{
    struct lw_byte_reader *table = &directory->table;
    int result = 0;
    while (result == 0 && lw_byte_reader_left(table) >= HDR_TABLE_ROW) {
        uint64_t start = lw_byte_reader_pointer(table, HDR_TABLE, directory->address);
        uint64_t address = lw_byte_reader_pointer(table, HDR_TABLE, directory->address);
        result = add_listed(frame, start, address);
    }
    return result;
}

/* An empty entry ends the section, unless its size is known: crtend.o brings one, whatever follows.
 */
static int list_all(struct lw_eh_frame *frame, bool to_the_end)
{
    struct lw_byte_reader section = lw_byte_reader(frame->bytes, frame->size, frame->address);
    int result = 0;
    while (result == 0 && lw_byte_reader_left(&section) > LENGTH_SIZE) {
        uint64_t length = lw_byte_reader_number(&section, LENGTH_SIZE);
        if (length == LENGTH_64 || (length == 0 && !to_the_end))
            break;
        struct lw_byte_reader entry = lw_byte_reader_take(&section, length);
        struct lw_fde function;
        uint64_t id = lw_byte_reader_number(&entry, LENGTH_SIZE);
        if (!entry.failed && read_fde(frame, &entry, id, &function) &&
            is_code(frame, function.start))
            result = lw_vector_push(&frame->functions, function);
    }
    return result;
}

static int compare_functions(const void *a, const void *b)
{
    const struct lw_fde *left = a, *right = b;
    return left->start < right->start ? -1 : left->start > right->start;
}

static void sort(struct lw_eh_frame *frame)
{
    struct lw_fde *functions = frame->functions.items;
    for (size_t i = 1; i < frame->functions.count; i++) {
        if (functions[i].start < functions[i - 1].start) {
            qsort(functions, frame->functions.count, sizeof(*functions), compare_functions);
            return;
        }
    }
}

/* ---- The section. ---- */

/* From the first to the last executable address, whatever lies between: a file may claim thousands
 * of segments. */
static void find_code(struct lw_eh_frame *frame, const struct lw_elf_image *image)
{
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    frame->code_start = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        uint64_t start = segments[i].address, end = start + segments[i].memory_size;
        if (!segments[i].executable)
            continue;
        frame->code_start = start < frame->code_start ? start : frame->code_start;
        frame->code_end = end > frame->code_end ? end : frame->code_end;
    }
}

static uint64_t size_to_segment_end(const struct lw_elf_image *image, uint64_t address)
{
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    for (size_t i = 0; i < count; i++) {
        uint64_t within = address - segments[i].address;
        if (address >= segments[i].address && within < segments[i].file_size)
            return segments[i].file_size - within;
    }
    return 0;
}

/* Fills in the directory; without one, all zero. */
static int read_directory(const struct lw_elf_image *image, struct directory *directory)
{
    uint64_t size;
    size_t got;
    if (!lw_elf_image_eh_frame_hdr(image, &directory->address, &size))
        return 0;
    int result = read_bytes(image, directory->address, size, &directory->bytes, &got);
    if (result != 0 || got == 0)
        return result;

    struct lw_byte_reader reader = lw_byte_reader(directory->bytes, got, directory->address);
    uint8_t version = lw_byte_reader_u8(&reader), section_encoding = lw_byte_reader_u8(&reader);
    uint8_t count_encoding = lw_byte_reader_u8(&reader), encoding = lw_byte_reader_u8(&reader);
    uint64_t section = lw_byte_reader_pointer(&reader, section_encoding, directory->address);
    if (version != HDR_VERSION || section_encoding == DW_EH_PE_omit || reader.failed)
        return 0;
    directory->section = section;
    if (count_encoding == DW_EH_PE_omit || encoding != HDR_TABLE)
        return 0;
    uint64_t count = lw_byte_reader_pointer(&reader, count_encoding, directory->address);
    uint64_t rows = lw_byte_reader_left(&reader) / HDR_TABLE_ROW;
    if (!reader.failed)
        directory->table =
            lw_byte_reader_take(&reader, HDR_TABLE_ROW * (count < rows ? count : rows));
    return 0;
}

static int read_section(struct lw_eh_frame *frame, const struct lw_elf_image *image,
                        struct directory *directory)
{
    uint64_t size;
    bool has_table = lw_byte_reader_left(&directory->table) > 0, to_the_end = false;
    frame->address = directory->section;
    if (!has_table)
        to_the_end = lw_elf_image_section(image, ".eh_frame", &frame->address, &size);
    if (!to_the_end)
        size = frame->address != 0 ? size_to_segment_end(image, frame->address) : 0;
    int result = read_bytes(image, frame->address, size, &frame->bytes, &frame->size);
    if (result != 0 || frame->size == 0)
        return result;
    frame->budget = frame->size * RUNS_MAX;
    find_code(frame, image);
    result = has_table ? list_from_table(frame, directory) : list_all(frame, to_the_end);
    sort(frame);
    return result;
}

int lw_eh_frame_init(struct lw_eh_frame *frame, const struct lw_elf_image *image)
{
    *frame = (struct lw_eh_frame){0};
    struct directory directory = {0};
    int result = read_directory(image, &directory);
    if (result == 0)
        result = read_section(frame, image, &directory);
    free(directory.bytes);
    if (result != 0)
        lw_eh_frame_deinit(frame);
    return result;
}

void lw_eh_frame_deinit(struct lw_eh_frame *frame)
{
    free(frame->bytes);
    lw_vector_deinit(&frame->functions);
}

void lw_eh_frame_run(struct lw_eh_frame *frame, const struct lw_fde *function,
                     struct lw_row_sink *sink)
{
    uint32_t size = function->instructions_end - function->instructions;
    const struct lw_cfi_common *common = NULL;
    if (function->instructions != 0 && size <= frame->budget)
        common = find_common(frame, function->common);
    if (common == NULL)
        return;
    frame->budget -= size;
    struct lw_byte_reader instructions = lw_byte_reader(frame->bytes + function->instructions, size,
                                                        frame->address + function->instructions);
    lw_cfi_run(common, instructions, function->start, function->end, sink);
}
