#include "endpoint/admin_oscore.h"

#include <errno.h>
#include <strings.h>

#include "base/cleanup.h"
#include "crypto/random.h"
#include "domain/refusal.h"
#include "format/oscore_record.h"

#define SALT_SIZE_MADE 8
/* It is in each request, so that the shortest is best. With a million contexts that all tries fail is unthinkable. */
#define ID_TRIES_SHORT 4    /* of one byte, and of two */
#define ID_TRIES_MAX 64
#define ID_SIZE_MADE_MAX 3

const char *oscore_ask_member(const struct oscore_ask *ask) {
        const struct {
                const char *name;
                bool is_there;
        } members[] = {
                { "master_secret_hex", ask->master_secret_hex }, { "master_salt_hex", ask->master_salt_hex },
                { "sender_id_hex", ask->sender_id_hex },         { "recipient_id_hex", ask->recipient_id_hex },
                { "id_context_hex", ask->id_context_hex },       { "alg", ask->alg },
                { "hkdf", ask->hkdf },                           { "renews", ask->renews.set },
                { "sender_number", ask->sender_number.set },
        };

        for (size_t i = 0; i < N_ELEMENTS(members); i++)
                if (members[i].is_there)
                        return members[i].name;
        return NULL;
}

/* ---- members → context */

static int read_algs(const struct oscore_ask *ask, struct response *response, struct oscore_parameters *ret) {
        int r = ask->alg ? admin_read_aead(response, "alg", ask->alg, &ret->alg) : 0;

        return r == 0 && ask->hkdf ? admin_read_hkdf(response, "hkdf", ask->hkdf, &ret->hkdf) : r;
}

/* As strong as the AEAD's key is. */
static int read_secret(const struct oscore_ask *ask, struct response *response, enum aead_alg alg,
                       struct secret *ret) {
        if (ask->master_secret_hex)
                return admin_read_key(response, "master_secret_hex", ask->master_secret_hex, OSCORE_SECRET_SIZE_MIN,
                                      SECRET_SIZE_MAX, ret);
        ret->size = aead_info(alg)->key_size;
        return random_bytes(ret->data, ret->size);
}

/* RFC 9203 leaves open what an absent one contributes; with one there is nothing to differ about. */
static int read_salt(const struct oscore_ask *ask, struct response *response, struct oscore_parameters *ret) {
        if (ask->master_salt_hex)
                return admin_read_hex(response, "master_salt_hex", ask->master_salt_hex, 0, sizeof(ret->salt),
                                      ret->salt, &ret->salt_size);
        ret->salt_size = SALT_SIZE_MADE;
        return random_bytes(ret->salt, ret->salt_size);
}

static int read_id(const char *member, const char *hex, struct response *response, enum aead_alg alg,
                   struct oscore_id *ret) {
        int r = hex ? admin_read_hex(response, member, hex, 0, sizeof(ret->data), ret->data, &ret->size) : 0;

        if (r != 0 || ret->size <= oscore_id_size_max(alg))
                return r;
        response_why(response, "member \"%s\": an ID has %zu bytes at most with %s, 6 less than its nonce (RFC 8613 "
                     "section 3.3)", member, oscore_id_size_max(alg), aead_name(alg));
        return REFUSE_ADMIN_VALUE;
}

/* The device's, that nobody else has and that is not ours. */
static int draw_id(struct store *store, struct response *response, const struct oscore_id *ours,
                   struct oscore_id *ret) {
        int64_t n = 1;

        for (unsigned i = 0; i < ID_TRIES_MAX; i++) {
                int r;

                ret->size = i / ID_TRIES_SHORT + 1 < ID_SIZE_MADE_MAX ? i / ID_TRIES_SHORT + 1 : ID_SIZE_MADE_MAX;
                if ((r = random_bytes(ret->data, ret->size)) != 0 ||
                    (r = store_oscore_count(store, bytes_of(ret->data, ret->size), &n)) != 0)
                        return r;
                if (n == 0 && !oscore_id_equal(ret, ours))
                        return 0;
        }
        response_why(response, "member \"sender_id_hex\": no free one was found: give one");
        return REFUSE_ADMIN_CONFLICT;
}

/* Ours is not sent: the shortest that differs. */
static int read_ids(struct store *store, const struct oscore_ask *ask, struct response *response,
                    struct oscore_parameters *ret) {
        struct oscore_id *device = &ret->recipient_id, *ours = &ret->sender_id;
        int r = read_id("sender_id_hex", ask->sender_id_hex, response, ret->alg, device);

        if (r != 0 || (r = read_id("recipient_id_hex", ask->recipient_id_hex, response, ret->alg, ours)) != 0)
                return r;
        if (!ask->sender_id_hex)
                return draw_id(store, response, ours, device);
        if (!ask->recipient_id_hex && device->size == 0)
                *ours = (struct oscore_id){ .size = 1, .data = { 1 } };
        if (!oscore_id_equal(device, ours))
                return 0;
        response_why(response, "members \"sender_id_hex\" and \"recipient_id_hex\": the two IDs of a context must "
                     "differ (RFC 8613 section 3.3)");
        return REFUSE_ADMIN_VALUE;
}

int oscore_ask_read(struct store *store, const struct oscore_ask *ask, struct response *response,
                    struct oscore_parameters *ret, struct secret *ret_secret) {
        int r;

        *ret = (struct oscore_parameters){ .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256,
                                           .has_id_context = ask->id_context_hex, .renews = ask->renews.value };
        if ((r = read_algs(ask, response, ret)) != 0 || (r = read_secret(ask, response, ret->alg, ret_secret)) != 0 ||
            (r = read_salt(ask, response, ret)) != 0 || (r = read_ids(store, ask, response, ret)) != 0)
                return r;
        if (!ask->id_context_hex)
                return 0;
        return admin_read_hex(response, "id_context_hex", ask->id_context_hex, 0, sizeof(ret->id_context),
                              ret->id_context, &ret->id_context_size);
}

/* ---- context → JSON */

json_t *oscore_json(const struct oscore_parameters *parameters) {
        const struct oscore_id *device = &parameters->recipient_id, *ours = &parameters->sender_id;

        return json_pack("{s:o, s:o, s:o, s:o, s:s, s:s, s:b}", "sender_id_hex",
                         admin_hex(bytes_of(device->data, device->size)), "recipient_id_hex",
                         admin_hex(bytes_of(ours->data, ours->size)), "id_context_hex",
                         parameters->has_id_context ?
                                 admin_hex(bytes_of(parameters->id_context, parameters->id_context_size)) :
                                 json_null(),
                         "master_salt_hex", admin_hex(bytes_of(parameters->salt, parameters->salt_size)), "alg",
                         aead_name(parameters->alg), "hkdf", oscore_hkdf_name(parameters->hkdf), "renews",
                         (int)parameters->renews);
}

int oscore_record_set(json_t *object, const struct oscore_parameters *parameters, const struct secret *secret) {
        _cleanup_(oscore_record_done) struct oscore_record record = { oscore_parameters_turned(parameters), *secret };
        _cleanup_(buf_wiped) struct buf encoded = BUF_INIT(OSCORE_RECORD_SIZE_MAX);
        int r = oscore_record_encode(&record, &encoded);

        if (r != 0)
                return r;
        return json_object_set_new(object, "record", oscore_record_json(&record)) == 0 &&
               json_object_set_new(object, "record_hex", admin_hex(buf_bytes(&encoded))) == 0 ? 0 : -ENOMEM;
}

/* ---- rows of an export */

bool oscore_row_is(const json_t *row) {
        static const char *const members[] = { "master_secret_hex", "master_salt_hex", "sender_id_hex",
                                               "recipient_id_hex", "id_context_hex", "alg", "hkdf", "renews",
                                               "sender_number" };

        for (size_t i = 0; i < N_ELEMENTS(members); i++)
                if (json_object_get(row, members[i]))
                        return true;
        return false;
}

/* Both there and the same, or neither. */
static bool is_same_hex(const json_t *row, const json_t *item, const char *member) {
        const char *a = json_string_value(json_object_get(row, member));
        const char *b = json_string_value(json_object_get(item, member));

        return a && b ? strcasecmp(a, b) == 0 : !a && !b;
}

bool oscore_row_means(const json_t *row, const json_t *item) {
        bool has_id = json_object_get(row, "sender_id_hex"), has_context = json_object_get(row, "id_context_hex");

        return (!has_id || is_same_hex(row, item, "sender_id_hex")) &&
               ((!has_id && !has_context) || is_same_hex(row, item, "id_context_hex"));
}

void oscore_say_refusal(struct response *response, int r, bool same_secret) {
        if (r == REFUSE_ADMIN_CONFLICT)
                response_why(response, "member \"sender_id_hex\": there are %d contexts with this ID already, as many "
                             "as are tried for one request: give another one", OSCORE_CANDIDATES_MAX);
        else if (r == REFUSE_ADMIN_EXISTS && same_secret)
                response_why(response, "member \"master_secret_hex\": this secret is registered already; a key is "
                             "shared by two parties only (RFC 9200 section 6.3): leave it out to have one made");
        else if (r == REFUSE_ADMIN_EXISTS)
                response_why(response, "members \"sender_id_hex\" and \"id_context_hex\": another context has both, as "
                             "registered or since it was renewed: give another ID, or another ID Context");
}
