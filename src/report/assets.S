/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scripts and styles of the reports that a browser shows, and the default suppressions, as text
 * (assets.h). */
    .macro asset name, file
    .globl \name
\name:
    .incbin "\file"
    .byte 0
    .endm

    .section .rodata
    asset lw_asset_default_supp, "default.supp"
    asset lw_asset_flame_css, "flame.css"
    asset lw_asset_flame_js, "flame.js"
    asset lw_asset_page_css, "page.css"
    asset lw_asset_page_html, "page.html"
    asset lw_asset_page_js, "page.js"
    asset lw_asset_plot_js, "plot.js"
    asset lw_asset_svg_start_js, "svg_start.js"
    .section .note.GNU-stack, "", @progbits
