#pragma once

#include "domain/credential.h"
#include "endpoint/admin.h"
#include "store/oscore.h"

/*
 * Security contexts (RFC 8613) as the control socket has them: from the device's side, as what is typed there is typed
 * into a device. Its sender ID is what it sends as kid, our Recipient ID.
 */
struct oscore_ask {
        const char *master_secret_hex, *master_salt_hex, *sender_id_hex, *recipient_id_hex, *id_context_hex;
        const char *alg, *hkdf;
        struct json_bool renews;
        struct json_int sender_number; /* ours that may have been used under this secret elsewhere are below it */
};

/* So many numbers are left at least when one was raised to by hand. */
#define OSCORE_SENDER_NUMBER_MAX (OSCORE_NUMBERS_END - OSCORE_NUMBERS_APART)

/* Rows of a field table for a struct that has it as its member oscore. */
#define OSCORE_FIELD(type, member, field_kind, ...)                                                                   \
        { .name = #member, .kind = JSON_FIELD_##field_kind, .offset = offsetof(struct type, oscore.member),           \
          __VA_ARGS__ }
#define OSCORE_FIELDS(type)                                                                                           \
        OSCORE_FIELD(type, master_secret_hex, TEXT), OSCORE_FIELD(type, master_salt_hex, TEXT),                       \
        OSCORE_FIELD(type, sender_id_hex, TEXT), OSCORE_FIELD(type, recipient_id_hex, TEXT),                          \
        OSCORE_FIELD(type, id_context_hex, TEXT), OSCORE_FIELD(type, alg, TEXT), OSCORE_FIELD(type, hkdf, TEXT),      \
        OSCORE_FIELD(type, renews, BOOL),                                                                             \
        OSCORE_FIELD(type, sender_number, INT, .min = 0, .max = (int64_t)OSCORE_SENDER_NUMBER_MAX)

/* The first of its members that is there; NULL. */
const char *oscore_ask_member(const struct oscore_ask *ask);

/* Members that are there, and what is chosen where they are not: the context, and the Master Secret. */
int oscore_ask_read(struct store *store, const struct oscore_ask *ask, struct response *response,
                    struct oscore_parameters *ret, struct secret *ret_secret);

/* What a list shows, without the Master Secret. */
json_t *oscore_json(const struct oscore_parameters *parameters);
/* Set record and record_hex, what the device has to know (oscore_record.h), in an object. 0, -ENOMEM, -EOVERFLOW. */
int oscore_record_set(json_t *object, const struct oscore_parameters *parameters, const struct secret *secret);

/* Rows of an export (admin_bulk.h): has it members of a context? */
bool oscore_row_is(const json_t *row);
/*
 * Does it mean the context that a list shows? By its sender ID and ID Context; one without the former means any with
 * its ID Context, or any.
 */
bool oscore_row_means(const json_t *row, const json_t *item);

/* Why store_credential_add() refused a context. */
void oscore_say_refusal(struct response *response, int r, bool same_secret);
