/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scripts and styles of the reports that a browser shows, and the default suppressions: the files
 * of these names, as text. */
#ifndef LEAKWATCH_SRC_REPORT_ASSETS_H
#define LEAKWATCH_SRC_REPORT_ASSETS_H

extern const char lw_asset_default_supp[];
extern const char lw_asset_flame_css[];
extern const char lw_asset_flame_js[];
extern const char lw_asset_page_css[];
extern const char lw_asset_page_html[];
extern const char lw_asset_page_js[];
extern const char lw_asset_plot_js[];
extern const char lw_asset_svg_start_js[];

#endif
