#include "endpoint/handlers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "store/backup.h"
#include "store/check.h"

#define CHECK_ROWS 1000      /* that one request tries; some milliseconds */
#define CHECK_ROWS_MAX 10000

/* ---- backup */

struct backup_stream {
        struct response_stream stream;
        struct backup *backup;
};

static int backup_stream_read(struct response_stream *stream, uint64_t offset, uint8_t *data, size_t size) {
        return backup_read(((struct backup_stream *)stream)->backup, offset, data, size);
}

static void backup_stream_free(struct response_stream *stream) {
        struct backup_stream *self = (struct backup_stream *)stream;

        backup_free(self->backup);
        free(self);
}

int admin_backup_get(struct aced *as, const struct request *request, struct response *response) {
        struct backup_stream *self;
        int r = admin_check_queries(request, response, (const char *const[]){ NULL });

        if (r != 0)
                return r;
        self = calloc(1, sizeof(*self));
        if (!self)
                return -ENOMEM;
        r = backup_begin(as->store, &self->backup);
        if (r != 0) {
                if (r == -EBUSY)
                        response_why(response, "another backup or check is under way, or another program has the "
                                     "database open: wait until it has ended");
                free(self);
                return r;
        }
        self->stream = (struct response_stream){
                .size = backup_size(self->backup),
                .read = backup_stream_read,
                .free = backup_stream_free,
        };
        response->stream = &self->stream;
        return 0;
}

/* ---- check */

/* "table:row" of what was tried last; it is ours and means nothing to others. */
static int read_place(const struct request *request, struct response *response, struct check_place *ret) {
        struct bytes text = request_query(request, "after");
        char copy[32], end;

        if (!text.data)
                return 0;
        snprintf(copy, sizeof(copy), "%.*s", (int)(text.size < sizeof(copy) ? text.size : sizeof(copy)), text.data);
        if (text.size < sizeof(copy) && copy[0] >= '0' && copy[0] <= '9' &&
            sscanf(copy, "%1u:%18" SCNd64 "%c", &ret->table, &ret->row, &end) == 2 && ret->row >= 0)
                return 0;
        response_why(response, "query parameter \"after\": what an earlier page had as \"next\" is expected");
        return REFUSE_ADMIN_VALUE;
}

static int read_limit(const struct request *request, struct response *response, int64_t *ret) {
        struct bytes text = request_query(request, "limit");
        int64_t limit = 0;

        *ret = CHECK_ROWS;
        if (!text.data)
                return 0;
        for (size_t i = 0; i < text.size && limit >= 0 && limit <= CHECK_ROWS_MAX; i++)
                limit = text.data[i] >= '0' && text.data[i] <= '9' ? limit * 10 + text.data[i] - '0' : -1;
        if (limit > 0 && limit <= CHECK_ROWS_MAX) {
                *ret = limit;
                return 0;
        }
        response_why(response, "query parameter \"limit\": 1 to %d is expected", CHECK_ROWS_MAX);
        return REFUSE_ADMIN_VALUE;
}

static json_t *faults_json(const struct diags *faults) {
        json_t *items = json_array();

        for (size_t i = 0; items && i < faults->n_items; i++)
                if (json_array_append_new(items, json_pack("{s:s}", "fault", faults->items[i].text)) != 0) {
                        json_decref(items);
                        return NULL;
                }
        return items;
}

int admin_check_get(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(diags_done) struct diags faults = {};
        struct check_place place = {};
        char next[32];
        json_t *page;
        int64_t limit;
        int r;

        if ((r = admin_check_queries(request, response, (const char *const[]){ "after", "limit", NULL })) != 0 ||
            (r = read_place(request, response, &place)) != 0 || (r = read_limit(request, response, &limit)) != 0 ||
            (r = store_check_secrets(as->store, &place, limit, &faults)) != 0)
                return r;
        snprintf(next, sizeof(next), "%u:%" PRId64, place.table, place.row);
        page = json_pack("{s:o, s:s?}", "items", faults_json(&faults), "next", place.done ? NULL : next);
        return admin_reply(response, &page);
}
