/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens and closes the windows in which blocks are marked. */
#include "mark.h"

#include "leakwatch/base/clock.h"

void lw_mark_init(struct lw_mark *mark, uint64_t window_ns, bool with_blocks)
{
    *mark = (struct lw_mark){.due_ns = LW_NEVER, .request = {.with_blocks = with_blocks}};
    if (window_ns == 0)
        return;
    lw_cohort_init(&mark->cohort, window_ns);
    mark->request.marked_until_ns = mark->cohort.until_ns;
}

void lw_mark_deinit(struct lw_mark *mark)
{
    lw_cohort_deinit(&mark->cohort);
}

bool lw_mark_is_wanted(const struct lw_mark *mark)
{
    return mark->cohort.number != 0;
}

void lw_mark_begin(struct lw_mark *mark, uint64_t armed_ns)
{
    if (lw_mark_is_wanted(mark))
        mark->due_ns = armed_ns + mark->cohort.window_ns;
}

/* `change` is lw_cohort_renew or lw_cohort_close. */
static lw_error *change_at_cut(struct lw_mark *mark, struct lw_watch *watch, uint64_t armed_ns,
                               int (*change)(struct lw_cohort *, const struct lw_snapshot *,
                                             uint64_t))
{
    const struct lw_snapshot_request request = {.cut = true};
    struct lw_snapshot *cut = lw_watch_snapshot(watch, &request);
    if (!cut) /* the summary comes next */
        return NULL;
    const uint64_t elapsed_ns = cut->taken_ns > armed_ns ? cut->taken_ns - armed_ns : 0;
    int result = change(&mark->cohort, cut, elapsed_ns);
    lw_snapshot_destroy(cut);
    if (result != 0)
        return lw_error_create(-result, "out of memory");
    mark->request.marked_after_ns = mark->cohort.after_ns;
    mark->request.marked_until_ns = mark->cohort.until_ns;
    lw_watch_expect(watch, &mark->request);
    return NULL;
}

lw_error *lw_mark_end(struct lw_mark *mark, struct lw_watch *watch, uint64_t armed_ns)
{
    mark->due_ns = LW_NEVER;
    return change_at_cut(mark, watch, armed_ns, lw_cohort_close);
}

lw_error *lw_mark_renew(struct lw_mark *mark, struct lw_watch *watch, uint64_t armed_ns)
{
    mark->due_ns = lw_clock_now() + mark->cohort.window_ns;
    return change_at_cut(mark, watch, armed_ns, lw_cohort_renew);
}
