/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An ELF file of the process under watch, as far as watching needs it: segments, build-id, symbols.
 */
#ifndef LEAKWATCH_TARGET_ELF_IMAGE_H
#define LEAKWATCH_TARGET_ELF_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reads through libelf from a file descriptor (or from a memory image, for the vdso). The file is
 * the target's choice and may be anything: a malformed one gives an error, never a crash. All
 * addresses are link-time addresses (p_vaddr, st_value); where the module was loaded is not known
 * here.
 */
struct lw_elf_image;

struct lw_elf_segment {
    uint64_t address, memory_size; /* p_vaddr, p_memsz */
    uint64_t offset, file_size;    /* p_offset, p_filesz */
    bool executable, writable;
};

/* 0 or a negative errno (-ENOEXEC: not an ELF file that we can read). Does not take over `fd`: it
 * may be closed afterwards. */
int lw_elf_image_open(int fd, struct lw_elf_image **image);
/* From a copy of the ELF image in memory (the vdso). The bytes are copied. */
int lw_elf_image_open_memory(const void *bytes, size_t size, struct lw_elf_image **image);
void lw_elf_image_close(struct lw_elf_image *image);

/* The image's own descriptor of its file, which lives as long as the image; -1: from memory. */
int lw_elf_image_descriptor(const struct lw_elf_image *image);

/* EM_X86_64 and so on; e_type ET_DYN or ET_EXEC. */
unsigned lw_elf_image_machine(const struct lw_elf_image *image);
bool lw_elf_image_is_executable_type(const struct lw_elf_image *image); /* ET_EXEC */

/* PT_LOAD segments in file order. */
const struct lw_elf_segment *lw_elf_image_segments(const struct lw_elf_image *image, size_t *count);

/* Link-time address and size of PT_GNU_EH_FRAME (.eh_frame_hdr); false when there is none. */
bool lw_elf_image_eh_frame_hdr(const struct lw_elf_image *image, uint64_t *address, uint64_t *size);
/* Those of a section by its name; false when the file has no such one that is loaded from it (or no
 * section headers at all). */
bool lw_elf_image_section(const struct lw_elf_image *image, const char *name, uint64_t *address,
                          uint64_t *size);

/* The build-id in lower-case hex, "" when there is none. */
const char *lw_elf_image_build_id(const struct lw_elf_image *image);
/* DT_SONAME, "" when there is none. */
const char *lw_elf_image_soname(const struct lw_elf_image *image);

/* Reads original bytes of the file at a link-time address; returns how many (0 outside any
 * segment's file contents). */
size_t lw_elf_image_read(const struct lw_elf_image *image, uint64_t address, void *buffer,
                         size_t size);

enum lw_elf_symbol_kind { LW_ELF_FUNCTION, LW_ELF_IFUNC, LW_ELF_OBJECT };
struct lw_elf_symbol {
    const char *name; /* without version; owned by the image */
    uint64_t address, size;
    enum lw_elf_symbol_kind kind;
    bool global; /* global or weak binding, default or protected visibility */
};

/*
 * A defined symbol by exact name: .dynsym first, then .symtab (a static executable has only that).
 * With several versions (malloc@GLIBC_2.2.5 beside malloc@@GLIBC_2.26) every different address is a
 * hit: returns how many were stored in found[0 .. max), each address once. Only global ones are
 * found.
 */
size_t lw_elf_image_find_symbols(const struct lw_elf_image *image, const char *name,
                                 struct lw_elf_symbol *found, size_t max);

/* The function symbol whose [address, address + size) holds the address, from .dynsym then .symtab;
 * false when there is none. */
bool lw_elf_image_symbol_at(const struct lw_elf_image *image, uint64_t address,
                            struct lw_elf_symbol *symbol);

/*
 * The name of the function that a jump or call to a PLT entry at `address` reaches, from the
 * relocations of the GOT slot that the entry's `jmp *slot(%rip)` reads, or NULL when `got_slot` has
 * no such relocation: pass the link-time address of the slot.
 */
const char *lw_elf_image_got_symbol(const struct lw_elf_image *image, uint64_t got_slot);

#endif
