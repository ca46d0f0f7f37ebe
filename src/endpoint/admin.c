#include "endpoint/admin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "domain/token.h"
#include "format/aif.h"
#include "format/cose.h"
#include "format/describe.h"
#include "store/clients.h"
#include "store/servers.h"

#define PROFILES_MAX 32    /* bits of a profile_set */
#define VALUE_TOLD_MAX 80  /* characters of a value that an error quotes */
#define QUERY_NAMES_MAX 8

/* ---- reading */

int admin_read(const struct request *request, struct response *response, const struct json_field *fields,
               size_t n_fields, void *target, struct json_document *ret_document) {
        _cleanup_(diags_done) struct diags faults = {};
        char line[sizeof(response->why)];
        int r = request->json ? json_read_value(request->json, fields, n_fields, target, &faults) :
                                json_read(request->payload, fields, n_fields, target, ret_document, &faults);

        if (r > 0) {
                json_faults_line(&faults, line, sizeof(line));
                response_why(response, "%s", line);
        }
        return r;
}

static bool is_among(struct bytes name, const char *const *names) {
        for (; *names; names++)
                if (bytes_equal(name, bytes_text(*names)))
                        return true;
        return false;
}

/* The part of a query in front of "=" */
static struct bytes query_name(struct bytes query) {
        const uint8_t *equals = memchr(query.data, '=', query.size);

        return bytes_of(query.data, equals ? (size_t)(equals - query.data) : query.size);
}

int admin_check_queries(const struct request *request, struct response *response, const char *const *names) {
        for (size_t i = 0; i < request->n_queries; i++) {
                struct bytes query = request->queries[i], name = query_name(query);

                if (!is_among(name, names)) {
                        response_why(response, "query parameter \"%.*s\": there is no such parameter here",
                                     (int)(name.size < VALUE_TOLD_MAX ? name.size : VALUE_TOLD_MAX), name.data);
                        return REFUSE_ADMIN_VALUE;
                }
                if (name.size == query.size) {
                        response_why(response, "query parameter \"%.*s\": it has no value", (int)name.size, name.data);
                        return REFUSE_ADMIN_VALUE;
                }
                for (size_t j = 0; j < i; j++)
                        if (bytes_equal(query_name(request->queries[j]), name)) {
                                response_why(response, "query parameter \"%.*s\": it is there twice", (int)name.size,
                                             name.data);
                                return REFUSE_ADMIN_VALUE;
                        }
        }
        return 0;
}

/* ---- answering */

int admin_reply(struct response *response, json_t **object) {
        int r;

        if (!*object)
                return -ENOMEM;
        if (response->json) {
                *response->json = TAKE_PTR(*object);
                return 0;
        }
        r = response_reserve(response, ADMIN_SECRET_ANSWER_MAX);
        if (r == 0)
                r = json_print(*object, &response->payload);
        json_decref(*object);
        *object = NULL;
        return r;
}

int admin_refuse_value(struct response *response, const char *member, const char *value, const char *what) {
        bool is_long = strlen(value) > VALUE_TOLD_MAX;

        response_why(response, "member \"%s\": \"%.*s%s\" %s", member, VALUE_TOLD_MAX, value, is_long ? "..." : "",
                     what);
        return REFUSE_ADMIN_VALUE;
}

/* ---- checks */

int admin_check_name(struct response *response, const char *member, const char *value) {
        if (name_is_valid(bytes_text(value)))
                return 0;
        return admin_refuse_value(response, member, value, "is no name: 1 to 64 of A-Z a-z 0-9 . _ : @ + - are "
                                  "allowed, with neither - nor . in front");
}

int admin_check_audience(struct response *response, const char *member, const char *value) {
        if (audience_is_valid(bytes_text(value)))
                return 0;
        return admin_refuse_value(response, member, value, "is no audience: 1 to 128 printable ASCII characters but "
                                  "space, quote and backslash are allowed");
}

int admin_check_each(struct response *response, const char *member, const struct json_texts *texts,
                     int (*check)(struct response *response, const char *member, const char *value)) {
        for (size_t i = 0; i < texts->n_items; i++) {
                int r = check(response, member, texts->items[i]);

                if (r != 0)
                        return r;
                for (size_t j = 0; j < i; j++)
                        if (strcmp(texts->items[i], texts->items[j]) == 0)
                                return admin_refuse_value(response, member, texts->items[i], "is there twice");
        }
        return 0;
}

void admin_copy(char *to, size_t size, const char *text) {
        size_t length = strnlen(text, size - 1);

        memcpy(to, text, length);
        to[length] = '\0';
}

/* ---- bytes */

/* Says nothing of the value, which may be a key. */
static int refuse_hex(struct response *response, const char *member, size_t min, size_t max) {
        if (min == max)
                response_why(response, "member \"%s\": %zu bytes in hexadecimal are expected", member, min);
        else
                response_why(response, "member \"%s\": %zu to %zu bytes in hexadecimal are expected", member, min, max);
        return REFUSE_ADMIN_VALUE;
}

int admin_read_hex(struct response *response, const char *member, const char *hex, size_t min, size_t max, uint8_t *ret,
                   size_t *ret_size) {
        if (bytes_from_hex(hex, ret, max, ret_size) != 0 || *ret_size < min)
                return refuse_hex(response, member, min, max);
        return 0;
}

int admin_read_key(struct response *response, const char *member, const char *hex, size_t min, size_t max,
                   struct secret *ret) {
        size_t size;
        int r = admin_read_hex(response, member, hex, min, max, ret->data, &size);

        if (r != 0) {
                secret_done(ret);
                return r;
        }
        ret->size = size;
        return 0;
}

json_t *admin_hex(struct bytes bytes) {
        char text[2 * 256 + 1];
        json_t *value;

        if (bytes.size > sizeof(text) / 2)
                return NULL;
        bytes_to_hex(bytes, text, sizeof(text));
        value = json_string(text);
        wipe(text, sizeof(text));
        return value;
}

/* ---- scopes */

#define SCOPE_BYTES_PREFIX "hex:"

static int read_bytes_scope(struct response *response, const char *member, const char *text, struct scope *ret) {
        uint8_t bytes[SCOPE_SIZE_MAX];
        size_t size;

        if (bytes_from_hex(text + strlen(SCOPE_BYTES_PREFIX), bytes, sizeof(bytes), &size) == 0 &&
            scope_set(ret, SCOPE_BYTES, bytes_of(bytes, size)) == 0)
                return 0;
        return admin_refuse_value(response, member, text, "is no scope: behind hex: 1 to 255 bytes in hexadecimal are "
                                  "expected");
}

int admin_read_scope(struct response *response, const char *member, const char *text, struct scope *ret) {
        *ret = (struct scope){ .kind = SCOPE_NONE };
        if (*text == '\0')
                return 0;
        if (strncmp(text, SCOPE_BYTES_PREFIX, strlen(SCOPE_BYTES_PREFIX)) == 0)
                return read_bytes_scope(response, member, text, ret);
        if (strncmp(text, AIF_PREFIX, strlen(AIF_PREFIX)) == 0)
                return aif_parse(bytes_text(text), ret) == 0 ? 0 :
                       admin_refuse_value(response, member, text, "is no scope: aif:OBJECT=PERMISSIONS;... is "
                                          "expected, permissions being methods or numbers with commas between, 255 "
                                          "bytes at most");
        if (scope_set(ret, SCOPE_TEXT, bytes_text(text)) == 0)
                return 0;
        return admin_refuse_value(response, member, text, "is no scope: tokens with spaces between, at most 255 bytes, "
                                  "of printable ASCII but quote and backslash; or hex: and bytes; or aif: and objects");
}

static json_t *aif_scope(const struct scope *scope) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(AIF_TEXT_SIZE_MAX);

        return aif_print(scope, &text) == 0 ? json_stringn((const char *)text.data, text.size) : NULL;
}

json_t *admin_scope(const struct scope *scope) {
        char text[sizeof(SCOPE_BYTES_PREFIX) + 2 * SCOPE_SIZE_MAX] = SCOPE_BYTES_PREFIX;

        if (scope->kind == SCOPE_AIF)
                return aif_scope(scope);
        if (scope->kind != SCOPE_BYTES)
                return json_stringn((const char *)scope->data, scope->kind == SCOPE_TEXT ? scope->size : 0);
        bytes_to_hex(scope_bytes(scope), text + strlen(SCOPE_BYTES_PREFIX), sizeof(text) - strlen(SCOPE_BYTES_PREFIX));
        return json_string(text);
}

bool admin_scope_next(const struct scope *scope, size_t *at, struct scope *ret_token) {
        const uint8_t *start = scope->data + *at, *space;
        struct aif_entry entry;
        size_t size;

        if (scope->kind == SCOPE_NONE || *at >= scope->size)
                return false;
        if (scope->kind == SCOPE_AIF) {
                ret_token->kind = SCOPE_NONE;
                ret_token->size = 0;
                return aif_next(scope, at, &entry) && aif_add(ret_token, entry.toid, entry.tperm) == 0;
        }
        space = scope->kind == SCOPE_TEXT ? memchr(start, ' ', scope->size - *at) : NULL;
        size = space ? (size_t)(space - start) : scope->size - *at;
        *at += size + 1;
        return scope_set(ret_token, scope->kind, bytes_of(start, size)) == 0;
}

/* ---- registered names */

int admin_read_profile(struct response *response, const char *member, const char *name, unsigned *ret) {
        for (unsigned profile = 1; profile < PROFILES_MAX; profile++) {
                const char *known = describe_name(VOCABULARY_PROFILE, profile);

                if (known && strcmp(known, name) == 0) {
                        *ret = profile;
                        return 0;
                }
        }
        return admin_refuse_value(response, member, name,
                                  "is no ACE profile: coap_dtls, coap_oscore and mqtt_tls are");
}

int admin_read_profiles(struct response *response, const struct json_texts *texts, profile_set *ret) {
        profile_set profiles = 0;
        unsigned profile;

        if (texts->n_items == 0) {
                response_why(response, "member \"profiles\": at least one is expected, such as coap_dtls");
                return REFUSE_ADMIN_VALUE;
        }
        for (size_t i = 0; i < texts->n_items; i++) {
                int r = admin_read_profile(response, "profiles", texts->items[i], &profile);

                if (r != 0)
                        return r;
                profiles |= PROFILE_BIT(profile);
        }
        *ret = profiles;
        return 0;
}

json_t *admin_profiles(profile_set profiles) {
        json_t *names = json_array();

        for (unsigned profile = 1; names && profile < PROFILES_MAX; profile++) {
                const char *name = profiles & PROFILE_BIT(profile) ? describe_name(VOCABULARY_PROFILE, profile) : NULL;

                if (name && json_array_append_new(names, json_string(name)) != 0) {
                        json_decref(names);
                        names = NULL;
                }
        }
        return names;
}

int admin_read_aead(struct response *response, const char *member, const char *name, enum aead_alg *ret) {
        enum aead_alg alg = aead_from_name(name);

        if (alg == AEAD_NONE)
                return admin_refuse_value(response, member, name, "is no algorithm that encrypts: AES-CCM-16-64-128, "
                                          "AES-CCM-16-128-128, A128GCM, A256GCM and ChaCha20-Poly1305 are");
        *ret = alg;
        return 0;
}

int admin_read_hkdf(struct response *response, const char *member, const char *name, enum oscore_hkdf *ret) {
        enum oscore_hkdf hkdf = oscore_hkdf_from_name(name);

        if (hkdf == 0)
                return admin_refuse_value(response, member, name, "is no hash of a key derivation: SHA-256 and SHA-512 "
                                          "are");
        *ret = hkdf;
        return 0;
}

/* ---- what a query or a path names */

int admin_read_number(struct response *response, const char *name, struct bytes text, int64_t max, int64_t *ret) {
        int64_t value = text.size > 0 && text.size <= 18 ? 0 : -1;

        for (size_t i = 0; i < text.size && value >= 0; i++)
                value = text.data[i] >= '0' && text.data[i] <= '9' ? value * 10 + text.data[i] - '0' : -1;
        if (value < 0 || value > max) {
                response_why(response, "query parameter \"%s\": a number from 0 to %" PRId64 " is expected", name, max);
                return REFUSE_ADMIN_VALUE;
        }
        *ret = value;
        return 0;
}

int admin_read_id(struct response *response, const char *what, struct bytes segment, int64_t *ret) {
        int64_t id = 0;
        size_t i;

        for (i = 0; i < segment.size && i < 18 && segment.data[i] >= '0' && segment.data[i] <= '9'; i++)
                id = id * 10 + (segment.data[i] - '0');
        if (i == 0 || i != segment.size) {
                response_why(response, "\"%.*s\" is no id of a %s: ids are numbers, as the list shows them",
                             (int)(segment.size < VALUE_TOLD_MAX ? segment.size : VALUE_TOLD_MAX), segment.data, what);
                return REFUSE_ADMIN_UNKNOWN;
        }
        *ret = id;
        return 0;
}

int admin_read_cti(struct response *response, struct bytes text, uint64_t *ret) {
        uint8_t bytes[NUMBER_SIZE_MAX];
        char hex[2 * NUMBER_SIZE_MAX + 1];
        size_t size;

        if (text.size < sizeof(hex) && text.size > 0) {
                memcpy(hex, text.data, text.size);
                hex[text.size] = '\0';
                if (bytes_from_hex(hex, bytes, sizeof(bytes), &size) == 0 &&
                    number_from_bytes(bytes_of(bytes, size), ret) == 0 && *ret <= INT64_MAX)
                        return 0;
        }
        response_why(response, "\"%.*s\" is no cti of ours: 4 to 8 bytes in hexadecimal, as the list shows them",
                     (int)(text.size < VALUE_TOLD_MAX ? text.size : VALUE_TOLD_MAX), text.data);
        return REFUSE_ADMIN_UNKNOWN;
}

json_t *admin_cti(uint64_t number) {
        uint8_t bytes[NUMBER_SIZE_MAX];

        return admin_hex(bytes_of(bytes, number_to_bytes(number, bytes)));
}

static int say_unknown(struct response *response, int r, const char *what, struct bytes name, const char *next) {
        if (r == REFUSE_ADMIN_UNKNOWN)
                response_why(response, "there is no %s \"%.*s\": %s", what,
                             (int)(name.size < VALUE_TOLD_MAX ? name.size : VALUE_TOLD_MAX), name.data, next);
        return r;
}

int admin_client_find(struct store *store, struct bytes name, struct response *response, struct client *ret) {
        return say_unknown(response, store_client_by_name(store, name, ret), "client", name,
                           "acectl client list shows those there are");
}

int admin_server_find(struct store *store, struct bytes name, struct response *response, struct server *ret) {
        return say_unknown(response, store_server_by_name(store, name, ret), "resource server", name,
                           "acectl rs list shows those there are");
}

int admin_audience_find(struct store *store, struct bytes audience, struct response *response, struct server *ret) {
        return say_unknown(response, store_audience_server(store, audience, ret), "audience", audience,
                           "acectl rs list shows which resource servers have");
}

/* ---- lists */

/* 1 to ADMIN_PAGE_MAX in decimal digits. */
static int read_limit(struct bytes text, struct response *response, int64_t *ret) {
        int64_t limit = 0;

        for (size_t i = 0; i < text.size && text.size <= 4; i++) {
                if (text.data[i] < '0' || text.data[i] > '9') {
                        limit = 0;
                        break;
                }
                limit = limit * 10 + (text.data[i] - '0');
        }
        if (limit < 1 || limit > ADMIN_PAGE_MAX) {
                response_why(response, "query parameter \"limit\": 1 to %d is expected", ADMIN_PAGE_MAX);
                return REFUSE_ADMIN_VALUE;
        }
        *ret = limit;
        return 0;
}

int admin_list_begin(struct admin_list *list, const struct request *request, struct response *response,
                     const char *const *names) {
        const char *all[QUERY_NAMES_MAX + 1] = { "after", "limit" };
        struct bytes limit = request_query(request, "limit");
        int r;

        for (size_t n = 2; n < QUERY_NAMES_MAX && *names; n++)
                all[n] = *names++;
        *list = (struct admin_list){ .limit = ADMIN_PAGE_DEFAULT, .after = request_query(request, "after") };
        r = admin_check_queries(request, response, all);
        if (r == 0 && limit.data)
                r = read_limit(limit, response, &list->limit);
        if (r != 0)
                return r;
        list->items = json_array();
        return list->items ? 0 : -ENOMEM;
}

bool admin_list_offer(struct admin_list *list, const char *key) {
        if (list->n_offered == list->limit) {
                list->more = true;
                return false;
        }
        list->n_offered++;
        admin_copy(list->last, sizeof(list->last), key);
        return true;
}

int admin_list_add(struct admin_list *list, json_t *item) {
        return item && json_array_append_new(list->items, item) == 0 ? 0 : -ENOMEM;
}

int admin_list_reply(struct admin_list *list, struct response *response) {
        json_t *page = json_pack("{s:O, s:s?}", "items", list->items, "next", list->more ? list->last : NULL);

        return admin_reply(response, &page);
}

void admin_list_done(struct admin_list *list) {
        json_decref(list->items);
        list->items = NULL;
}
