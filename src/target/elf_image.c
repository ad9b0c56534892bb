/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens an ELF file or a copy of one: its segments, build-id, soname and bytes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf_internal.h"

#define NOTES_MAX   (1 << 20) /* bytes of one note segment that are read */
#define DYNAMIC_MAX 4096      /* entries of the dynamic section that are read */

/* ELF_C_READ and not its mmap variant: a file that is truncated while it is mapped would end
 * leakwatch with SIGBUS. */
Elf *lw_elf_image_begin(const struct lw_elf_image *image)
{
    elf_version(EV_CURRENT);
    Elf *elf = image->bytes != NULL ? elf_memory((char *)image->bytes, image->size)
                                    : elf_begin(image->fd, ELF_C_READ, NULL);
    if (elf != NULL && elf_kind(elf) == ELF_K_ELF)
        return elf;
    if (elf != NULL)
        elf_end(elf);
    return NULL;
}

static int read_header(struct lw_elf_image *image, Elf *elf)
{
    GElf_Ehdr header;
    if (gelf_getehdr(elf, &header) == NULL || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_ident[EI_DATA] != ELFDATA2LSB ||
        (header.e_type != ET_EXEC && header.e_type != ET_DYN))
        return -ENOEXEC;
    image->machine = header.e_machine;
    image->type = header.e_type;
    return 0;
}

static int add_segment(struct lw_elf_image *image, const GElf_Phdr *header)
{
    uint64_t end;
    /* ld.so would refuse such a file; all address arithmetic here relies on it. */
    if (header->p_filesz > header->p_memsz ||
        __builtin_add_overflow(header->p_vaddr, header->p_memsz, &end) ||
        __builtin_add_overflow(header->p_offset, header->p_filesz, &end) || end > INT64_MAX)
        return -ENOEXEC;
    struct lw_elf_segment segment = {
        .address = header->p_vaddr,
        .memory_size = header->p_memsz,
        .offset = header->p_offset,
        .file_size = header->p_filesz,
        .executable = (header->p_flags & PF_X) != 0,
        .writable = (header->p_flags & PF_W) != 0,
    };
    return lw_vector_push(&image->segments, segment);
}

static void take_build_id(struct lw_elf_image *image, const unsigned char *id, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        image->build_id[2 * i] = digits[id[i] >> 4];
        image->build_id[2 * i + 1] = digits[id[i] & 15];
    }
    image->build_id[2 * size] = '\0';
}

static void scan_notes(struct lw_elf_image *image, Elf_Data *data)
{
    if (data == NULL || data->d_buf == NULL)
        return;
    size_t offset = 0, name, contents;
    GElf_Nhdr note;
    while (image->build_id[0] == '\0' && offset < data->d_size &&
           (offset = gelf_getnote(data, offset, &note, &name, &contents)) > 0) {
        const unsigned char *bytes = data->d_buf;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && note.n_descsz > 0 &&
            note.n_descsz <= LW_BUILD_ID_MAX && memcmp(bytes + name, "GNU", 4) == 0)
            take_build_id(image, bytes + contents, note.n_descsz);
    }
}

static void read_note_segment(struct lw_elf_image *image, Elf *elf, const GElf_Phdr *header)
{
    if (header->p_filesz == 0 || header->p_filesz > NOTES_MAX || header->p_offset > INT64_MAX)
        return;
    Elf_Type type = header->p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR;
    scan_notes(image, elf_getdata_rawchunk(elf, (int64_t)header->p_offset, header->p_filesz, type));
}

/* For files without a PT_NOTE of their own (old linkers, separate debug files). */
static void read_note_sections(struct lw_elf_image *image, Elf *elf)
{
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section)) != NULL;) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) != NULL && header.sh_type == SHT_NOTE &&
            header.sh_size <= NOTES_MAX)
            scan_notes(image, elf_getdata(section, NULL));
    }
}

static void read_soname(struct lw_elf_image *image, const GElf_Phdr *dynamic)
{
    uint64_t strings = 0, soname = 0;
    bool found = false;
    size_t count = dynamic->p_filesz / sizeof(Elf64_Dyn);
    for (size_t i = 0; i < count && i < DYNAMIC_MAX; i++) {
        Elf64_Dyn entry;
        if (lw_elf_image_read(image, dynamic->p_vaddr + i * sizeof(entry), &entry, sizeof(entry)) !=
                sizeof(entry) ||
            entry.d_tag == DT_NULL)
            break;
        if (entry.d_tag == DT_STRTAB)
            strings = entry.d_un.d_ptr;
        if (entry.d_tag == DT_SONAME) {
            soname = entry.d_un.d_val;
            found = true;
        }
    }
    if (found)
        lw_elf_image_read(image, strings + soname, image->soname, sizeof(image->soname) - 1);
}

static int read_program_headers(struct lw_elf_image *image, Elf *elf)
{
    size_t count;
    if (elf_getphdrnum(elf, &count) != 0)
        return -ENOEXEC;
    GElf_Phdr dynamic = {0};
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr header;
        /* The index is an int there: a file can claim more. */
        if (i > INT32_MAX || gelf_getphdr(elf, (int)i, &header) == NULL)
            return -ENOEXEC;
        int result = 0;
        if (header.p_type == PT_LOAD)
            result = add_segment(image, &header);
        else if (header.p_type == PT_NOTE)
            read_note_segment(image, elf, &header);
        else if (header.p_type == PT_DYNAMIC)
            dynamic = header;
        if (header.p_type == PT_GNU_EH_FRAME) {
            image->eh_frame_hdr = header.p_vaddr;
            image->eh_frame_hdr_size = header.p_memsz;
        }
        if (result != 0)
            return result;
    }
    read_soname(image, &dynamic);
    return 0;
}

static int load(struct lw_elf_image *image)
{
    lw_auto_elf Elf *elf = lw_elf_image_begin(image);
    if (elf == NULL)
        return -ENOEXEC;
    int result = read_header(image, elf);
    if (result == 0)
        result = read_program_headers(image, elf);
    if (result == 0 && image->build_id[0] == '\0')
        read_note_sections(image, elf);
    return result;
}

/* Takes over `fd` and `bytes`. */
static int open_image(int fd, unsigned char *bytes, size_t size, struct lw_elf_image **opened)
{
    struct lw_elf_image *image = calloc(1, sizeof(*image));
    if (image == NULL) {
        if (fd >= 0)
            close(fd);
        free(bytes);
        return -ENOMEM;
    }
    image->fd = fd;
    image->bytes = bytes;
    image->size = size;
    image->symbols = lw_elf_symbols_create();
    int result = image->symbols != NULL ? load(image) : -ENOMEM;
    if (result != 0) {
        lw_elf_image_close(image);
        return result;
    }
    *opened = image;
    return 0;
}

int lw_elf_image_open(int fd, struct lw_elf_image **image)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return -errno;
    return open_image(own, NULL, 0, image);
}

int lw_elf_image_open_memory(const void *bytes, size_t size, struct lw_elf_image **image)
{
    unsigned char *copy = malloc(size != 0 ? size : 1);
    if (copy == NULL)
        return -ENOMEM;
    if (size != 0)
        memcpy(copy, bytes, size);
    return open_image(-1, copy, size, image);
}

void lw_elf_image_close(struct lw_elf_image *image)
{
    if (image == NULL)
        return;
    lw_elf_symbols_destroy(image->symbols);
    lw_vector_deinit(&image->segments);
    if (image->fd >= 0)
        close(image->fd);
    free(image->bytes);
    free(image);
}

int lw_elf_image_descriptor(const struct lw_elf_image *image)
{
    return image->fd;
}

unsigned lw_elf_image_machine(const struct lw_elf_image *image)
{
    return image->machine;
}

bool lw_elf_image_is_executable_type(const struct lw_elf_image *image)
{
    return image->type == ET_EXEC;
}

const struct lw_elf_segment *lw_elf_image_segments(const struct lw_elf_image *image, size_t *count)
{
    *count = image->segments.count;
    return image->segments.items;
}

bool lw_elf_image_eh_frame_hdr(const struct lw_elf_image *image, uint64_t *address, uint64_t *size)
{
    if (image->eh_frame_hdr_size == 0)
        return false;
    *address = image->eh_frame_hdr;
    *size = image->eh_frame_hdr_size;
    return true;
}

bool lw_elf_image_section(const struct lw_elf_image *image, const char *name, uint64_t *address,
                          uint64_t *size)
{
    lw_auto_elf Elf *elf = lw_elf_image_begin(image);
    size_t names;
    if (elf == NULL || elf_getshdrstrndx(elf, &names) != 0)
        return false;
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section)) != NULL;) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) == NULL || (header.sh_flags & SHF_ALLOC) == 0 ||
            header.sh_type == SHT_NOBITS)
            continue;
        const char *found = elf_strptr(elf, names, header.sh_name);
        if (found == NULL || strcmp(found, name) != 0)
            continue;
        *address = header.sh_addr;
        *size = header.sh_size;
        return true;
    }
    return false;
}

const char *lw_elf_image_build_id(const struct lw_elf_image *image)
{
    return image->build_id;
}

const char *lw_elf_image_soname(const struct lw_elf_image *image)
{
    return image->soname;
}

static size_t read_at(const struct lw_elf_image *image, uint64_t offset, void *buffer, size_t size)
{
    if (image->bytes != NULL) {
        if (offset >= image->size)
            return 0;
        size_t available = image->size - offset;
        size = size < available ? size : available;
        memcpy(buffer, image->bytes + offset, size);
        return size;
    }
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(image->fd, (char *)buffer + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

size_t lw_elf_image_read(const struct lw_elf_image *image, uint64_t address, void *buffer,
                         size_t size)
{
    lw_vector_for_each (segment, &image->segments) {
        if (address < segment->address || address - segment->address >= segment->file_size)
            continue;
        uint64_t within = address - segment->address;
        uint64_t available = segment->file_size - within;
        return read_at(image, segment->offset + within, buffer,
                       size < available ? size : (size_t)available);
    }
    return 0;
}
