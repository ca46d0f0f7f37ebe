#pragma once

#include <jansson.h>

#include "domain/server.h"
#include "endpoint/request.h"
#include "format/json.h"

struct aced;
struct store;

/* What admin_*.c share: reading requests, saying what is wrong with them, naming values, lists in pages. */

#define LIFETIME_MAX_S INT64_C(315360000)       /* ten years: more is a typing error */
#define INSTANT_MAX_S INT64_C(253402300799)     /* the end of the year 9999 */
#define ADMIN_PAGE_MAX 1000                     /* items in one answer */
#define ADMIN_PAGE_DEFAULT 100
#define ADMIN_SECRET_ANSWER_MAX 4096            /* room for an answer that has a key inside */

/* A row of a field table: the member of the struct is named as the member of the object. */
#define ADMIN_FIELD(type, member, field_kind, ...)                                                                    \
        { .name = #member, .kind = JSON_FIELD_##field_kind, .offset = offsetof(struct type, member), __VA_ARGS__ }

/*
 * Read the body as one object by the field table; a refusal has said every fault. The document owns what *target
 * borrows.
 */
int admin_read(const struct request *request, struct response *response, const struct json_field *fields,
               size_t n_fields, void *target, struct json_document *ret_document);

/* Refuse query parameters that are not among names (up to NULL), that come twice or without a value. */
int admin_check_queries(const struct request *request, struct response *response, const char *const *names);

/* Print *object as the answer and let go of it; NULL is -ENOMEM. */
int admin_reply(struct response *response, json_t **object);

/* Refuse a value and say why; the value is told as far as it is short. Returns REFUSE_ADMIN_VALUE. */
int admin_refuse_value(struct response *response, const char *member, const char *value, const char *what);

/* member's text must be a name, an audience: 0 or REFUSE_ADMIN_VALUE. */
int admin_check_name(struct response *response, const char *member, const char *value);
int admin_check_audience(struct response *response, const char *member, const char *value);
/* Each is good and none is there twice. */
int admin_check_each(struct response *response, const char *member, const struct json_texts *texts,
                     int (*check)(struct response *response, const char *member, const char *value));

/* Copy text of a checked size with its final zero. */
void admin_copy(char *to, size_t size, const char *text);

/* Hexadecimal of min to max bytes. */
int admin_read_hex(struct response *response, const char *member, const char *hex, size_t min, size_t max, uint8_t *ret,
                   size_t *ret_size);
int admin_read_key(struct response *response, const char *member, const char *hex, size_t min, size_t max,
                   struct secret *ret);
json_t *admin_hex(struct bytes bytes);

/* "read write"; "hex:0102" for a scope of bytes; "aif:/temp=GET" for one of objects (aif_parse()); "" is none. */
int admin_read_scope(struct response *response, const char *member, const char *text, struct scope *ret);
json_t *admin_scope(const struct scope *scope);
/*
 * The token of a text scope, or the object of an AIF scope, at *at, which moves behind it; false at the end. A scope of
 * bytes is one token.
 */
bool admin_scope_next(const struct scope *scope, size_t *at, struct scope *ret_token);

/* Profiles by their registered names. */
int admin_read_profiles(struct response *response, const struct json_texts *texts, profile_set *ret);
json_t *admin_profiles(profile_set profiles);
int admin_read_profile(struct response *response, const char *member, const char *name, unsigned *ret);

/* Algorithms by name: what encrypts, and the hash of OSCORE's key derivation. */
int admin_read_aead(struct response *response, const char *member, const char *name, enum aead_alg *ret);
int admin_read_hkdf(struct response *response, const char *member, const char *name, enum oscore_hkdf *ret);

/* Decimal digits of a query parameter, up to max. */
int admin_read_number(struct response *response, const char *name, struct bytes text, int64_t max, int64_t *ret);

/* A path's decimal id; REFUSE_ADMIN_UNKNOWN when it is none. */
int admin_read_id(struct response *response, const char *what, struct bytes segment, int64_t *ret);
/* A cti as acectl shows it, hexadecimal; REFUSE_ADMIN_UNKNOWN when it is none. */
int admin_read_cti(struct response *response, struct bytes text, uint64_t *ret);
json_t *admin_cti(uint64_t number);

/* The parties of a path's second segment; a refusal has said which name is unknown. */
int admin_client_find(struct store *store, struct bytes name, struct response *response, struct client *ret);
int admin_server_find(struct store *store, struct bytes name, struct response *response, struct server *ret);

/* A server, suspended or not, that has the audience; REFUSE_ADMIN_UNKNOWN has been said. */
int admin_audience_find(struct store *store, struct bytes audience, struct response *response, struct server *ret);

/* The server's own keys without private parts, for their resource and the status; *ret is the caller's. */
int admin_keys_list(struct store *store, int64_t now_s, json_t **ret);

/*
 * A page: {"items":[…],"next":…}. next is what ?after= takes for the page behind, null on the last one. Rows are
 * offered with the key they are ordered by; ask the store for admin_list_ask() of them.
 */
struct admin_list {
        json_t *items;
        int64_t limit, n_offered;
        struct bytes after;         /* as the request says */
        char last[NAME_SIZE_MAX + 1];
        bool more;
};

/* names: query parameters that the resource has beside after and limit, up to NULL. */
int admin_list_begin(struct admin_list *list, const struct request *request, struct response *response,
                     const char *const *names);
static inline int64_t admin_list_ask(const struct admin_list *list) {
        return list->limit + 1;
}
/* Does the row with this key still belong to the page? False: there is more, and the walk may end. */
bool admin_list_offer(struct admin_list *list, const char *key);
/* Takes the item over; NULL is -ENOMEM. */
int admin_list_add(struct admin_list *list, json_t *item);
int admin_list_reply(struct admin_list *list, struct response *response);
void admin_list_done(struct admin_list *list);
