/*
 * fill STATE N: register N clients, each with a PSK and the label "bench", in a state directory that `acectl init`
 * made. Client i is "bench-i", its identity the same, its key SHA-256("bench-i"). One transaction every few thousand.
 */
#include <stdio.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/seal_key.h"
#include "store/store.h"

#define CLIENTS_PER_TRANSACTION 1000

static int add(struct store *store, long i) {
        struct client client = { .profiles = PROFILE_BIT(1), .created_s = 1700000000 };
        struct credential credential = { .kind = CREDENTIAL_PSK, .created_s = 1700000000 };
        struct secret secret = { .size = SHA256_SIZE };
        struct bytes label = BYTES_LITERAL("bench");
        bool same;
        int r;

        snprintf(client.name, sizeof(client.name), "bench-%ld", i);
        credential.identity_size = strlen(client.name);
        memcpy(credential.identity, client.name, credential.identity_size);
        if ((r = sha256(bytes_text(client.name), secret.data)) != 0 || (r = store_client_add(store, &client)) != 0)
                return r;
        credential.client_id = client.id;
        if ((r = store_client_labels_set(store, client.id, &label, 1)) != 0)
                return r;
        return store_credential_add(store, &credential, &secret, &same);
}

static int fill(struct store *store, long n) {
        for (long i = 0; i < n;) {
                int r = store_begin(store);

                for (int k = 0; r == 0 && k < CLIENTS_PER_TRANSACTION && i < n; k++, i++)
                        r = add(store, i);
                if (r != 0 || (r = store_commit(store)) != 0)
                        return r;
        }
        return 0;
}

static void faults(struct diags *diags) {
        for (size_t i = 0; i < diags->n_items; i++)
                fprintf(stderr, "fill: %s\n", diags->items[i].text);
        diags_done(diags);
}

int main(int argc, char **argv) {
        char path[4096], key_path[4096];
        _cleanup_(secret_done) struct secret key = {};
        struct diags diags = {};
        struct store *store = NULL;

        if (argc != 3) {
                fprintf(stderr, "fill STATE N\n");
                return 2;
        }
        snprintf(path, sizeof(path), "%s/aced.db", argv[1]);
        snprintf(key_path, sizeof(key_path), "%s/seal.key", argv[1]);
        if (seal_key_load(key_path, &key, &diags) != 0 ||
            store_open(&(struct store_options){ .path = path, .seal_key = secret_bytes(&key) }, &store, &diags) != 0) {
                faults(&diags);
                return 1;
        }
        int r = fill(store, strtol(argv[2], NULL, 10));
        store_free(store);
        if (r != 0)
                fprintf(stderr, "fill: failed: %d\n", r);
        return r != 0;
}
