/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a frame is called where there is room for one name only. */
#include "frame_name.h"

#include <stdio.h>
#include <stdlib.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"

char *lw_frame_name(const struct lw_report_frame *frame)
{
    lw_auto_free char *made = NULL;
    int length = 0;

    if (frame->function)
        return lw_text_escape(frame->function);
    if (frame->module)
        length = asprintf(&made, "%s+0x%llx", frame->module, (unsigned long long)frame->offset);
    else
        length = asprintf(&made, "0x%llx", (unsigned long long)frame->address);
    if (length < 0) {
        made = NULL;
        return NULL;
    }
    return lw_text_escape(made);
}
