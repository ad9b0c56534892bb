/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frames of a report by name: function, file and line, module. */
#include "naming.h"

#include "leakwatch/arch/page.h"
#include "leakwatch/base/map.h"
#include "leakwatch/base/units.h"
#include "leakwatch/base/vector.h"

typedef LW_VECTOR(struct lw_report_frame) frame_vector;
typedef LW_VECTOR(const struct lw_frame *) frame_pointers;

struct naming {
    struct lw_symbolizer *symbolizer;
    struct lw_module_table *modules;
    LW_VECTOR(struct lw_report_module) used;
    struct lw_map numbers; /* module id -> index in `used` + 1 */
};

static struct lw_report_module describe_module(const struct lw_module *module)
{
    struct lw_report_module described = {
        .id = module->id,
        .path = module->path,
        .build_id = module->build_id ? module->build_id : "",
        .is_executable = module->is_executable,
    };
    size_t count = 0;
    const struct lw_elf_segment *segments =
        module->image ? lw_elf_image_segments(module->image, &count) : NULL;

    for (size_t i = 0; i < count; i++) {
        const struct lw_elf_segment *segment = &segments[i];

        if (!segment->executable)
            continue;
        uint64_t before = segment->address % LW_PAGE_SIZE; /* mappings are of whole pages */
        uint64_t size = (before + segment->memory_size + LW_PAGE_SIZE - 1) / LW_PAGE_SIZE;
        described.start = module->bias + segment->address - before;
        described.end = described.start + size * LW_PAGE_SIZE;
        described.file_offset = segment->offset - before;
        break;
    }
    return described;
}

/* *number is that of the module in the report. */
static int use_module(struct naming *naming, const struct lw_module *module, uint64_t *number)
{
    if (lw_map_get(&naming->numbers, module->id, number))
        return 0;
    int result = lw_vector_push(&naming->used, describe_module(module));
    if (result != 0)
        return result;
    *number = naming->used.count;
    return lw_map_set(&naming->numbers, module->id, *number);
}

/* One frame of the stack becomes one or more of the report: inlined functions are frames of their
 * own. */
static int name_frame(struct naming *naming, const struct lw_frame *frame, frame_vector *frames)
{
    static const struct lw_symbol unknown;
    const struct lw_symbol *symbols = &unknown;
    size_t count = 1;
    int result = 0;
    struct lw_report_frame named = {
        .offset = frame->offset, .address = frame->offset, .is_return = frame->is_return};
    const struct lw_module *module = naming->modules && frame->module != 0
                                         ? lw_module_table_get(naming->modules, frame->module)
                                         : NULL;

    if (module) {
        uint64_t number = 0;

        result = use_module(naming, module, &number);
        named.module = module->name;
        named.module_path = module->path;
        named.module_number = number;
        named.address = module->bias + frame->offset;
        if (naming->symbolizer)
            count = lw_symbolizer_resolve(naming->symbolizer, frame->module, frame->offset,
                                          frame->is_return, &symbols);
    }
    for (size_t i = 0; i < count && result == 0; i++) {
        named.function = symbols[i].function;
        named.function_offset = symbols[i].offset;
        named.file = symbols[i].file;
        named.line = symbols[i].file ? symbols[i].line : 0;
        named.inlined = symbols[i].inlined;
        named.linkage_name = symbols[i].linkage_name;
        result = lw_vector_push(frames, named);
    }
    return result;
}

static int name_stack(struct naming *naming, struct lw_report_stack *stack)
{
    const struct lw_stack *raw = stack->facts.stack;
    frame_vector frames = {0};
    int result = 0;

    for (uint32_t depth = 0; depth < raw->depth && result == 0; depth++)
        result = name_frame(naming, &raw->frames[depth], &frames);
    stack->frames = frames.items;
    stack->frame_count = frames.count;
    return result;
}

/* Of each module that stacks are in, one frame. */
struct module_frames {
    struct lw_map seen;
    frame_pointers list;
};

static int add_modules(struct module_frames *found, const struct lw_stack *stack)
{
    int result = 0;

    for (uint32_t depth = 0; depth < stack->depth && result == 0; depth++) {
        const struct lw_frame *frame = &stack->frames[depth];

        if (frame->module == 0 || lw_map_get(&found->seen, frame->module, NULL))
            continue;
        result = lw_map_set(&found->seen, frame->module, 1);
        if (result == 0)
            result = lw_vector_push(&found->list, frame);
    }
    return result;
}

/* A module's debug information is read when the first address in it is looked up. That alone takes
 * long, and what it is read from may even have to come over the network: so it is done first, to be
 * told. */
static void read_modules(const struct module_frames *found, struct lw_symbolizer *symbolizer,
                         struct lw_module_table *modules, struct lw_progress *progress)
{
    for (size_t i = 0; i < found->list.count; i++) {
        const struct lw_frame *frame = found->list.items[i];
        const struct lw_module *module = lw_module_table_get(modules, frame->module);
        const struct lw_symbol *symbols;

        if (!module)
            continue;
        lw_progress_tell(progress, "reading debug information of %s (%zu of %zu)", module->name,
                         i + 1, found->list.count);
        lw_symbolizer_resolve(symbolizer, frame->module, frame->offset, frame->is_return, &symbols);
    }
}

static void deinit_modules(struct module_frames *found)
{
    lw_map_deinit(&found->seen);
    lw_vector_deinit(&found->list);
}

int lw_report_read_modules(const struct lw_snapshot *snapshot, uint32_t after,
                           struct lw_symbolizer *symbolizer, struct lw_module_table *modules,
                           struct lw_progress *progress)
{
    struct module_frames found = {0};
    int result = 0;

    for (size_t i = snapshot->stack_count; i > 0 && result == 0; i--) {
        const struct lw_stack *stack = snapshot->stacks[i - 1].stack;

        if (stack->id <= after)
            break;
        result = add_modules(&found, stack);
    }
    if (result == 0 && symbolizer && modules)
        read_modules(&found, symbolizer, modules, progress);
    deinit_modules(&found);
    return result;
}

static void tell_stacks(struct lw_progress *progress, size_t done, size_t total)
{
    char text[LW_UNITS_MAX], more[LW_UNITS_MAX];

    lw_progress_tell(progress, "naming stacks %s of %s", lw_format_count(done, text),
                     lw_format_count(total, more));
}

int lw_report_name_stacks(struct lw_report *report, struct lw_symbolizer *symbolizer,
                          struct lw_module_table *modules, struct lw_progress *progress)
{
    struct naming naming = {.symbolizer = symbolizer, .modules = modules};
    struct module_frames found = {0};
    int result = 0;

    for (size_t i = 0; i < report->every_count && result == 0; i++)
        result = add_modules(&found, report->stacks[i].facts.stack);
    if (result == 0 && symbolizer && modules)
        read_modules(&found, symbolizer, modules, progress);
    for (size_t i = 0; i < report->every_count && result == 0; i++) {
        tell_stacks(progress, i + 1, report->every_count);
        result = name_stack(&naming, &report->stacks[i]);
    }
    for (size_t i = 0; i < report->cohort.stack_count && result == 0; i++)
        result = name_stack(&naming, &report->cohort.stacks[i]);
    report->modules = naming.used.items;
    report->module_count = naming.used.count;
    lw_map_deinit(&naming.numbers);
    deinit_modules(&found);
    return result;
}
