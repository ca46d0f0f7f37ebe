#include "transport/oscore_store.h"

#include "store/oscore.h"

struct finding {
        int (*found)(void *found_context, const struct oscore_context *loaded);
        void *found_context;
};

static int on_row(void *context, const struct oscore_credential *row) {
        const struct credential *credential = &row->credential;
        struct finding *finding = context;
        struct oscore_context loaded = {
                .credential_id = credential->id,
                .client_id = credential->client_id,
                .server_id = credential->server_id,
                .renews = credential->oscore.renews,
                .input = oscore_input_of(&credential->oscore, secret_bytes(&row->master_secret)),
        };

        loaded.input.id_context = row->has_id_context ? bytes_of(row->id_context, row->id_context_size) : BYTES_NONE;
        return finding->found(finding->found_context, &loaded);
}

static int load(void *context, struct bytes kid, int (*found)(void *found_context, const struct oscore_context *loaded),
                void *found_context) {
        struct finding finding = { found, found_context };

        return store_oscore_find(context, kid, on_row, &finding);
}

static int lease(void *context, uint64_t n, uint64_t *ret_first) {
        return store_oscore_lease(context, n, ret_first);
}

static uint64_t epoch(void *context) {
        return store_oscore_epoch(context);
}

static int renew(void *context, int64_t credential_id, struct bytes id_context) {
        return store_oscore_renew(context, credential_id, id_context);
}

static uint64_t generation(void *context) {
        return store_credentials_generation(context);
}

struct oscore_callbacks oscore_of_store(struct store *store) {
        return (struct oscore_callbacks){
                .context = store, .load = load, .lease = lease, .epoch = epoch, .renew = renew,
                .generation = generation };
}
