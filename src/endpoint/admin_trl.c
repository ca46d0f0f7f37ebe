#include <errno.h>

#include "base/cleanup.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "endpoint/handlers.h"
#include "store/trl.h"

/* server is null for a token of a group audience. */
static json_t *entry_json(const struct trl_entry *entry) {
        return json_pack("{s:o, s:o, s:s, s:s?, s:s, s:I}", "cti", admin_cti(entry->number),
                         "hash", admin_hex(bytes_of(entry->hash, sizeof(entry->hash))), "client", entry->client_name,
                         "server", entry->server_id != 0 ? entry->server_name : NULL, "audience", entry->audience,
                         "expires_s", (json_int_t)entry->expires_s);
}

static int list_entry(void *context, const struct trl_entry *entry) {
        struct admin_list *list = context;
        json_t *cti = admin_cti(entry->number);
        bool offered = cti && admin_list_offer(list, json_string_value(cti));
        int r = cti ? 0 : -ENOMEM;

        json_decref(cti);
        return offered ? admin_list_add(list, entry_json(entry)) : r;
}

int admin_trl_get(struct aced *as, const struct request *request, struct response *response) {
        struct admin_list list = {};
        uint64_t after = 0;
        int r = admin_list_begin(&list, request, response, (const char *const[]){ NULL });

        if (r == 0 && list.after.size > 0 && admin_read_cti(response, list.after, &after) != 0)
                r = REFUSE_ADMIN_VALUE;
        if (r == 0)
                r = store_trl_list(as->store, after, admin_list_ask(&list), list_entry, &list);
        if (r == 0)
                r = admin_list_reply(&list, response);
        admin_list_done(&list);
        return r;
}
