#include "config.h"

#include "endpoint/handlers.h"

#include <errno.h>

#include "base/config.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "store/store.h"

static json_t *store_json(const struct store_status *status) {
        return json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "schema_version", status->schema_version,
                         "database_size", (json_int_t)status->database_size, "wal_size", (json_int_t)status->wal_size,
                         "clients", (json_int_t)status->n_clients, "servers", (json_int_t)status->n_servers,
                         "policies", (json_int_t)status->n_policies, "tokens", (json_int_t)status->n_tokens);
}

int admin_status_get(struct aced *as, const struct request *request, struct response *response) {
        struct store_status status;
        json_t *object;
        int r = store_status(as->store, &status);

        if (r != 0)
                return r;
        object = json_pack("{s:s, s:I, s:I, s:o}", "version", PACKAGE_VERSION, "started_s", (json_int_t)as->started_s,
                           "uptime_s", (json_int_t)(request->now_s - as->started_s), "store", store_json(&status));
        if (object && as->status) /* where it listens, figures, limits: the transports know */
                r = as->status->fill(as->status->context, object);
        if (r != 0) {
                json_decref(object);
                return r;
        }
        return admin_reply(response, &object);
}

int admin_config_get(struct aced *as, const struct request *request, struct response *response) {
        return config_print(as->config, &response->payload);
}
