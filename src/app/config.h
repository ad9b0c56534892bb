/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options that LEAKWATCH_OPTIONS and the files of --config give, before the command line does. */
#ifndef LEAKWATCH_APP_CONFIG_H
#define LEAKWATCH_APP_CONFIG_H

#include <argp.h>
#include <stdbool.h>

#include "leakwatch/app/options.h"

/* The key of --config among the options. */
#define LW_KEY_CONFIG 0x1000

enum lw_option_place { LW_PLACE_ENVIRONMENT, LW_PLACE_FILE, LW_PLACE_COMMAND_LINE };

/* What the parser of options has as its input: where to put what it reads, and where it reads. */
struct lw_option_parse {
    struct lw_options *options;
    const struct argp *argp;
    enum lw_option_place place;
    const char *origin;        /* goes before a complaint: "lw.conf:3", or "" */
    struct lw_options earlier; /* what had been read when the present source was begun */
};

/*
 * Has argp read LEAKWATCH_OPTIONS, then each file that --config names in argv, then argv itself,
 * which so has the last word; its parser gets a struct lw_option_parse as input. Nothing is
 * configured if argv is not understood, or asks for help. Exits as argp does if what is read makes
 * no sense.
 */
void lw_config_parse(struct lw_options *options, const struct argp *argp, int argc, char **argv);

/* Prints where and why, says to try --help, and exits with LW_EXIT_USAGE. */
void lw_option_refuse(const struct lw_option_parse *parse, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

/* A first argument of digits alone is a PID; anything else, and everything after "--", is a
 * command, whose own options are left alone. Of the argument that argp has just taken. */
bool lw_argument_is_command(const struct argp_state *state, const char *text);

#endif
