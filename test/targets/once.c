/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes the C library and the dynamic linker allocate what they keep, while leaks of its own pass
 * through them. */
#include "target.h"

#include <dlfcn.h>
#include <locale.h>
#include <pthread.h>

/*
 * once CONSTRUCTED MILLISECONDS
 *   loads a locale, prints a line, and opens CONSTRUCTED (which leaks in its constructor); leaks
 *   within pthread_once and, through strdup, itself; then rests
 */
static pthread_once_t control = PTHREAD_ONCE_INIT;

WATCHED static void leak_once(void)
{
    KEEP(malloc(200));
}

WATCHED static void leak_strdup(void)
{
    for (int i = 0; i < 5; i++)
        KEEP(strdup("four"));
}

int main(int argc, char **argv)
{
    if (argc != 3 || setlocale(LC_ALL, "C.UTF-8") == NULL)
        return 2;
    puts("a buffer");
    if (dlopen(argv[1], RTLD_NOW) == NULL)
        return 97;
    pthread_once(&control, leak_once);
    leak_strdup();
    sleep_ms(argument_or(argc, argv, 2, 0));
    return 0;
}
