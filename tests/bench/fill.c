/*
 * fill STATE N [RECORDS]: register N clients with the label "bench" in a state directory that `acectl init` made. Client
 * i is "bench-i"; it has a PSK, its identity the same, its key SHA-256("bench-i"); or, with RECORDS, an OSCORE context,
 * and the record for its device is a line of that file, as `acebench --oscore` wants it. One transaction every thousand.
 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "format/oscore_record.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/seal_key.h"
#include "store/store.h"

#define CLIENTS_PER_TRANSACTION 1000

static void make_psk(const struct client *client, struct credential *credential) {
        credential->kind = CREDENTIAL_PSK;
        credential->identity_size = strlen(client->name);
        memcpy(credential->identity, client->name, credential->identity_size);
}

/* The device is i in three bytes; we are nobody. Its record goes to records. */
static int make_oscore(long i, const struct secret *secret, struct credential *credential, FILE *records) {
        struct oscore_parameters *ours = &credential->oscore;
        _cleanup_(oscore_record_done) struct oscore_record record = {};
        _cleanup_(buf_wiped) struct buf encoded = BUF_INIT(OSCORE_RECORD_SIZE_MAX);
        char text[2 * OSCORE_RECORD_SIZE_MAX + 1];
        int r;

        credential->kind = CREDENTIAL_OSCORE;
        *ours = (struct oscore_parameters){ .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256,
                                            .salt_size = 8 };
        ours->recipient_id = (struct oscore_id){ 3, { (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i } };
        record.parameters = oscore_parameters_turned(ours);
        record.master_secret = *secret;
        if ((r = oscore_record_encode(&record, &encoded)) != 0)
                return r;
        bytes_to_hex(buf_bytes(&encoded), text, sizeof(text));
        return fprintf(records, "%s\n", text) < 0 ? -EIO : 0;
}

static int add(struct store *store, long i, FILE *records) {
        struct client client = { .profiles = PROFILE_BIT(1), .created_s = 1700000000 };
        struct credential credential = { .created_s = 1700000000 };
        struct secret secret = { .size = records ? OSCORE_SECRET_SIZE_MIN : SHA256_SIZE };
        struct bytes label = BYTES_LITERAL("bench");
        bool same;
        int r;

        snprintf(client.name, sizeof(client.name), "bench-%ld", i);
        if ((r = sha256(bytes_text(client.name), secret.data)) != 0 || (r = store_client_add(store, &client)) != 0)
                return r;
        if (!records)
                make_psk(&client, &credential);
        else if ((r = make_oscore(i, &secret, &credential, records)) != 0)
                return r;
        credential.client_id = client.id;
        if ((r = store_client_labels_set(store, client.id, &label, 1)) != 0)
                return r;
        return store_credential_add(store, &credential, &secret, &same);
}

static int fill(struct store *store, long n, FILE *records) {
        for (long i = 0; i < n;) {
                int r = store_begin(store);

                for (int k = 0; r == 0 && k < CLIENTS_PER_TRANSACTION && i < n; k++, i++)
                        r = add(store, i, records);
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

        if (argc < 3 || argc > 4) {
                fprintf(stderr, "fill STATE N [RECORDS]\n");
                return 2;
        }
        snprintf(path, sizeof(path), "%s/aced.db", argv[1]);
        snprintf(key_path, sizeof(key_path), "%s/seal.key", argv[1]);
        if (seal_key_load(key_path, &key, &diags) != 0 ||
            store_open(&(struct store_options){ .path = path, .seal_key = secret_bytes(&key) }, &store, &diags) != 0) {
                faults(&diags);
                return 1;
        }
        FILE *records = argc > 3 ? fopen(argv[3], "we") : NULL;
        int r = argc > 3 && !records ? -errno : fill(store, strtol(argv[2], NULL, 10), records);

        if (records && fclose(records) != 0 && r == 0)
                r = -errno;
        store_free(store);
        if (r != 0)
                fprintf(stderr, "fill: failed: %d\n", r);
        return r != 0;
}
