/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A flame graph as SVG: what it shows of its frames is the caller's. */
#ifndef LEAKWATCH_SRC_REPORT_SVG_H
#define LEAKWATCH_SRC_REPORT_SVG_H

#include <stdio.h>

#include "flame_tree.h"

struct lw_svg {
    FILE *stream;
    const struct lw_report *report; /* its stacks are drawn */
    const void *subject;            /* what else the functions want to know */
    /* Two lines of text, classes heading and note; 0 or a negative errno. */
    int (*put_heading)(const struct lw_svg *svg);
    /* "1.50 KiB (1,540 bytes) in 2 blocks" */
    void (*put_sizes)(const struct lw_svg *svg, const struct lw_flame_node *node);
    /* A colour of CSS. */
    void (*put_colour)(const struct lw_svg *svg, const struct lw_flame_node *node);
    /* filled in by lw_svg_write */
    struct lw_flame_tree tree;
    uint64_t total;
};

/* 0 or a negative errno. */
int lw_svg_write(struct lw_svg *svg, enum lw_weight weight);

#endif
