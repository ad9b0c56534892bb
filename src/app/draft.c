/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Drafts of reports, and sending them. */
#include "draft.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

void lw_draft_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

int lw_draft_begin(struct lw_draft *draft)
{
    draft->stream = open_memstream(&draft->text, &draft->size);
    return draft->stream ? 0 : -ENOMEM;
}

void lw_draft_deinit(struct lw_draft *draft)
{
    if (draft->stream)
        fclose(draft->stream);
    free(draft->text);
    *draft = (struct lw_draft){0};
}

/* Piece by piece, as there is room. */
static int write_all(const struct lw_draft *draft, int fd)
{
    struct pollfd output = {.fd = fd, .events = POLLOUT};
    size_t done = 0;
    while (done < draft->size) {
        if (poll(&output, 1, interrupted ? 0 : -1) <= 0) {
            if (interrupted)
                return -EINTR;
            continue;
        }
        size_t rest = draft->size - done;
        ssize_t n = write(fd, draft->text + done, rest < PIPE_BUF ? rest : PIPE_BUF);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

int lw_draft_send(struct lw_draft *draft, int fd, const sigset_t *ending)
{
    if (fclose(draft->stream) != 0) {
        draft->stream = NULL;
        return -ENOMEM;
    }
    draft->stream = NULL;
    interrupted = 0;
    pthread_sigmask(SIG_UNBLOCK, ending, NULL);
    int result = write_all(draft, fd);
    pthread_sigmask(SIG_BLOCK, ending, NULL);
    return result;
}

bool lw_draft_was_interrupted(void)
{
    return interrupted;
}
